//! Writes the body of a request in the media type that is chosen for it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::value::RawValue;
use toolfleet_catalog::openapi::{Field, Media, MediaKind};

use super::multipart::{self, Part};
use super::style::{Escape, pairs};
use super::value::{Shape, flat, shape};
use super::xml;
use crate::arguments::{half_a_pair, is_text};

/// A body: the value of `Content-Type`, and the bytes.
pub(super) type Written = (String, Vec<u8>);

/// The body of the argument in that media type.
///
/// # Errors
/// Why the argument cannot be written in it.
pub(super) fn write(argument: &str, raw: &RawValue, media: &Media) -> Result<Written, String> {
    if !matches!(media.kind, MediaKind::Json) && !is_text(raw.get()) {
        return Err(half_a_pair(&format!("`{argument}`")));
    }
    let of = |bytes: Vec<u8>| (media.content_type.clone(), bytes);
    match &media.kind {
        MediaKind::Json => Ok(of(raw.get().trim().as_bytes().to_vec())),
        MediaKind::Form(fields) => {
            let members = fields_of(argument, raw)?;
            Ok(of(form(&members, fields).into_bytes()))
        }
        MediaKind::Multipart(fields) => {
            let members = fields_of(argument, raw)?;
            Ok(multipart::write(&parts(argument, &members, fields)?))
        }
        MediaKind::Xml(body) => Ok(of(xml::write(argument, raw, body)?.into_bytes())),
        MediaKind::Text => match shape(raw) {
            Shape::Scalar(text) => Ok(of(text.into_bytes())),
            Shape::Null | Shape::List(_) | Shape::Members(_) => Ok(of(raw.get().trim().as_bytes().to_vec())),
        },
        MediaKind::Bytes => {
            let file = file(argument, raw)?;
            let content_type = file.content_type.unwrap_or_else(|| media.content_type.clone());
            Ok((content_type, file.bytes))
        }
    }
}

fn fields_of<'a>(argument: &str, raw: &'a RawValue) -> Result<Vec<(String, &'a RawValue)>, String> {
    match shape(raw) {
        Shape::Members(members) => Ok(members),
        Shape::Null | Shape::Scalar(_) | Shape::List(_) => {
            Err(format!("`{argument}` is no object; give the form's fields by their names"))
        }
    }
}

/// `application/x-www-form-urlencoded`. A space is `%20`, which every reader takes.
fn form(members: &[(String, &RawValue)], fields: &BTreeMap<String, Field>) -> String {
    let mut written = Vec::new();
    for (name, raw) in members {
        let encoding = fields.get(name).and_then(|field| field.encoding);
        let of_field = match encoding {
            Some(encoding) => pairs(name, raw, encoding, Escape::of(encoding)),
            None => {
                let escaped = Escape::Percent.text(name);
                plain_values(raw).iter().map(|text| (escaped.clone(), Escape::Percent.text(text))).collect()
            }
        };
        written.extend(of_field.into_iter().map(|(name, value)| format!("{name}={value}")));
    }
    written.join("&")
}

/// The texts of a field without a style: each item of an array by itself, an object as JSON.
fn plain_values(raw: &RawValue) -> Vec<String> {
    match shape(raw) {
        Shape::List(items) => items.into_iter().filter_map(flat).collect(),
        Shape::Null | Shape::Scalar(_) | Shape::Members(_) => flat(raw).into_iter().collect(),
    }
}

fn parts(
    argument: &str,
    members: &[(String, &RawValue)],
    fields: &BTreeMap<String, Field>,
) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let otherwise = Field::default();
    for (name, raw) in members {
        let field = fields.get(name).unwrap_or(&otherwise);
        if let Some(encoding) = field.encoding.filter(|_| !field.binary) {
            let of_pair =
                |(name, text): (String, String)| Part { name, bytes: text.into_bytes(), ..Part::default() };
            parts.extend(pairs(name, raw, encoding, Escape::Nothing).into_iter().map(of_pair));
            continue;
        }
        let items = match shape(raw) {
            Shape::Null => continue,
            Shape::List(items) if field.content_type.is_none() || field.binary => items,
            Shape::List(_) | Shape::Scalar(_) | Shape::Members(_) => vec![*raw],
        };
        for item in items {
            let place = format!("{argument}.{name}");
            parts.extend(part(&place, name, item, field)?);
        }
    }
    Ok(parts)
}

/// One part; nothing of null.
fn part(place: &str, name: &str, raw: &RawValue, field: &Field) -> Result<Option<Part>, String> {
    let name = name.to_owned();
    if field.binary {
        if matches!(shape(raw), Shape::Null) {
            return Ok(None);
        }
        let File { bytes, filename, content_type } = file(place, raw)?;
        let filename = Some(filename.unwrap_or_else(|| name.clone()));
        let content_type = content_type.or_else(|| field.content_type.clone());
        let content_type = Some(content_type.unwrap_or_else(|| "application/octet-stream".to_owned()));
        return Ok(Some(Part { name, filename, content_type, bytes }));
    }
    let (content_type, text) = match shape(raw) {
        Shape::Null => return Ok(None),
        Shape::Scalar(text) => (None, text),
        Shape::List(_) | Shape::Members(_) => {
            (Some("application/json".to_owned()), raw.get().trim().to_owned())
        }
    };
    let is_json = field.content_type.as_deref().is_some_and(|media| media.contains("json"));
    let text = if is_json { raw.get().trim().to_owned() } else { text };
    let content_type = field.content_type.clone().or(content_type);
    Ok(Some(Part { name, filename: None, content_type, bytes: text.into_bytes() }))
}

/// A file among the arguments.
#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    filename: Option<String>,
    content_type: Option<String>,
}

/// The file that an argument is: a string in UTF-8, or `{"base64": ".."}`.
fn file(place: &str, raw: &RawValue) -> Result<File, String> {
    let members = match shape(raw) {
        Shape::Members(members) => members,
        Shape::Scalar(text) => {
            return Ok(File { bytes: text.into_bytes(), filename: None, content_type: None });
        }
        Shape::Null | Shape::List(_) => {
            return Err(format!("`{place}` is no file; give a string, or an object with `base64`"));
        }
    };
    let text = |name: &str| members.iter().find(|(known, _)| known == name).and_then(|(_, raw)| flat(raw));
    let Some(encoded) = text("base64") else {
        return Err(format!("`{place}.base64` is missing; give the file's bytes in base64"));
    };
    let decoded = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|kind| kind.decode(&encoded).ok());
    let Some(bytes) = decoded else {
        return Err(format!("`{place}.base64` is not base64"));
    };
    let content_type = text("content_type");
    if content_type.as_ref().is_some_and(|media| media.chars().any(char::is_control)) {
        return Err(format!("`{place}.content_type` has a control character in it"));
    }
    Ok(File { bytes, filename: text("filename"), content_type })
}
