//! Pages of a list. A cursor is the name of the list and the last entry of the page before, so a list that changes in between loses no
//! other entry. It says where to go on, and opens nothing: each page is made for its own caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{Members, Request, RpcError, raw};

/// A page that has more bytes than this ends, after one entry at least.
const MAX_BYTES: usize = 1_048_576;

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    cursor: Option<String>,
}

/// The entry behind which the page begins that a request asks for; none for the first page.
pub(crate) fn after(request: &Request) -> Result<Option<String>, RpcError> {
    let Some(cursor) = request.inbound.params::<Params>()?.cursor else { return Ok(None) };
    let found = URL_SAFE_NO_PAD.decode(&cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name = found
        .as_deref()
        .and_then(|text| text.strip_prefix(request.inbound.method.as_str())?.strip_prefix('\n'));
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(RpcError::invalid_params("`cursor` is none of this list")),
    }
}

/// The page of these entries, which are in the order of their names and behind the page before; with the cursor of the next one.
pub(crate) fn page<'a>(
    request: &Request,
    rest: impl Iterator<Item = (&'a str, Box<RawValue>)>,
    most: usize,
) -> (Vec<Box<RawValue>>, Members) {
    let mut page: Vec<(&str, Box<RawValue>)> = Vec::new();
    let (mut bytes, mut members) = (0, Members::new());
    for (name, entry) in rest {
        bytes += entry.get().len();
        let is_full = page.len() >= most || (bytes > MAX_BYTES && !page.is_empty());
        if let Some((last, _)) = page.last().filter(|_| is_full) {
            let cursor = format!("{}\n{last}", request.inbound.method);
            members.insert("nextCursor".to_owned(), raw(&URL_SAFE_NO_PAD.encode(cursor)));
            break;
        }
        page.push((name, entry));
    }
    (page.into_iter().map(|(_, entry)| entry).collect(), members)
}
