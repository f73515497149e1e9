//! HTTP header names, in lower case as HTTP/2 requires.

/// The protocol version of the request (since 2025-06-18).
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The session that `initialize` opened (2025-03-26 to 2025-11-25).
pub const SESSION_ID: &str = "mcp-session-id";
/// The JSON-RPC method of the body (2026-07-28).
pub const METHOD: &str = "mcp-method";
/// `params.name`, `params.uri` or `params.taskId` of the body (2026-07-28).
pub const NAME: &str = "mcp-name";
/// The start of the headers that repeat arguments whose schema has `x-mcp-header` (2026-07-28).
pub const PARAM_PREFIX: &str = "mcp-param-";
/// The event after which an event stream is resumed.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The start of a header value that is text in base64, because the text is not printable ASCII (2026-07-28).
pub const BASE64_PREFIX: &str = "=?base64?";
