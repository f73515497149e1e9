//! [`Reason`]: why an operation of a document is no tool.

use std::fmt;

/// Why an operation is left out, or a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A word for programs: `filtered`, `external_ref`, `broken_ref`, `unsupported_body`, `unsupported_parameter`, `unsupported_method`,
    /// `unsupported_schema`, `other_server`, `credential`, `too_large` or `invalid`.
    pub code: &'static str,
    /// What is in the way, and the remedy where there is one.
    pub text: String,
}

impl Reason {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new("invalid", text)
    }

    pub(super) fn external(reference: &str) -> Self {
        let text = format!(
            "refers to another document ({}), which is not fetched; bundle the documents into one",
            shown(reference)
        );
        Self::new("external_ref", text)
    }

    pub(super) fn broken(reference: &str) -> Self {
        Self::new("broken_ref", format!("refers to {}, which the document does not have", shown(reference)))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The longest text of a document that an error repeats.
const SHOWN_CHARS: usize = 120;

/// A text of a document for an error: a document holds no secrets, but it may hold anything else.
pub(super) fn shown(text: &str) -> String {
    let printed = |c: char| if c.is_control() || c == '`' { ' ' } else { c };
    let start: String = text.chars().take(SHOWN_CHARS).map(printed).collect();
    let rest = if start.len() < text.len() { ".." } else { "" };
    format!("`{start}{rest}`")
}
