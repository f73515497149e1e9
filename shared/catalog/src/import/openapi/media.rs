//! Media types of bodies: which are JSON or XML, and which are preferred.

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// RFC 6902.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MULTIPART: &str = "multipart/form-data";

/// The media type without its parameters, in small letters.
pub(super) fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a value of this media type is written as JSON. YAML is a superset of JSON.
pub(super) fn is_json(media: &str) -> bool {
    let media = essence(media);
    media == "application/json"
        || media == "text/json"
        || media.ends_with("+json")
        || media.ends_with("/yaml")
        || media.ends_with("/x-yaml")
        || media.ends_with("+yaml")
}

pub(super) fn is_xml(media: &str) -> bool {
    let media = essence(media);
    media.ends_with("/xml") || media.ends_with("+xml")
}

/// Which media types are preferred: what a model writes best comes first.
pub(super) fn rank(media: &str) -> u8 {
    let media = essence(media);
    match media.as_str() {
        "application/json" => 0,
        // A list of changes; a model writes the changed members more easily.
        JSON_PATCH => 2,
        _ if is_json(&media) && !media.ends_with("yaml") => 1,
        "*/*" | "application/*" => 3,
        FORM => 4,
        MULTIPART => 5,
        _ if media.starts_with("text/") => 6,
        "application/octet-stream" => 7,
        _ => 8,
    }
}
