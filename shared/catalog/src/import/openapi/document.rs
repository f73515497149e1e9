//! A document: its text, its version, its references, and what is read of it.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value};
use url::Url;

use super::filter::Filter;
use super::given::Given;
use super::model::Operation;
use super::reason::{Reason, shown};
use super::work::Work;

/// How many references may lead from one to the next.
const MOST_HOPS: usize = 32;

/// What the catalog says beside the document.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The address of the interface, in the place of the document's.
    pub url: Option<Url>,
    /// Where the document was read, if at an address.
    pub source: Option<Url>,
    /// What its place is called: a path, an address, an object of S3. A reference may begin with its last part.
    pub place: Option<String>,
    /// Which operations are wanted.
    pub filter: Filter,
    /// Whether the document is somebody else's, who may take operations away: what `include` names and is not there is no error.
    pub is_theirs: bool,
    /// What credentials there are. Without it, no credential is asked for.
    pub given: Option<Given>,
}

/// A document that was read.
#[derive(Debug)]
pub struct Document {
    /// What it calls the interface.
    pub title: Option<String>,
    /// What it says of it.
    pub description: Option<String>,
    /// The version of OpenAPI that it is written in.
    pub version: String,
    /// The address of the interface.
    pub url: Url,
    /// The operations that can be called, in the document's order.
    pub operations: Vec<Operation>,
    /// The others, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// What `include` names and the document does not have, where that is no error.
    pub missing: Vec<String>,
    /// What is read otherwise than the document may mean.
    pub remarks: Vec<String>,
}

/// An operation that is no tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its method, as in `GET`.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its `operationId`.
    pub id: Option<String>,
    /// Why it is left out.
    pub reason: Reason,
}

/// The version of a document as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 2.0.
    Two,
    /// 3.0.
    Three,
    /// 3.1 and 3.2, whose schemas are JSON Schema 2020-12.
    ThreeOne,
}

/// A document before anything of it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) root: &'a Value,
    pub(super) version: Version,
    /// The name of its file.
    pub(super) file: Option<&'a str>,
    /// What may still be done for it.
    pub(super) work: &'a Work,
}

impl<'a> Raw<'a> {
    pub(super) fn of(root: &'a Value, options: &'a ReadOptions, work: &'a Work) -> Result<Self, Reason> {
        let named = |field: &str| match root.get(field) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let version = match (named("swagger"), named("openapi")) {
            (Some(two), _) if two == "2.0" || two == "2" => Version::Two,
            (None, Some(three)) if three == "3" || three.starts_with("3.0") => Version::Three,
            (None, Some(three)) if three.starts_with("3.1") || three.starts_with("3.2") => Version::ThreeOne,
            (Some(other), _) | (None, Some(other)) => {
                let text = format!("is OpenAPI {}; read are 2.0, 3.0, 3.1 and 3.2", shown(&other));
                return Err(Reason::invalid(text));
            }
            (None, None) => {
                let text = "is no OpenAPI document: neither `openapi` nor `swagger` says its version";
                return Err(Reason::invalid(text));
            }
        };
        Ok(Self { root, version, file: options.place.as_deref().map(file_name), work })
    }

    /// The version that the document names.
    pub(super) fn version_text(&self) -> String {
        let named = self.root.get("openapi").or_else(|| self.root.get("swagger"));
        named.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default()
    }

    /// The reference without the name of the document's own file, which some tools write before each `#`.
    pub(super) fn local<'r>(&self, reference: &'r str) -> &'r str {
        let (file, fragment) = match reference.find('#') {
            Some(at) => reference.split_at(at),
            None => (reference, "#"),
        };
        let file = percent_decoded(file.trim_start_matches("./"));
        match self.file {
            Some(own) if !own.is_empty() && (file == own || file == percent_decoded(own)) => fragment,
            Some(_) | None => reference,
        }
    }

    /// What a local reference points to.
    pub(super) fn target(&self, reference: &str) -> Result<&'a Value, Reason> {
        self.work.count_with(&[reference])?;
        let Some(pointer) = self.local(reference).strip_prefix('#') else {
            return Err(Reason::external(reference));
        };
        let decoded = percent_decoded(pointer);
        let found = if decoded.is_empty() || decoded.starts_with('/') {
            self.root.pointer(&decoded)
        } else {
            let text = format!(
                "refers to the anchor {}, which is not looked for; write a path (`#/..`)",
                shown(reference)
            );
            return Err(Reason::new("unsupported_schema", text));
        };
        found.ok_or_else(|| Reason::broken(reference))
    }

    /// The object itself, or what its `$ref` points to in the end.
    pub(super) fn resolved(&self, value: &'a Value) -> Result<&'a Map<String, Value>, Reason> {
        self.work.count(1)?;
        let mut at = value;
        for _ in 0..MOST_HOPS {
            match at.get("$ref") {
                Some(Value::String(reference)) => at = self.target(reference)?,
                _ => {
                    return at
                        .as_object()
                        .ok_or_else(|| Reason::invalid("has something else in the place of an object"));
                }
            }
        }
        Err(Reason::invalid("has a reference that leads back to itself"))
    }
}

/// The last part of a place, without the query of an address.
fn file_name(place: &str) -> &str {
    let path = match Url::parse(place) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            place.split(['?', '#']).next().unwrap_or(place)
        }
        Ok(_) | Err(_) => place,
    };
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The schemas that a search has met, by where they stand: lists of references to lists of references are searched once.
pub(super) type SeenSchemas = HashSet<*const Map<String, Value>>;

/// Whether a search meets the schema for the first time.
pub(super) fn is_new(fields: &Map<String, Value>, seen: &mut SeenSchemas) -> bool {
    seen.insert(std::ptr::from_ref(fields))
}

/// A text field, unless it is empty.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// Whether a field is true.
pub(super) fn flag(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// The texts of a list.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    let mut seen = HashSet::new();
    items.filter_map(Value::as_str).filter(|text| seen.insert(*text)).map(str::to_owned).collect()
}

/// A JSON pointer in a fragment may be percent-encoded (RFC 6901, section 6).
fn percent_decoded(pointer: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(pointer).decode_utf8_lossy()
}
