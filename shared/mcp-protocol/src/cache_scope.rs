//! Values of `cacheScope` in results that may be cached (2026-07-28).

/// The result is the same for every caller.
pub const PUBLIC: &str = "public";
/// The result is for this caller only.
pub const PRIVATE: &str = "private";
