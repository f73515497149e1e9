//! The error of a request: which field is wrong, what was found, and what is accepted.

/// What is wrong with a request: which field, what was found, what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RequestError {
    /// The field's path, `body` where the text as a whole is meant.
    pub field: String,
    /// What was found and what is accepted.
    pub problem: String,
}

/// The error of the field of that name.
pub(super) fn invalid(field: &str, problem: impl Into<String>) -> RequestError {
    RequestError { field: field.to_owned(), problem: problem.into() }
}
