//! The errors of reading a template.

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
