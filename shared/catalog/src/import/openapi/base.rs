//! The address of an interface: `servers` with variables and relative addresses, or `schemes`, `host` and `basePath` of 2.0.

use std::borrow::Cow;

use serde_json::{Map, Value};
use url::Url;

use super::document::{Raw, ReadOptions, Version, text, texts};
use super::reason::{Reason, shown};

/// The longest address, in bytes.
const MOST_BYTES: usize = 8 * 1024;

/// The address that the document names for all its operations, unless the catalog gives one.
pub(super) fn of_document(raw: &Raw<'_>, options: &ReadOptions) -> Result<Url, Reason> {
    if let Some(url) = &options.url {
        return Ok(url.clone());
    }
    let Some(root) = raw.root.as_object() else {
        return Err(Reason::invalid("is no object"));
    };
    match raw.version {
        Version::Two => of_two(root, options),
        Version::Three | Version::ThreeOne => match first(root) {
            Some(server) => of_server(server, options),
            // Without `servers` the address is `/` (OpenAPI 3.0.4, section 4.1).
            None => relative("/", options),
        },
    }
}

/// The address that a path or an operation names for itself.
pub(super) fn own(
    raw: &Raw<'_>,
    fields: &Map<String, Value>,
    options: &ReadOptions,
) -> Option<Result<Url, Reason>> {
    let server = first(fields)?;
    let counted = raw.work.count_with(&[server.get("url").and_then(Value::as_str).unwrap_or_default()]);
    Some(counted.and_then(|()| of_server(server, options)))
}

fn first(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    fields.get("servers")?.as_array()?.first()?.as_object()
}

fn of_server(server: &Map<String, Value>, options: &ReadOptions) -> Result<Url, Reason> {
    let address = filled_in(text(server, "url").unwrap_or("/"), server.get("variables"))?;
    match Url::parse(&address) {
        Ok(url) => checked(url),
        Err(url::ParseError::RelativeUrlWithoutBase) => relative(&address, options),
        Err(error) => Err(Reason::invalid(format!("has the address {} ({error}); {GIVE}", shown(&address)))),
    }
}

/// The address of that template. Each variable is filled in once: what its value contains is a part of the address, and no variable again.
fn filled_in(template: &str, variables: Option<&Value>) -> Result<String, Reason> {
    let (mut address, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{').filter(|_| template.len() <= MOST_BYTES) {
        let (name, behind) = after.split_once('}').ok_or_else(|| without_value(template))?;
        let variable = variables.and_then(|variables| variables.get(name));
        let value = variable.and_then(value_of).ok_or_else(|| without_value(template))?;
        if address.len() + before.len() + value.len() > MOST_BYTES {
            return Err(too_long());
        }
        address.push_str(before);
        address.push_str(&value);
        rest = behind;
    }
    if address.len() + rest.len() > MOST_BYTES {
        return Err(too_long());
    }
    address.push_str(rest);
    if address.contains('{') {
        return Err(without_value(&address));
    }
    Ok(address)
}

fn too_long() -> Reason {
    Reason::invalid(format!("has an address of more than {} KiB; {GIVE}", MOST_BYTES / 1024))
}

fn without_value(address: &str) -> Reason {
    Reason::invalid(format!("has a variable without a value in its address {}; {GIVE}", shown(address)))
}

/// The value that a variable has unless a client chooses another one.
fn value_of(variable: &Value) -> Option<Cow<'_, str>> {
    let first = || variable.get("enum").and_then(|all| all.get(0));
    match variable.get("default").or_else(first)? {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What to do about an address that cannot be used.
const GIVE: &str = "give the interface's address as `url`";

fn relative(address: &str, options: &ReadOptions) -> Result<Url, Reason> {
    // Relative to where the document was read; of one in a file, or that describes an interface elsewhere, to the catalog's address.
    let below = match (&options.source, &options.url) {
        (Some(source), Some(url)) if source.origin() != url.origin() => Some(url),
        (source, url) => source.as_ref().or(url.as_ref()),
    };
    match below.and_then(|below| below.join(address).ok()) {
        Some(url) => checked(url),
        None => {
            let text = format!("says only {} of where the interface is; {GIVE}", shown(address));
            Err(Reason::invalid(text))
        }
    }
}

fn checked(mut url: Url) -> Result<Url, Reason> {
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(Reason::invalid(format!("has an address that is neither http nor https; {GIVE}")));
    }
    url.set_query(None);
    url.set_fragment(None);
    if url.as_str().len() > MOST_BYTES { Err(too_long()) } else { Ok(url) }
}

fn of_two(root: &Map<String, Value>, options: &ReadOptions) -> Result<Url, Reason> {
    let path = text(root, "basePath").unwrap_or("/");
    let Some(host) = text(root, "host") else {
        return relative(path, options);
    };
    let schemes = texts(root.get("schemes"));
    let from_source = || options.source.as_ref().map_or("https", Url::scheme).to_owned();
    let scheme = ["https", "http"].into_iter().find(|known| schemes.iter().any(|scheme| scheme == known));
    let scheme = scheme.map_or_else(from_source, str::to_owned);
    let address = format!("{scheme}://{host}/{}", path.trim_start_matches('/'));
    match Url::parse(&address) {
        Ok(url) => checked(url),
        Err(error) => Err(Reason::invalid(format!("has the address {} ({error}); {GIVE}", shown(&address)))),
    }
}
