//! What the scripted server speaks, what its tools answer, and what it recorded.

use serde_json::Value;

/// Which generation of the protocol the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolRevision {
    /// 2026-07-28 alone.
    Modern,
    /// Sessions, negotiated to 2025-11-25 or what the client asks for among the older ones.
    Legacy,
    /// Sessions, and whatever the client asks, this version.
    LegacyAt(&'static str),
    /// Both, told apart by the protocol version header.
    Both,
}

/// What a tool says.
#[derive(Debug, Clone)]
pub enum ToolAnswer {
    /// The `result` member.
    Result(Value),
    /// The `result` member, byte for byte.
    Raw(String),
    /// A JSON-RPC error.
    Error {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
    },
}

impl From<Value> for ToolAnswer {
    fn from(value: Value) -> Self {
        Self::Result(value)
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The HTTP method.
    pub http_method: String,
    /// The path with its query.
    pub path: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
    /// The body as JSON, or null.
    pub body: Value,
    /// The certificate that the client showed, as DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Recorded {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The JSON-RPC method, or the HTTP method where the body has none.
    pub fn method(&self) -> &str {
        self.body.get("method").and_then(Value::as_str).unwrap_or(&self.http_method)
    }
}
