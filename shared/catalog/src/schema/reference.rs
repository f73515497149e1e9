//! Resolves the references within one schema document: JSON pointers, anchors, and the ids of embedded schemas.
//!
//! It only has to find what the compiler finds, so that the work can be counted before it is done. What it does not find is never
//! judged by.

use std::collections::HashMap;

use serde_json::Value;

/// The names that a schema gives to its parts.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Where the part with that `$id` stands: pointers of its document.
    ids: HashMap<String, String>,
    /// Anchors of the whole document.
    anchors: HashMap<String, String>,
    root_id: Option<String>,
}

/// A part of a schema: its pointer in the document, and that of the embedded schema it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) schema: &'a Value,
    /// What a reference that begins with `#` refers to.
    pub(super) base: &'a Value,
}

impl<'a> Part<'a> {
    /// The part below it, which may be an embedded schema with an `$id` of its own.
    pub(super) fn inner(self, schema: &'a Value) -> Self {
        let embedded = schema.get("$id").is_some_and(|id| id.as_str().is_some_and(|id| !id.starts_with('#')));
        Self { schema, base: if embedded { schema } else { self.base } }
    }
}

impl Names {
    pub(super) fn of(root: &Value) -> Self {
        let mut names =
            Self { root_id: root.get("$id").and_then(Value::as_str).map(str::to_owned), ..Self::default() };
        names.collect(root, &mut String::new());
        names
    }

    /// Whether schemas with ids of their own are embedded.
    pub(super) fn has_embedded(&self) -> bool {
        !self.ids.is_empty()
    }

    fn collect(&mut self, node: &Value, at: &mut String) {
        let step = |at: &mut String, name: &str| {
            let before = at.len();
            at.push('/');
            at.push_str(&name.replace('~', "~0").replace('/', "~1"));
            before
        };
        match node {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value.as_str()) {
                        ("$anchor" | "$dynamicAnchor", Some(name)) => {
                            self.anchors.insert(name.to_owned(), at.clone());
                        }
                        ("$id" | "id", Some(id)) => {
                            if let Some(anchor) = id.strip_prefix('#') {
                                self.anchors.insert(anchor.to_owned(), at.clone());
                            } else if key == "$id" && !at.is_empty() {
                                self.ids.insert(id.to_owned(), at.clone());
                            }
                        }
                        ("enum" | "const" | "default" | "examples", _) => {}
                        _ => {
                            let before = step(at, key);
                            self.collect(value, at);
                            at.truncate(before);
                        }
                    }
                }
            }
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    let before = step(at, &n.to_string());
                    self.collect(item, at);
                    at.truncate(before);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// What `reference` means where it stands in `from`.
    pub(super) fn resolve<'a>(&self, root: &'a Value, from: Part<'a>, reference: &str) -> Option<Part<'a>> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = if document.is_empty() {
            from.base
        } else if self.root_id.as_deref().is_some_and(|id| id.trim_end_matches('#') == document) {
            root
        } else {
            // Ids are written whole, or relative to that of the document: the last segment names them in both.
            let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
            let found = self.ids.get(document).or_else(|| {
                self.ids.iter().find(|(id, _)| last(id) == last(document)).map(|(_, pointer)| pointer)
            });
            root.pointer(found?)?
        };
        let fragment = percent_decoded(fragment)?;
        if fragment.is_empty() {
            return Some(Part { schema: base, base });
        }
        if fragment.starts_with('/') {
            return base.pointer(&fragment).map(|schema| Part { schema, base }.inner(schema));
        }
        let pointer = self.anchors.get(&fragment)?;
        root.pointer(pointer).map(|schema| Part { schema, base }.inner(schema))
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
