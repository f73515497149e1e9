//! What the endpoints create at start, and why a template cannot be used.

use std::collections::BTreeMap;

use serde_json::Value;

/// A bucket to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSpec {
    /// The physical name.
    pub name: String,
}

/// A queue to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSpec {
    /// The physical name.
    pub name: String,
    /// Attributes as `CreateQueue` takes them.
    pub attributes: BTreeMap<String, String>,
}

/// A table to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSpec {
    /// The physical name.
    pub name: String,
    /// The body of a `CreateTable` request.
    pub create: Value,
    /// The attribute that holds the time to live, in seconds since 1970.
    pub ttl_attribute: Option<String>,
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is not YAML.
    #[error("the template is not readable YAML")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// A section has not the form CloudFormation asks for.
    #[error("the template's section {section} {problem}")]
    Section {
        /// Name of the section, such as `Resources`.
        section: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A property of a resource cannot be used.
    #[error("resource {resource}, property {property}: {problem}")]
    Property {
        /// Logical name of the resource.
        resource: String,
        /// Path of the property.
        property: String,
        /// What is wrong with it.
        problem: String,
    },
}
