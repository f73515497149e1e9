//! Writes `multipart/form-data` (RFC 7578). The boundary is made of the parts, so equal parts are equal bytes.

use toolfleet_core::digest::sha256;

/// How many characters of the digest the boundary has.
const MARK_CHARS: usize = 32;

/// One part.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// The value of `Content-Type`, and the body.
pub(super) fn write(parts: &[Part]) -> (String, Vec<u8>) {
    let mut digested = Vec::new();
    for part in parts {
        digested.extend_from_slice(head(part).as_bytes());
        digested.extend_from_slice(&part.bytes);
    }
    let mark: String = sha256(&digested).chars().take(MARK_CHARS).collect();
    let mut boundary = format!("toolfleet-{mark}");
    let holds = |boundary: &str| digested.windows(boundary.len()).any(|window| window == boundary.as_bytes());
    while holds(&boundary) {
        boundary.push('-');
    }
    let mut body = Vec::with_capacity(digested.len());
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\n{}", head(part)).as_bytes());
        body.extend_from_slice(&part.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn head(part: &Part) -> String {
    let mut head = format!("Content-Disposition: form-data; name=\"{}\"", quoted(&part.name));
    if let Some(filename) = &part.filename {
        head.push_str(&format!("; filename=\"{}\"", quoted(filename)));
    }
    if let Some(content_type) = &part.content_type {
        let plain: String = content_type.chars().filter(|c| !c.is_control()).collect();
        head.push_str(&format!("\r\nContent-Type: {plain}"));
    }
    head.push_str("\r\n\r\n");
    head
}

/// WHATWG HTML, "multipart/form-data encoding algorithm": a quote and line ends are percent-encoded.
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
