//! Turns an operation and its arguments into an HTTP request: method, address, headers and body. It sends nothing.
//!
//! **Invariant:** an argument changes nothing of the address but its own place: the path keeps its segments, the query its other
//! parameters, and the origin is the operation's.

use serde_json::value::RawValue;
use toolfleet_catalog::openapi::{Body, Location, Operation, Parameter, ParameterForm, Style};
use toolfleet_core::redact::quoted;
use url::Url;

use super::body;
use super::style::{Escape, in_header, in_path, pairs};
use super::value::{Shape, flat, is_null, members, shape};
use crate::arguments::{half_a_pair, is_text};

/// A request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Where it goes.
    pub(super) url: Url,
    /// The headers that arguments set, and those of the body.
    pub(super) headers: Vec<(String, String)>,
    /// The body, if there is one.
    pub(super) body: Option<Vec<u8>>,
}

/// The arguments by name.
struct Arguments<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Arguments<'a> {
    /// Those of a call. The body is looked at where it is written: as JSON it goes out byte for byte.
    fn of(operation: &Operation, arguments: &'a RawValue) -> Result<Self, String> {
        let members = members(arguments).ok_or_else(|| half_a_pair("the name of an argument"))?;
        let body = operation.body.as_ref().map(|body| body.argument.as_str());
        let odd = members.iter().find(|(name, raw)| body != Some(name.as_str()) && !is_text(raw.get()));
        odd.map_or(Ok(()), |(name, _)| Err(half_a_pair(&quoted(name))))?;
        Ok(Self(members))
    }

    /// The argument of that name, unless it is null.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw);
        found.filter(|raw| !is_null(raw))
    }
}

/// The request of a call.
///
/// # Errors
/// What is wrong with the arguments, as a sentence that a model can act on.
pub(super) fn encode(operation: &Operation, arguments: &RawValue) -> Result<Encoded, String> {
    let arguments = Arguments::of(operation, arguments)?;
    let mut headers = vec![("accept".to_owned(), operation.accept.clone())];
    let (mut query, mut cookies) = (Vec::new(), Vec::new());
    for parameter in &operation.parameters {
        let Some(raw) = arguments.get(&parameter.argument) else {
            if parameter.required {
                return Err(format!("`{}` is missing", parameter.argument));
            }
            continue;
        };
        match parameter.location {
            Location::Path => {}
            Location::Query => query.extend(pairs_of(parameter, raw)),
            Location::Cookie => {
                check_cookie(parameter, raw)?;
                cookies.extend(pairs_of(parameter, raw));
            }
            Location::Header => headers.extend(header_of(parameter, raw)?),
        }
    }
    if !cookies.is_empty() {
        headers.push(("cookie".to_owned(), joined(cookies, "; ")));
    }
    let url = address(operation, &arguments, query)?;
    let body = operation.body.as_ref().map(|body| body_of(body, &arguments)).transpose()?.flatten();
    let body = body.map(|(content_type, bytes)| {
        headers.push(("content-type".to_owned(), content_type));
        bytes
    });
    for (name, value) in &headers {
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!(
                "the header `{name}` would have a control character in it; leave it out of the argument"
            ));
        }
    }
    Ok(Encoded { url, headers, body })
}

fn joined(pairs: Vec<(String, String)>, between: &str) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(between)
}

/// A text of a media type: JSON, or a string as it is.
fn content(raw: &RawValue, json: bool) -> String {
    match shape(raw) {
        Shape::Scalar(text) if !json => text,
        Shape::Null | Shape::Scalar(_) | Shape::List(_) | Shape::Members(_) => raw.get().trim().to_owned(),
    }
}

fn pairs_of(parameter: &Parameter, raw: &RawValue) -> Vec<(String, String)> {
    match parameter.form {
        ParameterForm::Styled(encoding) => {
            let escape = match encoding.style {
                Style::Cookie => Escape::Nothing,
                Style::Simple
                | Style::Label
                | Style::Matrix
                | Style::Form
                | Style::SpaceDelimited
                | Style::PipeDelimited
                | Style::TabDelimited
                | Style::DeepObject => Escape::of(encoding),
            };
            pairs(&parameter.name, raw, encoding, escape)
        }
        ParameterForm::Content { json } => {
            let escape = Escape::Percent;
            vec![(escape.text(&parameter.name), escape.text(&content(raw, json)))]
        }
    }
}

