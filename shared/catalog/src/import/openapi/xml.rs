//! How the values of a schema are written as XML: the XML Objects of a document (OpenAPI 3.0.4, section 4.8.26; 2.0 has the same).
//!
//! A schema that is referred to is read once, so a cycle is a cycle of names and the work is bounded by the document's size.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{Raw, flag, text};
use super::model::{XmlBody, XmlElement};
use super::reason::Reason;
use super::schemas::{SeenSchemas, is_new};

/// How deep `allOf` and the like are followed to find the XML Object of a schema.
const MOST_PARTS: usize = 8;

/// The most elements of one body.
const MOST_ELEMENTS: usize = 20_000;

/// The form of a body in XML; nothing where the document does not name its root element.
pub(super) fn body(raw: Raw<'_>, schema: &Value) -> Result<Option<XmlBody>, Reason> {
    let mut reader = Reader { raw, shared: BTreeMap::new(), left: MOST_ELEMENTS };
    let root = reader.element(schema)?;
    let reference = schema.get("$ref").and_then(Value::as_str);
    let component = reference.and_then(|reference| reference.rsplit('/').next()).filter(|name| is_name(name));
    let shared = reader.shared;
    let own = root.name.clone().or_else(|| {
        let at = shared.get(root.same_as.as_deref()?)?;
        at.name.clone()
    });
    let name = own.or_else(|| component.map(str::to_owned));
    Ok(name.map(|name| XmlBody { root: XmlElement { name: Some(name), ..root }, shared }))
}

struct Reader<'a> {
    raw: Raw<'a>,
    shared: BTreeMap<String, XmlElement>,
    /// How many elements there may still be.
    left: usize,
}

impl<'a> Reader<'a> {
    fn element(&mut self, schema: &'a Value) -> Result<XmlElement, Reason> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            let text = format!("has a body in XML of more than {MOST_ELEMENTS} elements");
            Reason::new("too_large", text)
        })?;
        let Some(fields) = schema.as_object() else { return Ok(XmlElement::default()) };
        let mut element = XmlElement::default();
        said(fields, &mut element);
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            self.share(reference)?;
            element.same_as = Some(reference.to_owned());
            return Ok(element);
        }
        self.add(fields, &mut element, &mut SeenSchemas::new(), 0)?;
        Ok(element)
    }

    /// Reads what a reference points to, once.
    fn share(&mut self, reference: &str) -> Result<(), Reason> {
        if self.shared.contains_key(reference) {
            return Ok(());
        }
        // A cycle comes back to the name.
        self.shared.insert(reference.to_owned(), XmlElement::default());
        let element = self.element(self.raw.target(reference)?)?;
        self.shared.insert(reference.to_owned(), element);
        Ok(())
    }

    /// Members and items of the schema and of its parts. What is said first counts.
    fn add(
        &mut self,
        fields: &'a Map<String, Value>,
        element: &mut XmlElement,
        seen: &mut SeenSchemas,
        depth: usize,
    ) -> Result<(), Reason> {
        if !is_new(fields, seen) {
            return Ok(());
        }
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if !element.members.contains_key(name) {
                let member = self.element(schema)?;
                element.members.insert(name.clone(), member);
            }
        }
        if let Some(items) = fields.get("items").filter(|_| element.items.is_none()) {
            element.items = Some(Box::new(self.element(items)?));
        }
        if depth >= MOST_PARTS {
            return Ok(());
        }
        for list in ["allOf", "anyOf", "oneOf"] {
            for part in fields.get(list).and_then(Value::as_array).into_iter().flatten() {
                let Ok(part) = self.raw.resolved(part) else { continue };
                if element.is_unnamed() {
                    said(part, element);
                }
                self.add(part, element, seen, depth + 1)?;
            }
        }
        Ok(())
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
