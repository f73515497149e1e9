//! The parameters of an operation: those of its path and its own, with the style in which each is written.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::document::{Raw, Version, flag, text};
use super::given::Given;
use super::media::is_json;
use super::model::{Encoding, Location, Parameter, ParameterForm, Style};
use super::reason::{Reason, shown};
use super::schemas::{Bytes, References, Schemas, missing};

/// Headers that a parameter never sets: OpenAPI has them elsewhere, or the connection does.
const NOT_OURS: [&str; 12] = [
    "accept",
    "content-type",
    "authorization",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "proxy-authorization",
    "expect",
];

/// A parameter with the schema of its argument.
pub(super) struct Described {
    pub(super) parameter: Parameter,
    pub(super) schema: Value,
}

/// A parameter as the document has it.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a str,
    pub(super) fields: &'a Map<String, Value>,
}

/// The parameters of a path item and of its operation; the operation's own replace those with the same name and place.
pub(super) fn written<'a>(
    raw: &Raw<'a>,
    path_item: &'a Map<String, Value>,
    operation: &'a Map<String, Value>,
) -> Result<Vec<Written<'a>>, Reason> {
    let mut all: Vec<Option<Written<'a>>> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for list in [path_item.get("parameters"), operation.get("parameters")] {
        for value in list.and_then(Value::as_array).into_iter().flatten() {
            let fields = raw.resolved(value)?;
            let (Some(name), Some(place)) = (fields.get("name").and_then(Value::as_str), text(fields, "in"))
            else {
                return Err(Reason::invalid("has a parameter without `name` or `in`"));
            };
            raw.work.count_with(&[name, place])?;
            let replaced = places.insert((name, place), all.len()).and_then(|at| all.get_mut(at));
            if let Some(replaced) = replaced {
                *replaced = None;
            }
            all.push(Some(Written { name, place, fields }));
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// The parameters that stand in path, query, headers and cookies, without those that the catalog gives itself.
pub(super) fn read<'a>(
    raw: &Raw<'a>,
    written: &[Written<'a>],
    schemas: &mut Schemas<'a>,
    refers_to: &mut References,
    given: &Given,
) -> Result<Vec<Described>, Reason> {
    let mut found = Vec::new();
    for one in written {
        let location = match one.place {
            "path" => Location::Path,
            "query" => Location::Query,
            "header" => Location::Header,
            "cookie" => Location::Cookie,
            "body" | "formData" if raw.version == Version::Two => continue,
            other => {
                let text = format!("has a parameter in {}, which is not written here", shown(other));
                return Err(Reason::new("unsupported_parameter", text));
            }
        };
        // The catalog's own cookie replaces the header as a whole.
        if location == Location::Cookie && given.headers.contains("cookie") {
            continue;
        }
        let lower = one.name.to_ascii_lowercase();
        let is_given = match location {
            Location::Header => NOT_OURS.contains(&lower.as_str()) || given.headers.contains(&lower),
            Location::Query => given.query.contains(one.name),
            Location::Path | Location::Cookie => false,
        };
        if is_given {
            continue;
        }
        found.push(described(raw, *one, location, schemas, refers_to)?);
    }
    found.sort_by_key(|one| one.parameter.location);
    Ok(found)
}

fn described<'a>(
    raw: &Raw<'a>,
    written: Written<'a>,
    location: Location,
    schemas: &mut Schemas<'a>,
    refers_to: &mut References,
) -> Result<Described, Reason> {
    let Written { name, fields, .. } = written;
    let (form, schema) = match (raw.version, fields.get("content")) {
        (Version::Two, _) => (two(name, fields, location)?, Cow::Owned(Value::Object(of_two(raw, fields)?))),
        (_, Some(content)) => content_of(name, content)?,
        (_, None) => {
            let schema = fields.get("schema").ok_or_else(|| missing(name))?;
            (ParameterForm::Styled(styled(name, fields, location)?), Cow::Borrowed(schema))
        }
    };
    let mut schema = schemas.convert(&schema, Bytes::AsWritten, refers_to)?;
    describe(raw, &mut schema, fields)?;
    let required = flag(fields, "required") || location == Location::Path;
    let (argument, name) = (name.to_owned(), name.to_owned());
    Ok(Described { parameter: Parameter { argument, name, location, required, form }, schema })
}

/// Adds the description of a parameter or body to its schema.
pub(super) fn describe(raw: &Raw<'_>, schema: &mut Value, fields: &Map<String, Value>) -> Result<(), Reason> {
    if let (Some(text), Some(members)) = (text(fields, "description"), schema.as_object_mut()) {
        raw.work.count_with(&[text])?;
        members.entry("description").or_insert_with(|| Value::from(text));
    }
    Ok(())
}