/// A cookie that is written without percent-encoding could end, and another one begin, within an argument (RFC 6265, section 4.1.1).
fn check_cookie(parameter: &Parameter, raw: &RawValue) -> Result<(), String> {
    let ParameterForm::Styled(encoding) = parameter.form else { return Ok(()) };
    if encoding.style != Style::Cookie && !encoding.allow_reserved {
        return Ok(());
    }
    // A blank ends nothing, and OpenAPI 3.2 has it in its examples.
    let ends = |text: &str| text.contains([';', ',', '"', '\\']);
    let texts = match shape(raw) {
        Shape::Null => Vec::new(),
        Shape::Scalar(text) => vec![text],
        Shape::List(items) => items.iter().filter_map(|item| flat(item)).collect(),
        Shape::Members(members) => {
            let each = members.iter().map(|(name, value)| [Some(name.clone()), flat(value)]);
            each.flatten().flatten().collect()
        }
    };
    if texts.iter().any(|text| ends(text)) {
        return Err(format!(
            "`{}` has a character in it that no cookie can have: `;`, `,`, `\"`, `\\` or white space",
            parameter.argument
        ));
    }
    Ok(())
}

fn header_of(parameter: &Parameter, raw: &RawValue) -> Result<Option<(String, String)>, String> {
    let value = match parameter.form {
        ParameterForm::Styled(encoding) => in_header(raw, encoding),
        ParameterForm::Content { json } => Some(content(raw, json)),
    };
    let Some(value) = value else { return Ok(None) };
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!(
            "`{}` has a control character in it, which no header can have",
            parameter.argument
        ));
    }
    Ok(Some((parameter.name.to_ascii_lowercase(), value)))
}

/// The address of the request.
fn address(
    operation: &Operation,
    arguments: &Arguments<'_>,
    query: Vec<(String, String)>,
) -> Result<Url, String> {
    let template = operation.path.split('#').next().unwrap_or_default();
    let (template, own_query) = template.split_once('?').unwrap_or((template, ""));
    let path = path(operation, template, arguments)?;
    let mut parts: Vec<String> = Vec::new();
    if !own_query.is_empty() {
        parts.push(own_query.to_owned());
    }
    parts.extend(query.into_iter().map(|(name, value)| format!("{name}={value}")));
    let base = &operation.base;
    let start = base.path().trim_end_matches('/');
    let query = if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) };
    let text = format!("{}{start}{path}{query}", origin(base));
    let url = Url::parse(&text).map_err(|error| format!("the arguments make no address ({error})"))?;
    if url.origin() != base.origin()
        || url.path_segments().map(Iterator::count) != Some(segments(&format!("{start}{path}")))
    {
        return Err("the arguments would lead to another path".to_owned());
    }
    Ok(url)
}

/// Scheme, host and port of an address.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn segments(path: &str) -> usize {
    path.split('/').count().saturating_sub(1).max(1)
}

/// The path with its variables filled in. A segment that is empty, `.` or `..` after that would be another path.
fn path(operation: &Operation, template: &str, arguments: &Arguments<'_>) -> Result<String, String> {
    let mut written = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        written.push_str(before);
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        written.push_str(&variable(operation, name, arguments)?);
        rest = behind;
    }
    written.push_str(rest);
    if !written.starts_with('/') {
        written.insert(0, '/');
    }
    let changed = written.split('/').zip(template.split('/'));
    for (segment, of_template) in changed.filter(|(segment, of_template)| segment != of_template) {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        if matches!(plain.as_str(), "" | "." | "..") && of_template.contains('{') {
            return Err(format!(
                "the part `{of_template}` of the path would be `{segment}`, which leads to another path; give another value"
            ));
        }
    }
    Ok(written)
}

fn variable(operation: &Operation, name: &str, arguments: &Arguments<'_>) -> Result<String, String> {
    let is_it = |one: &&Parameter| one.location == Location::Path && one.name == name;
    let Some(parameter) = operation.parameters.iter().find(is_it) else {
        return Err(format!("the path has no parameter `{name}`"));
    };
    let missing = || format!("`{}` is missing", parameter.argument);
    let raw = arguments.get(&parameter.argument).ok_or_else(missing)?;
    match parameter.form {
        ParameterForm::Styled(encoding) => in_path(name, raw, encoding).ok_or_else(missing),
        ParameterForm::Content { json } => Ok(Escape::Percent.text(&content(raw, json))),
    }
}

/// The body in the media type that the caller chose, or the first.
fn body_of(body: &Body, arguments: &Arguments<'_>) -> Result<Option<body::Written>, String> {
    let Some(raw) = arguments.0.iter().find(|(name, _)| *name == body.argument).map(|(_, raw)| *raw) else {
        return if body.required { Err(format!("`{}` is missing", body.argument)) } else { Ok(None) };
    };
    if !body.required && is_null(raw) {
        return Ok(None);
    }
    let chosen = body.type_argument.as_ref().and_then(|argument| arguments.get(argument));
    let media = match chosen.map(shape) {
        Some(Shape::Scalar(wanted)) => body.media.iter().find(|media| media.content_type == wanted),
        Some(_) => None,
        None => body.media.first(),
    };
    let Some(media) = media else {
        let known: Vec<&str> = body.media.iter().map(|media| media.content_type.as_str()).collect();
        let argument = body.type_argument.as_deref().unwrap_or_default();
        return Err(format!("`{argument}` is none of {}", known.join(", ")));
    };
    body::write(&body.argument, raw, media).map(Some)
}
