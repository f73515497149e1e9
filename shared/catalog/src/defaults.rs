//! What holds for a tool whose registration does not say otherwise.

/// How long one attempt may take unless the tool or its server says otherwise, in milliseconds.
pub const DEFAULT_ATTEMPT_MS: u64 = 30_000;

/// How many attempts a call has unless its tool says otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
