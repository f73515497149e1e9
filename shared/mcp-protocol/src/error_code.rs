//! JSON-RPC error codes: those of JSON-RPC 2.0, of MCP, and those that servers use by custom.

/// The body is not JSON (JSON-RPC 2.0).
pub const PARSE_ERROR: i64 = -32700;
/// The message is not a request (JSON-RPC 2.0).
pub const INVALID_REQUEST: i64 = -32600;
/// The server does not know the method (JSON-RPC 2.0).
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are wrong, or the tool is unknown (JSON-RPC 2.0, MCP).
pub const INVALID_PARAMS: i64 = -32602;
/// The server failed (JSON-RPC 2.0).
pub const INTERNAL_ERROR: i64 = -32603;
/// A request without a session, by custom of the reference servers.
pub const NO_SESSION: i64 = -32000;
/// A request with a session that the server does not know, by custom of the reference servers.
pub const SESSION_NOT_FOUND: i64 = -32001;
/// The server has no such resource (until 2025-11-25; since then `INVALID_PARAMS`).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// A header contradicts the body (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The request needs a capability that the client did not declare (2026-07-28).
pub const MISSING_CAPABILITY: i64 = -32021;
/// The server does not speak the version of the request (2026-07-28).
pub const UNSUPPORTED_VERSION: i64 = -32022;
