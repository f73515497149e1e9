//! The stylesheet and the icon, built into the program. Their addresses have their digest, so that browsers keep them until they change.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

pub(crate) const STYLE: &str = include_str!("../assets/console.css");
const ICON: &str = include_str!("../assets/icon.svg");

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| path("console", STYLE, "css"));
static ICON_PATH: LazyLock<String> = LazyLock::new(|| path("icon", ICON, "svg"));

fn path(name: &str, content: &str, extension: &str) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("/assets/{name}-{}.{extension}", digest.get(..16).unwrap_or_default())
}

/// The address of the stylesheet.
pub(crate) fn style() -> &'static str {
    &STYLE_PATH
}

/// The address of the icon.
pub(crate) fn icon() -> &'static str {
    &ICON_PATH
}

/// The asset at that path.
pub(crate) fn at(path: &str) -> Option<Response> {
    let (content, kind) = match path {
        path if path == style() => (STYLE, "text/css; charset=utf-8"),
        path if path == icon() => (ICON, "image/svg+xml"),
        _ => return None,
    };
    let mut response = content.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    Some(response)
}
