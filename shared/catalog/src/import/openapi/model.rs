//! What is kept of an operation: all that is needed to write its request, and the schema of its arguments.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};
use url::Url;

use crate::schema::InputSchema;
use toolfleet_core::definition::DefinitionDigest;

/// An HTTP method that an operation may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// OPTIONS.
    Options,
    /// QUERY (OpenAPI 3.2).
    Query,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// POST.
    Post,
    /// PATCH.
    Patch,
}

impl Method {
    /// Its name in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Query => "QUERY",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Post => "POST",
            Self::Patch => "PATCH",
        }
    }

    /// Whether it only reads (RFC 9110, section 9.2.1).
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Query => true,
            Self::Put | Self::Delete | Self::Post | Self::Patch => false,
        }
    }

    /// Whether several equal requests have the effect of one (RFC 9110, section 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Query | Self::Put | Self::Delete => true,
            Self::Post | Self::Patch => false,
        }
    }

    /// The method of a field of a path item.
    pub(super) fn of_field(field: &str) -> Option<Self> {
        Some(match field {
            "get" => Self::Get,
            "head" => Self::Head,
            "options" => Self::Options,
            "query" => Self::Query,
            "put" => Self::Put,
            "delete" => Self::Delete,
            "post" => Self::Post,
            "patch" => Self::Patch,
            _ => return None,
        })
    }
}

/// Where a parameter stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
    /// In the header `Cookie`.
    Cookie,
}

impl Location {
    /// Its word in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `a,b`: RFC 6570, section 3.2.2.
    Simple,
    /// `.a,b`: RFC 6570, section 3.2.5.
    Label,
    /// `;p=a,b`: RFC 6570, section 3.2.7.
    Matrix,
    /// `p=a,b`: RFC 6570, section 3.2.8.
    Form,
    /// `p=a%20b`.
    SpaceDelimited,
    /// `p=a%7Cb`.
    PipeDelimited,
    /// `p=a%09b`: `collectionFormat: tsv` of OpenAPI 2.0.
    TabDelimited,
    /// `p[key]=value`.
    DeepObject,
    /// `p=a; p=b` without percent-encoding: the style `cookie` of OpenAPI 3.2.
    Cookie,
}

/// A style with what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The style.
    pub style: Style,
    /// Whether each item and each member is written by itself.
    pub explode: bool,
    /// Whether reserved characters are written as they are (`allowReserved`).
    pub allow_reserved: bool,
}

/// How a parameter is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterForm {
    /// By a style.
    Styled(Encoding),
    /// As a text of one media type (`content`): JSON, or a string as it is.
    Content {
        /// Whether it is JSON.
        json: bool,
    },
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name among the arguments.
    pub argument: String,
    /// Its name in the request.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// Whether the document requires it.
    pub required: bool,
    /// How it is written.
    pub form: ParameterForm,
}

/// The body of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its name among the arguments.
    pub argument: String,
    /// The name of the argument that chooses the media type, where there are several.
    pub type_argument: Option<String>,
    /// Whether the document requires it.
    pub required: bool,
    /// Its media types; the first is sent unless the caller chooses.
    pub media: Vec<Media>,
}

/// A media type of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// How the value is written.
    pub kind: MediaKind,
}

/// How a body is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    /// As JSON.
    Json,
    /// As `application/x-www-form-urlencoded`, by the encodings of its fields.
    Form(BTreeMap<String, Field>),
    /// As `multipart/form-data`, by the encodings of its fields.
    Multipart(BTreeMap<String, Field>),
    /// As XML, by the XML Objects of its schema.
    Xml(XmlBody),
    /// A string, as it is.
    Text,
    /// Bytes: a string in UTF-8, or `{"base64": ".."}`.
    Bytes,
}

/// A body in XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmlBody {
    /// Its root element, which has a name.
    pub root: Arc<XmlElement>,
    /// What `same_as` refers to.
    pub shared: SharedElements,
}

/// The elements that bodies of a document share, by their references.
pub(super) type SharedElements = Arc<BTreeMap<String, XmlElement>>;

