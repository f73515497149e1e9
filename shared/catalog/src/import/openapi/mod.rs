//! Reads an OpenAPI document (2.0, 3.0, 3.1; 3.2 as far as it says the same) into operations, each of which is a tool.
//!
//! An operation that cannot be called is left out with a reason: none is lost without one. Nothing is fetched: a reference to another
//! document is such a reason; one by the name of the document's own file is none. A schema is referred to and never copied into another, so cycles stay
//! cycles; what is read again for each operation has a bound (`work`).
//!
//! Sources: OpenAPI 2.0, 3.0.4, 3.1.1 and 3.2.0 (<https://spec.openapis.org/oas/>).

mod base;
mod body;
mod document;
mod filter;
mod given;
mod media;
mod model;
mod names;
mod operations;
mod parameters;
mod read;
mod read_only;
mod reason;
mod schemas;
mod security;
mod sound;
mod work;
mod xml;

pub use document::{Document, LeftOut, ReadOptions};
pub use filter::{Filter, Selection};
pub use given::Given;
pub use model::{
    Body, Encoding, Field, Location, Media, MediaKind, Method, Operation, Parameter, ParameterForm, Style,
    XmlBody, XmlElement,
};
pub(crate) use read::value_of;
pub use read::{MOST_BYTES, read};
pub use reason::Reason;
pub use xml::is_name as is_xml_name;

#[cfg(test)]
mod tests;
