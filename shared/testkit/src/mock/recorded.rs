//! Requests as the scripted server received them.

use serde_json::Value;

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