/// How a value is written as XML. What the document does not say is decided by the kind of the value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XmlElement {
    /// The name that the XML Object gives; without it that of the property.
    pub name: Option<String>,
    /// The prefix of the name.
    pub prefix: Option<String>,
    /// The namespace of the name.
    pub namespace: Option<String>,
    /// Whether it is an attribute.
    pub attribute: bool,
    /// Whether a list has an element around its items.
    pub wrapped: bool,
    /// The members of an object.
    pub members: BTreeMap<String, Self>,
    /// The items of a list.
    pub items: Option<Box<Self>>,
    /// The shared element that says what this one does not.
    pub same_as: Option<String>,
}

impl XmlElement {
    /// Whether the document says nothing of its name.
    pub(super) const fn is_unnamed(&self) -> bool {
        self.name.is_none()
            && self.prefix.is_none()
            && self.namespace.is_none()
            && !self.attribute
            && !self.wrapped
    }
}

/// How a field of a form is written. A field of which nothing is said is written by the kind of its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Field {
    /// Its media type.
    pub content_type: Option<String>,
    /// Its style.
    pub encoding: Option<Encoding>,
    /// Whether it is a file.
    pub binary: bool,
}

/// The schemas that operations of a document share. They refer to one another by their places here.
pub(super) type SharedSchemas = Arc<[SharedSchema]>;

/// One of them.
pub(super) struct SharedSchema {
    /// Its name below `$defs`.
    pub(super) name: String,
    pub(super) schema: Value,
    /// What it refers to itself.
    pub(super) refers_to: Vec<u32>,
}

/// An operation of a document, as a tool.
pub struct Operation {
    /// The tool's name.
    pub name: String,
    /// Its method.
    pub method: Method,
    /// Its path template, as in `/pets/{petId}`.
    pub path: String,
    /// The `operationId`.
    pub id: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Summary and description.
    pub description: Option<String>,
    /// What its path is appended to.
    pub base: Url,
    /// The value of `Accept`.
    pub accept: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its body.
    pub body: Option<Body>,
    /// The schema of its arguments without `$defs`.
    pub(super) schema: Map<String, Value>,
    /// The shared schemas that it refers to itself.
    pub(super) refers_to: Vec<u32>,
    pub(super) shared: SharedSchemas,
    pub(super) kept: OnceLock<InputSchema>,
    pub(super) kept_definition: OnceLock<DefinitionDigest>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({} = {} {})", self.name, self.method.as_str(), self.path)
    }
}

impl Operation {
    /// The JSON Schema (2020-12) of its arguments.
    pub fn arguments(&self) -> Value {
        let mut schema = self.schema.clone();
        let defs = self.shared_schemas();
        if !defs.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(defs));
        }
        Value::Object(schema)
    }

    /// The shared schemas that it refers to, directly or through others.
    fn shared_schemas(&self) -> Map<String, Value> {
        let (mut defs, mut seen) = (Map::new(), HashSet::new());
        let mut waiting: Vec<&u32> = self.refers_to.iter().collect();
        while let Some(at) = waiting.pop() {
            let one = usize::try_from(*at).ok().and_then(|at| self.shared.get(at));
            if let Some(one) = one.filter(|_| seen.insert(*at)) {
                defs.insert(one.name.clone(), one.schema.clone());
                waiting.extend(&one.refers_to);
            }
        }
        defs
    }

    /// The same, to be compiled. It is made once.
    pub fn input_schema(&self) -> &InputSchema {
        self.kept.get_or_init(|| InputSchema::unchecked(&self.arguments()))
    }

    /// The digest of its definition. It is made once.
    pub fn definition(&self) -> &DefinitionDigest {
        self.kept_definition.get_or_init(|| DefinitionDigest::of(&self.listed()))
    }

    /// The tool as an MCP server would list it.
    pub fn listed(&self) -> Value {
        let mut tool = json!({
            "name": self.name,
            "inputSchema": self.arguments(),
            "annotations": {
                "readOnlyHint": self.method.is_safe(),
                "idempotentHint": self.method.is_idempotent(),
                "destructiveHint": !self.method.is_safe(),
                "openWorldHint": true,
            },
            "_meta": { "openapi": { "method": self.method.as_str(), "path": self.path, "url": self.base.as_str() } },
        });
        if let (Some(text), Some(fields)) = (&self.description, tool.as_object_mut()) {
            fields.insert("description".to_owned(), Value::from(text.as_str()));
        }
        tool
    }
}
