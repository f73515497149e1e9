//! How the values of a schema are written as XML: the XML Objects of a document (OpenAPI 3.0.4, section 4.8.26; 2.0 has the same).
//!
//! A schema that is referred to is read once for the whole document, so a cycle is a cycle of names. What one schema takes from another
//! by `allOf` is copied: all elements of a document together have a bound, and so has the nesting of one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::{Raw, SeenSchemas, flag, is_new, text};
use super::model::{SharedElements, XmlBody, XmlElement};
use super::reason::Reason;

/// The deepest nesting of schemas within one another.
const MOST_DEPTH: usize = 100;
/// How many shared elements may lead from one to the next.
const MOST_HOPS: usize = 32;
/// The most elements of the bodies of one document.
const MOST_ELEMENTS: usize = 50_000;
/// How many bytes of text count as much as an element.
const BYTES_OF_ELEMENT: usize = 64;
/// Fields by which a schema says how its values are written.
const SAYS: [&str; 6] = ["xml", "properties", "items", "allOf", "anyOf", "oneOf"];

/// The elements of one document.
pub(super) struct Elements<'a> {
    raw: Raw<'a>,
    /// Those that are referred to.
    shared: BTreeMap<String, XmlElement>,
    /// Why some of them cannot be written, by themselves or by what they refer to.
    failed: HashMap<String, Reason>,
    referred_by: HashMap<String, Vec<String>>,
    /// How many elements there may still be.
    left: usize,
}

impl<'a> Elements<'a> {
    pub(super) fn of(raw: Raw<'a>) -> Self {
        let (shared, failed, referred_by) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { raw, shared, failed, referred_by, left: MOST_ELEMENTS }
    }

    /// The form of a body in XML; nothing where the document does not name its root element. Its shared elements are given at the end.
    pub(super) fn body(&mut self, schema: &'a Value) -> Result<Option<XmlBody>, Reason> {
        let mut refers_to = Vec::new();
        let root = self.element(schema, &mut refers_to, 0)?;
        self.share(refers_to.clone());
        if let Some(reason) = refers_to.iter().find_map(|reference| self.failed.get(reference)) {
            return Err(reason.clone());
        }
        let next = |at: &&XmlElement| self.shared.get(at.same_as.as_deref()?);
        let own = std::iter::successors(Some(&root), next).take(MOST_HOPS).find_map(|at| at.name.clone());
        let reference = schema.get("$ref").and_then(Value::as_str);
        let component =
            reference.and_then(|reference| reference.rsplit('/').next()).filter(|name| is_name(name));
        let name = own.or_else(|| component.map(str::to_owned));
        Ok(name.map(|name| {
            let root = Arc::new(XmlElement { name: Some(name), ..root });
            XmlBody { root, shared: Arc::default() }
        }))
    }

    /// All elements that bodies refer to.
    pub(super) fn shared(self) -> SharedElements {
        Arc::new(self.shared)
    }

    /// Reads what these refer to and what that refers to, each once.
    fn share(&mut self, mut waiting: Vec<String>) {
        while let Some(reference) = waiting.pop() {
            if self.shared.contains_key(&reference) {
                continue;
            }
            let mut refers_to = Vec::new();
            let target = self.raw.target(&reference);
            let read = target.and_then(|schema| self.element(schema, &mut refers_to, 0));
            let mut failed = read.as_ref().err().cloned();
            self.shared.insert(reference.clone(), read.unwrap_or_default());
            for to in &refers_to {
                failed = failed.or_else(|| self.failed.get(to).cloned());
                self.referred_by.entry(to.clone()).or_default().push(reference.clone());
            }
            waiting.extend(refers_to);
            if let Some(reason) = failed {
                self.fail(reference, &reason);
            }
        }
    }

    /// What refers to an element that cannot be written cannot be written.
    fn fail(&mut self, reference: String, reason: &Reason) {
        let mut waiting = vec![reference];
        while let Some(reference) = waiting.pop() {
            if !self.failed.contains_key(&reference) {
                waiting.extend(self.referred_by.get(&reference).into_iter().flatten().cloned());
                self.failed.insert(reference, reason.clone());
            }
        }
    }

    /// Counts an element or a look at a schema, with the bytes of its texts.
    fn count(&mut self, bytes: usize) -> Result<(), Reason> {
        self.left = self.left.checked_sub(1 + bytes / BYTES_OF_ELEMENT).ok_or_else(|| {
            let text = format!(
                "has a body in XML, and the bodies in XML of the document have more than {MOST_ELEMENTS} elements"
            );
            Reason::new("too_large", text)
        })?;
        Ok(())
    }

