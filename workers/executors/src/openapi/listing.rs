//! Lists the operations of a document as an MCP server lists its tools, in pages.
//!
//! An operation is written with all schemas that it refers to, so a list can be many times as large as its document: only a page of it is
//! written, on a blocking thread.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use toolfleet_catalog::Interface;

use crate::blocking::run_blocking;

/// A page ends behind the operation with which it has this many bytes.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// How many characters of a digest tell the lists of two documents apart.
const MARK_CHARS: usize = 8;

/// Where the page of that cursor begins; none where it is no cursor of this document's list.
pub(super) fn begin(interface: &Interface, cursor: Option<&str>) -> Option<usize> {
    let Some(cursor) = cursor else { return Some(0) };
    let (mark, place) = cursor.split_once('.')?;
    place.parse().ok().filter(|_| mark == mark_of(interface))
}

fn mark_of(interface: &Interface) -> &str {
    interface.digest().short(MARK_CHARS)
}

/// The page that begins there; none where it takes longer than `within`.
pub(super) async fn listed(
    interface: &Arc<Interface>,
    from: usize,
    within: Duration,
) -> Option<Box<RawValue>> {
    let interface = Arc::clone(interface);
    run_blocking(within, move || page(&interface, from, PAGE_BYTES)).await
}

fn page(interface: &Interface, from: usize, most_bytes: usize) -> Box<RawValue> {
    let (mut tools, mut bytes, mut end) = (Vec::new(), 0, from);
    for operation in interface.document.operations.iter().skip(from) {
        if bytes >= most_bytes {
            break;
        }
        let entry = to_raw_value(&operation.listed()).unwrap_or_default();
        bytes += entry.get().len();
        end += 1;
        tools.push(entry);
    }
    let next = (end < interface.document.operations.len()).then(|| format!("{}.{end}", mark_of(interface)));
    to_raw_value(&Page { tools, next }).unwrap_or_default()
}

#[derive(Serialize)]
struct Page {
    tools: Vec<Box<RawValue>>,
    #[serde(rename = "nextCursor", skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use toolfleet_catalog::Catalog;
    use toolfleet_core::ids::ServerId;

    use super::*;

    fn interface(count: usize) -> Arc<Interface> {
        let paths = (0..count).map(|n| (format!("/{n}"), json!({"get": {"operationId": format!("op{n}")}})));
        let paths: serde_json::Map<_, _> = paths.collect();
        let document = json!({"openapi": "3.0.3", "servers": [{"url": "https://h.example"}], "paths": paths});
        let catalog = json!({"servers": [{"id": "api", "openapi": document, "discover": true}], "tenants": {"queue": ["*"]}});
        let catalog = Catalog::parse(&catalog.to_string()).unwrap();
        let server = catalog.server(&ServerId::parse("api").unwrap()).unwrap();
        Arc::clone(&server.openapi().unwrap().interface)
    }

    #[test]
    fn the_pages_of_a_list_have_each_operation_once() {
        let interface = interface(7);
        let one = to_raw_value(&interface.document.operations[0].listed()).unwrap().get().len();
        let (mut names, mut sizes, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let from = begin(&interface, cursor.as_deref()).unwrap();
            let page: Value = serde_json::from_str(page(&interface, from, 2 * one).get()).unwrap();
            let tools = page["tools"].as_array().unwrap();
            names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            sizes.push(tools.len());
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((names, sizes), ((0..7).map(|n| format!("op{n}")).collect(), vec![2, 2, 2, 1]));
    }

    #[test]
    fn a_cursor_of_another_document_is_none() {
        let (one, other) = (interface(7), interface(8));
        let page: Value = serde_json::from_str(page(&one, 0, 1).get()).unwrap();
        let cursor = page["nextCursor"].as_str().unwrap();
        assert_eq!((begin(&one, Some(cursor)), begin(&other, Some(cursor))), (Some(1), None));
        for wrong in ["", "1", ".", "x.1", &format!("{cursor}x")] {
            assert_eq!(begin(&one, Some(wrong)), None, "{wrong}");
        }
    }
}
