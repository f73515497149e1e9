//! Writes a value as XML, by the XML Objects of its schema. Members stand in the order in which the caller wrote them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};

use serde_json::value::RawValue;
use toolfleet_catalog::openapi::{XmlBody, XmlElement, is_xml_name};

use super::value::{Shape, flat, is_null, shape};

/// The deepest nesting of elements.
const MOST_DEPTH: usize = 100;
/// How many shared elements may lead from one to the next.
const MOST_HOPS: usize = 32;
/// The prefix that every document knows.
const XML: &str = "xml";
/// The longest document, in bytes: each item of a list repeats the name of the list.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The document that the value makes; `argument` names the value in errors.
pub(super) fn write(argument: &str, raw: &RawValue, body: &XmlBody) -> Result<String, String> {
    let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let mut writer = Writer { body, text, scope: Vec::new() };
    let root = Said::of(body, &body.root);
    let (name, place) = (root.name.unwrap_or_default(), &Place::Argument(argument));
    match shape(raw) {
        Shape::List(items) => {
            // A document has one root, so a list is wrapped in it.
            let opened = writer.open(place, name, &root, &[])?;
            writer.items(place, name, &root, &items, 1)?;
            writer.close(&opened);
        }
        Shape::Null | Shape::Scalar(_) | Shape::Members(_) => writer.element(place, name, &root, raw, 0)?,
    }
    Ok(writer.text)
}

/// Where a value stands among the arguments. Its text is made for errors only, and long names are cut in it.
enum Place<'p> {
    Argument(&'p str),
    Member(&'p Self, &'p str),
    Item(&'p Self, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => f.write_str(name),
            Self::Member(of, name) => write!(f, "{of}.{name:.120}"),
            Self::Item(of, i) => write!(f, "{of}[{i}]"),
        }
    }
}

/// All that is said of an element, by itself and by what it refers to.
struct Said<'a> {
    name: Option<&'a str>,
    prefix: Option<&'a str>,
    namespace: Option<&'a str>,
    attribute: bool,
    wrapped: bool,
    /// It and what it refers to, in this order.
    chain: Vec<&'a XmlElement>,
}

impl<'a> Said<'a> {
    fn of(body: &'a XmlBody, element: &'a XmlElement) -> Self {
        let mut chain = vec![element];
        while let Some(next) = chain.last().and_then(|last| body.shared.get(last.same_as.as_deref()?)) {
            if chain.len() > MOST_HOPS {
                break;
            }
            chain.push(next);
        }
        let first = |of: fn(&XmlElement) -> Option<&str>| chain.iter().find_map(|element| of(element));
        Self {
            name: first(|element| element.name.as_deref()),
            prefix: first(|element| element.prefix.as_deref()),
            namespace: first(|element| element.namespace.as_deref()),
            attribute: chain.iter().any(|element| element.attribute),
            wrapped: chain.iter().any(|element| element.wrapped),
            chain,
        }
    }

    fn member(&self, body: &'a XmlBody, name: &str) -> Option<Self> {
        let found = self.chain.iter().find_map(|element| element.members.get(name));
        found.map(|element| Self::of(body, element))
    }

    fn items(&self, body: &'a XmlBody) -> Option<Self> {
        let found = self.chain.iter().find_map(|element| element.items.as_deref());
        found.map(|element| Self::of(body, element))
    }

    fn nothing() -> Self {
        let (name, prefix, namespace) = (None, None, None);
        Self { name, prefix, namespace, attribute: false, wrapped: false, chain: Vec::new() }
    }

    /// The declaration of its namespace. The prefix `xml` means its own namespace everywhere.
    fn declaration(&self) -> Option<(String, &'a str)> {
        let of = |prefix: &str| format!("xmlns:{prefix}");
        let namespace = self.namespace.filter(|_| self.prefix != Some(XML))?;
        Some((self.prefix.map_or_else(|| "xmlns".to_owned(), of), namespace))
    }
}

struct Writer<'a> {
    body: &'a XmlBody,
    text: String,
    /// The prefixes that the open elements declare.
    scope: Vec<&'a str>,
}

/// The start of an element that was written.
struct Opened {
    name: String,
    /// How many prefixes were declared before it.
    scope: usize,
}

impl<'a> Writer<'a> {
    /// One element with this value; a member of an object is not a list here.
    fn element(
        &mut self,
        place: &Place<'_>,
        name: &str,
        said: &Said<'a>,
        raw: &RawValue,
        depth: usize,
    ) -> Result<(), String> {
        if depth > MOST_DEPTH {
            return Err(format!("`{place}` is nested more than {MOST_DEPTH} deep"));
        }
        match shape(raw) {
            Shape::Null => self.empty(place, name, said),
            Shape::Scalar(text) => {
                let opened = self.open(place, name, said, &[])?;
                self.escape(place, &text)?;
                self.close(&opened);
                Ok(())
            }
            Shape::List(items) => self.list(place, name, said, &items, depth),
            Shape::Members(members) => {
                let known = |name: &str| said.member(self.body, name).unwrap_or_else(Said::nothing);
                let members: Vec<_> =
                    members.iter().map(|(name, raw)| (name.as_str(), known(name), *raw)).collect();
                let (attributes, children): (Vec<_>, Vec<_>) =
                    members.into_iter().partition(|(_, said, _)| said.attribute);
                let opened = self.open(place, name, said, &attributes)?;
                for (name, said, raw) in children.iter().filter(|(.., raw)| !is_null(raw)) {
                    self.element(&Place::Member(place, name), name, said, raw, depth + 1)?;
                }
                self.close(&opened);
                Ok(())
            }
        }
    }