/// A parameter whose value is a text of a media type.
fn content_of<'v>(name: &str, content: &'v Value) -> Result<(ParameterForm, Cow<'v, Value>), Reason> {
    let first = content.as_object().and_then(|content| content.iter().next());
    let Some((media, described)) = first else {
        return Err(missing(name));
    };
    let json = is_json(media);
    if !json && !media.starts_with("text/") {
        let text = format!("has the parameter {} in the media type {}", shown(name), shown(media));
        return Err(Reason::new("unsupported_parameter", text));
    }
    let schema = described.get("schema").map_or(Cow::Owned(Value::Bool(true)), Cow::Borrowed);
    Ok((ParameterForm::Content { json }, schema))
}

fn styled(name: &str, fields: &Map<String, Value>, location: Location) -> Result<Encoding, Reason> {
    let word = text(fields, "style");
    let style = match (location, word) {
        (Location::Path | Location::Header, None | Some("simple")) => Style::Simple,
        (Location::Path, Some("label")) => Style::Label,
        (Location::Path, Some("matrix")) => Style::Matrix,
        (Location::Query | Location::Cookie, None | Some("form")) => Style::Form,
        (Location::Query, Some(word)) if style_of(word).is_some() => style_of(word).unwrap_or(Style::Form),
        (Location::Cookie, Some("cookie")) => Style::Cookie,
        (_, Some(other)) => {
            let text = format!(
                "has the parameter {} in the style {}, which does not exist for {}",
                shown(name),
                shown(other),
                location.as_str()
            );
            return Err(Reason::new("unsupported_parameter", text));
        }
    };
    Ok(encoding(fields, style))
}

/// The styles that a query has beside `form`.
fn style_of(word: &str) -> Option<Style> {
    match word {
        "form" => Some(Style::Form),
        "spaceDelimited" => Some(Style::SpaceDelimited),
        "pipeDelimited" => Some(Style::PipeDelimited),
        "deepObject" => Some(Style::DeepObject),
        _ => None,
    }
}

/// The style with `explode` and `allowReserved`; `explode` is true by default for `form` (and `cookie`) alone.
fn encoding(fields: &Map<String, Value>, style: Style) -> Encoding {
    let by_default = matches!(style, Style::Form | Style::Cookie | Style::DeepObject);
    let explode = fields.get("explode").and_then(Value::as_bool).unwrap_or(by_default);
    Encoding { style, explode, allow_reserved: flag(fields, "allowReserved") }
}

/// The encoding of a field of a form, where its Encoding Object names one of the three fields.
pub(super) fn of_field(fields: &Map<String, Value>) -> Option<Encoding> {
    let says = ["style", "explode", "allowReserved"].iter().any(|field| fields.contains_key(*field));
    says.then(|| encoding(fields, text(fields, "style").and_then(style_of).unwrap_or(Style::Form)))
}

/// How OpenAPI 2.0 writes a parameter.
fn two(name: &str, fields: &Map<String, Value>, location: Location) -> Result<ParameterForm, Reason> {
    Ok(ParameterForm::Styled(of_collection(name, fields, matches!(location, Location::Query))?))
}

/// The style that a `collectionFormat` of 2.0 means. `multi` exists in query and form data.
pub(super) fn of_collection(
    name: &str,
    fields: &Map<String, Value>,
    in_query: bool,
) -> Result<Encoding, Reason> {
    let plain = if in_query { Style::Form } else { Style::Simple };
    let (style, explode) = match text(fields, "collectionFormat") {
        None | Some("csv") => (plain, false),
        Some("ssv") => (Style::SpaceDelimited, false),
        Some("tsv") => (Style::TabDelimited, false),
        Some("pipes") => (Style::PipeDelimited, false),
        Some("multi") if in_query => (Style::Form, true),
        Some(other) => {
            let text = format!("has the parameter {} in the collectionFormat {}", shown(name), shown(other));
            return Err(Reason::new("unsupported_parameter", text));
        }
    };
    Ok(Encoding { style, explode, allow_reserved: false })
}

/// The schema of a parameter of 2.0, which is made of the parameter's own fields.
pub(super) fn of_two(raw: &Raw<'_>, fields: &Map<String, Value>) -> Result<Map<String, Value>, Reason> {
    let not_schema = ["name", "in", "required", "collectionFormat", "allowEmptyValue"];
    let of_schema = fields.iter().filter(|(name, _)| !not_schema.contains(&name.as_str()));
    of_schema.map(|(name, value)| Ok((name.clone(), raw.work.copy(value)?))).collect()
}
