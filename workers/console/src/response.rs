//! Responses: a page, the way to another address.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// A page.
pub(crate) fn html(status: StatusCode, page: String) -> Response {
    with((status, page).into_response(), header::CONTENT_TYPE, "text/html; charset=utf-8")
}

/// The way to another address, which is read with GET.
pub(crate) fn see_other(place: &str) -> Response {
    with(StatusCode::SEE_OTHER.into_response(), header::LOCATION, place)
}

/// The response with that header.
pub(crate) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