    /// A list: an element for each item, within one around them where the document says so.
    fn list(
        &mut self,
        place: &Place<'_>,
        name: &str,
        said: &Said<'a>,
        items: &[&RawValue],
        depth: usize,
    ) -> Result<(), String> {
        // The name of a list is that of the element around its items; where there is none, it means nothing.
        if !said.wrapped {
            return self.items(place, name, said, items, depth + 1);
        }
        let opened = self.open(place, name, said, &[])?;
        self.items(place, said.name.unwrap_or(name), said, items, depth + 1)?;
        self.close(&opened);
        Ok(())
    }

    fn items(
        &mut self,
        place: &Place<'_>,
        name: &str,
        said: &Said<'a>,
        items: &[&RawValue],
        depth: usize,
    ) -> Result<(), String> {
        let of_item = said.items(self.body).unwrap_or_else(Said::nothing);
        for (i, item) in items.iter().enumerate() {
            self.element(&Place::Item(place, i), name, &of_item, item, depth)?;
        }
        Ok(())
    }

    fn empty(&mut self, place: &Place<'_>, name: &str, said: &Said<'a>) -> Result<(), String> {
        let opened = self.open(place, name, said, &[])?;
        self.close(&opened);
        Ok(())
    }

    /// The name with its prefix. One that means no namespace here is left out: with it no reader would take the document.
    fn full_name(&self, said: &Said<'a>, otherwise: &str) -> String {
        let name = said.name.unwrap_or(otherwise);
        let is_declared = |prefix: &&str| *prefix == XML || self.scope.contains(prefix);
        said.prefix.filter(is_declared).map_or_else(|| name.to_owned(), |prefix| format!("{prefix}:{name}"))
    }

    /// The start of an element.
    fn open(
        &mut self,
        place: &Place<'_>,
        name: &str,
        said: &Said<'a>,
        attributes: &[(&str, Said<'a>, &RawValue)],
    ) -> Result<Opened, String> {
        if self.text.len() > MOST_BYTES {
            return Err(format!("`{place}` makes an XML document of more than {MOST_BYTES} bytes"));
        }
        let scope = self.scope.len();
        let declaring = attributes.iter().filter(|(.., raw)| !is_null(raw)).map(|(_, said, _)| said);
        let declaring = [said].into_iter().chain(declaring).filter(|said| said.declaration().is_some());
        self.scope.extend(declaring.filter_map(|said| said.prefix));
        let full = self.full_name(said, name);
        check_name(place, said.name.unwrap_or(name))?;
        let _ = write!(self.text, "<{full}");
        let mut declared: BTreeMap<String, &str> = said.declaration().into_iter().collect();
        // An attribute without a prefix is in no namespace.
        for (name, said, _) in
            attributes.iter().filter(|(_, said, raw)| said.prefix.is_some() && !is_null(raw))
        {
            let Some((prefix, namespace)) = said.declaration() else { continue };
            if *declared.entry(prefix).or_insert(namespace) != namespace {
                let place = Place::Member(place, name);
                return Err(format!("`{place}` has a prefix that means another namespace beside it"));
            }
        }
        for (name, namespace) in &declared {
            self.attribute(place, name, namespace)?;
        }
        let mut written: HashSet<String> = declared.into_keys().collect();
        for (name, said, raw) in attributes {
            let Some(text) = flat(raw) else { continue };
            let (place, full) = (&Place::Member(place, name), self.full_name(said, name));
            check_name(place, said.name.unwrap_or(name))?;
            self.attribute(place, &full, &text)?;
            if !written.insert(full) {
                return Err(format!(
                    "`{place}` would be a second attribute of one name; leave one of the two out"
                ));
            }
        }
        self.text.push('>');
        Ok(Opened { name: full, scope })
    }

    fn close(&mut self, opened: &Opened) {
        let _ = write!(self.text, "</{}>", opened.name);
        self.scope.truncate(opened.scope);
    }

    fn attribute(&mut self, place: &Place<'_>, name: &str, text: &str) -> Result<(), String> {
        let _ = write!(self.text, " {name}=\"");
        self.escape(place, text)?;
        self.text.push('"');
        Ok(())
    }

    /// The text, so that it stays a text and keeps its line ends.
    fn escape(&mut self, place: &Place<'_>, text: &str) -> Result<(), String> {
        for c in text.chars() {
            match c {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\t' | '\n' | '\r' => {
                    let _ = write!(self.text, "&#{};", u32::from(c));
                }
                c if (c < ' ') || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                    return Err(format!(
                        "`{place}` has the character U+{:04X} in it, which no XML can have",
                        u32::from(c)
                    ));
                }
                c => self.text.push(c),
            }
        }
        Ok(())
    }
}

fn check_name(place: &Place<'_>, name: &str) -> Result<(), String> {
    if is_xml_name(name) {
        return Ok(());
    }
    Err(format!("`{place}` is no name that an element of XML can have"))
}