    fn element(
        &mut self,
        schema: &'a Value,
        refers_to: &mut Vec<String>,
        depth: usize,
    ) -> Result<XmlElement, Reason> {
        let Some(fields) = schema.as_object() else { return Ok(XmlElement::default()) };
        let mut element = XmlElement::default();
        self.said(fields, &mut element)?;
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str).or_else(|| only_part(fields)) {
            self.count(reference.len())?;
            refers_to.push(reference.to_owned());
            element.same_as = Some(reference.to_owned());
            return Ok(element);
        }
        let mut place = Place { element: &mut element, seen: SeenSchemas::new(), refers_to };
        self.add(fields, &mut place, depth)?;
        Ok(element)
    }

    /// Members and items of the schema and of its parts. What is said first counts.
    fn add(
        &mut self,
        fields: &'a Map<String, Value>,
        place: &mut Place<'_>,
        depth: usize,
    ) -> Result<(), Reason> {
        if depth > MOST_DEPTH {
            let text = format!("has a body in XML with schemas that are nested more than {MOST_DEPTH} deep");
            return Err(Reason::new("too_large", text));
        }
        if !is_new(fields, &mut place.seen) {
            return Ok(());
        }
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.count(name.len())?;
            if !place.element.members.contains_key(name) {
                let member = self.element(schema, place.refers_to, depth + 1)?;
                place.element.members.insert(name.clone(), member);
            }
        }
        if let Some(items) = fields.get("items").filter(|_| place.element.items.is_none()) {
            self.count(0)?;
            place.element.items = Some(Box::new(self.element(items, place.refers_to, depth + 1)?));
        }
        for part in self.parts(fields)? {
            self.count(0)?;
            if place.element.is_unnamed() {
                self.said(part, place.element)?;
            }
            self.add(part, place, depth + 1)?;
        }
        Ok(())
    }

    /// The schemas that all count: those of `allOf`, and the one alternative to null. Which of several alternatives a value has is not
    /// looked for, so none of them may say how it is written.
    fn parts(&self, fields: &'a Map<String, Value>) -> Result<Vec<&'a Map<String, Value>>, Reason> {
        let list = |name: &str| {
            let all = fields.get(name).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(|part| self.raw.resolved(part).ok()).collect::<Vec<_>>()
        };
        let mut parts = list("allOf");
        for name in ["anyOf", "oneOf"] {
            let mut alternatives = list(name);
            alternatives.retain(|one| one.get("type").and_then(Value::as_str) != Some("null"));
            if alternatives.len() == 1 {
                parts.append(&mut alternatives);
            } else if alternatives.iter().any(|one| SAYS.iter().any(|field| one.contains_key(*field))) {
                let text = format!(
                    "has a body in XML with `{name}`, and which of several alternatives a value has is not looked for; describe it by one schema or `allOf`"
                );
                return Err(Reason::new("unsupported_body", text));
            }
        }
        Ok(parts)
    }

    /// What the XML Object of a schema says.
    fn said(&mut self, fields: &Map<String, Value>, element: &mut XmlElement) -> Result<(), Reason> {
        let Some(xml) = fields.get("xml").and_then(Value::as_object) else { return Ok(()) };
        let named = |field: &str| text(xml, field).filter(|name| is_name(name)).map(str::to_owned);
        element.name = named("name");
        // `xmlns` is the prefix of declarations.
        element.prefix = named("prefix").filter(|prefix| prefix != "xmlns");
        element.namespace = text(xml, "namespace").map(str::to_owned);
        element.attribute = flag(xml, "attribute");
        element.wrapped = flag(xml, "wrapped");
        let texts = [&element.name, &element.prefix, &element.namespace];
        self.count(texts.into_iter().flatten().map(String::len).sum())
    }
}

/// An element that is read, with the schemas that were met on the way.
struct Place<'e> {
    element: &'e mut XmlElement,
    seen: SeenSchemas,
    refers_to: &'e mut Vec<String>,
}

/// The reference that is all there is of a schema: `allOf` with one part is how 3.0 describes a reference.
fn only_part(fields: &Map<String, Value>) -> Option<&str> {
    let [part] = fields.get("allOf")?.as_array()?.as_slice() else { return None };
    let is_more = ["properties", "items", "anyOf", "oneOf"].iter().any(|field| fields.contains_key(*field));
    part.get("$ref").and_then(Value::as_str).filter(|_| !is_more)
}

/// Whether a text is the name of an element or attribute (XML 1.0, section 2.3, without the colon, which separates a prefix).
pub fn is_name(text: &str) -> bool {
    text.starts_with(begins_name) && text.chars().all(is_in_name)
}

const fn begins_name(c: char) -> bool {
    matches!(c, 'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

const fn is_in_name(c: char) -> bool {
    begins_name(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}
