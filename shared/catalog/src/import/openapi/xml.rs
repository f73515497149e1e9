//! How the values of a schema are written as XML: the XML Objects of a document (OpenAPI 3.0.4, section 4.8.26; 2.0 has the same).
//!
//! A schema that is referred to is read once, so a cycle is a cycle of names and the work is bounded by the document's size.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{Raw, flag, text};
use super::model::{XmlBody, XmlElement};

/// How deep `allOf` and the like are followed to find the XML Object of a schema.
const MOST_PARTS: usize = 8;

/// The form of a body in XML; nothing where the document does not name its root element.
pub(super) fn body(raw: Raw<'_>, schema: &Value) -> Option<XmlBody> {
    let mut reader = Reader { raw, shared: BTreeMap::new() };
    let root = reader.element(schema);
    let reference = schema.get("$ref").and_then(Value::as_str);
    let component = reference.and_then(|reference| reference.rsplit('/').next()).filter(|name| is_name(name));
    let shared = reader.shared;
    let own = root.name.clone().or_else(|| {
        let at = shared.get(root.same_as.as_deref()?)?;
        at.name.clone()
    });
    let name = own.or_else(|| component.map(str::to_owned))?;
    Some(XmlBody { root: XmlElement { name: Some(name), ..root }, shared })
}

struct Reader<'a> {
    raw: Raw<'a>,
    shared: BTreeMap<String, XmlElement>,
}

impl<'a> Reader<'a> {
    fn element(&mut self, schema: &'a Value) -> XmlElement {
        let Some(fields) = schema.as_object() else { return XmlElement::default() };
        let mut element = XmlElement::default();
        said(fields, &mut element);
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            self.share(reference);
            element.same_as = Some(reference.to_owned());
            return element;
        }
        self.add(fields, &mut element, 0);
        element
    }

    /// Reads what a reference points to, once.
    fn share(&mut self, reference: &str) {
        if self.shared.contains_key(reference) {
            return;
        }
        // A cycle comes back to the name.
        self.shared.insert(reference.to_owned(), XmlElement::default());
        if let Ok(schema) = self.raw.target(reference) {
            let element = self.element(schema);
            self.shared.insert(reference.to_owned(), element);
        }
    }

    /// Members and items of the schema and of its parts. What is said first counts.
    fn add(&mut self, fields: &'a Map<String, Value>, element: &mut XmlElement, depth: usize) {
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if !element.members.contains_key(name) {
                let member = self.element(schema);
                element.members.insert(name.clone(), member);
            }
        }
        if let Some(items) = fields.get("items").filter(|_| element.items.is_none()) {
            element.items = Some(Box::new(self.element(items)));
        }
        if depth >= MOST_PARTS {
            return;
        }
        for list in ["allOf", "anyOf", "oneOf"] {
            for part in fields.get(list).and_then(Value::as_array).into_iter().flatten() {
                let Ok(part) = self.raw.resolved(part) else { continue };
                if element.is_unnamed() {
                    said(part, element);
                }
                self.add(part, element, depth + 1);
            }
        }
    }
}

/// What the XML Object of a schema says.
fn said(fields: &Map<String, Value>, element: &mut XmlElement) {
    let Some(xml) = fields.get("xml").and_then(Value::as_object) else { return };
    let named = |field: &str| text(xml, field).filter(|name| is_name(name)).map(str::to_owned);
    element.name = named("name");
    element.prefix = named("prefix");
    element.namespace = text(xml, "namespace").map(str::to_owned);
    element.attribute = flag(xml, "attribute");
    element.wrapped = flag(xml, "wrapped");
}

/// Whether a text is the name of an element or attribute (XML 1.0, section 2.3, without the colon, which separates a prefix).
pub fn is_name(text: &str) -> bool {
    let begins = |c: char| c.is_alphabetic() || c == '_';
    text.starts_with(begins) && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
}
