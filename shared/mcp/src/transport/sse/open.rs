//! Opens the event stream of the HTTP+SSE transport and reads the address that takes messages.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use toolfleet_egress::{HttpVersions, ResponseBody, sanitize_text_to, url_without_secrets};
use url::Url;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::frame::readable;
use crate::transport::channels::channel::{Channel, Opened, Outlet, Wanted};
use crate::transport::channels::lifetime::watch;
use crate::transport::http::cookies::Cookies;
use crate::transport::http::requests::Transport;
use crate::transport::http::sse::{Event, Parser};
use crate::transport::request_error::RequestError;
use crate::transport::sse::hear::{Stream, hear};
use crate::transport::sse::posts::{Address, MOST_ASIDE, Posts};

/// How many events may come before the one that names the address.
const MOST_EVENTS: usize = 16;

/// Opens the stream of a server.
pub(crate) async fn open(
    transport: &Transport,
    wanted: &Wanted,
    serial: u64,
    (idle, max_bytes): (Duration, u64),
) -> Result<Opened, RequestError> {
    let endpoint = &wanted.endpoint;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let asked = transport.get_to_stay(endpoint, &endpoint.url, headers, HttpVersions::Any);
    let (response, base) = asked.await?;
    if !response.status().is_success() {
        return Err(RequestError::of_response(response, 0).await);
    }
    let media =
        response.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    if !media.trim_start().to_ascii_lowercase().starts_with("text/event-stream") {
        let found = if media.is_empty() { "no content type".to_owned() } else { sanitize_text_to(media, 60) };
        return Err(wrong(format!(
            "a GET is answered with {found}, not with an event stream; check `url`, or leave out `transport: sse` where it is a \
             streamable HTTP address"
        )));
    }
    let cookies = Cookies::default();
    cookies.take(&base, response.headers());
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let body = ResponseBody::new(response).map_err(Fault::from)?;
    let mut stream = Stream { body, parser: Parser::new(most) };
    let address = address_in(&mut stream, &base).await?;
    let posts = Address {
        transport: transport.aside(),
        endpoint: Endpoint { url: address, ..endpoint.clone() },
        cookies,
        aside: Arc::new(Semaphore::new(MOST_ASIDE)),
    };
    let outlet = Outlet::Posts(Box::new(Posts(Arc::new(posts))));
    let channel = Channel::new(wanted.key.clone(), serial, endpoint.clone(), outlet);
    let hearing = tokio::spawn(hear(Arc::clone(&channel), stream, max_bytes));
    let watch = Box::pin(watch(Arc::clone(&channel), idle, hearing, None));
    Ok(Opened { channel, watch })
}

fn wrong(detail: String) -> RequestError {
    Fault::WrongTransport { detail }.into()
}

/// The address that the `endpoint` event names.
async fn address_in(stream: &mut Stream, base: &Url) -> Result<Url, RequestError> {
    for _ in 0..MOST_EVENTS {
        match stream.next().await {
            Ok(Event::Endpoint(named)) => return same_origin(base, readable(&named).trim()),
            Ok(Event::Whole(_) | Event::TooLong(_)) => {}
            Err(how) => return Err(Fault::AnswerLost { detail: how }.into()),
        }
    }
    Err(wrong(
        "its event stream does not begin with the `endpoint` event of MCP 2024-11-05; check `url`".to_owned(),
    ))
}

fn same_origin(base: &Url, named: &str) -> Result<Url, RequestError> {
    let address = base.join(named).map_err(|_| {
        wrong(format!("its `endpoint` event names no address: {}", sanitize_text_to(named, 100)))
    })?;
    if address.origin() != base.origin() {
        return Err(wrong(format!(
            "its `endpoint` event names {}, and messages go to the origin of the stream ({}) alone; correct the public address that the \
             server is configured with",
            url_without_secrets(&address),
            base.origin().ascii_serialization()
        )));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_origin_of_the_stream_alone() {
        let base: Url = "https://h.example/a/sse?key=1".parse().unwrap();
        for (named, address) in [
            ("/messages/?session_id=7", "https://h.example/messages/?session_id=7"),
            ("message?s=1", "https://h.example/a/message?s=1"),
            ("https://h.example:443/m", "https://h.example/m"),
        ] {
            assert_eq!(same_origin(&base, named).unwrap().as_str(), address);
        }
        for other in
            ["http://h.example/m", "https://h.example:8443/m", "//evil.example/m", "https://evil.example/m"]
        {
            let error = same_origin(&base, other).unwrap_err();
            assert!(
                error.fault.to_string().contains("origin of the stream (https://h.example)"),
                "{}",
                error.fault
            );
            assert!(error.proves_nothing_ran());
        }
        assert!(same_origin(&base, "http://[").is_err());
    }
}
