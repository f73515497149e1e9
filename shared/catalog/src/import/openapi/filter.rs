//! Which operations of a document are wanted: by tag, path and operation.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::model::Method;
use super::reason::{Reason, shown};
/// What names operations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Their tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Their paths; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The operations: `operationId`, the tool's name, or method and path as in `GET /pets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
}

/// Which operations are wanted: those that `include` names (all, where it names none) without those that `exclude` names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// What is taken.
    pub include: Selection,
    /// What is left out of it.
    pub exclude: Selection,
}

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) name: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) tags: &'a [String],
}

impl Selection {
    /// One that names nothing.
    pub const fn none() -> Self {
        Self { tags: Vec::new(), paths: Vec::new(), operations: Vec::new() }
    }

    /// Whether it names nothing.
    pub const fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.paths.is_empty() && self.operations.is_empty()
    }

    /// Whether it names the operation. What of it named one is kept in `used`.
    fn names<'a>(&'a self, seen: &Seen<'_>, used: &mut HashSet<(&'static str, &'a str)>) -> bool {
        let mut found = false;
        let mut note = |kind, text: &'a str| {
            used.insert((kind, text));
            found = true;
        };
        for tag in self.tags.iter().filter(|tag| seen.tags.contains(tag)) {
            note("tags", tag);
        }
        for path in self.paths.iter().filter(|path| fits(path, seen.path)) {
            note("paths", path);
        }
        let with_method = format!("{} {}", seen.method.as_str(), seen.path);
        for operation in &self.operations {
            if operation == seen.name || Some(operation.as_str()) == seen.id || *operation == with_method {
                note("operations", operation);
            }
        }
        found
    }

    /// What of it has named nothing, as in `include.tags` and the tag.
    fn unused<'a>(
        &'a self,
        side: &'a str,
        used: &'a HashSet<(&'static str, &'a str)>,
    ) -> impl Iterator<Item = (String, &'a str)> {
        let all = [("tags", &self.tags), ("paths", &self.paths), ("operations", &self.operations)];
        let each =
            all.into_iter().flat_map(|(kind, texts)| texts.iter().map(move |text| (kind, text.as_str())));
        each.filter(move |one| !used.contains(one)).map(move |(kind, text)| (format!("{side}.{kind}"), text))
    }
}

/// Which operations are not wanted, and what names none.
#[derive(Debug)]
pub(super) struct Applied {
    /// For each operation, why it is not wanted.
    pub(super) unwanted: Vec<Option<Reason>>,
    /// What `include` names that a document of somebody else does not have (any more).
    pub(super) missing: Vec<String>,
}

impl Filter {
    /// Which operations are not wanted. With `is_theirs` the document is somebody else's, who may take an operation away.
    ///
    /// # Errors
    /// It names what the document does not have: a mistake in `exclude` would offer what was to be left out.
    pub(super) fn apply(&self, all: &[Seen<'_>], is_theirs: bool) -> Result<Applied, Reason> {
        let (mut included, mut excluded) = (HashSet::new(), HashSet::new());
        let mut of = |seen: &Seen<'_>| {
            let is_in = self.include.names(seen, &mut included) || self.include.is_empty();
            let is_out = self.exclude.names(seen, &mut excluded);
            let why = match (is_in, is_out) {
                (_, true) => "is named by `exclude`",
                (false, false) => "is not named by `include`",
                (true, false) => return None,
            };
            Some(Reason::new("filtered", why))
        };
        let unwanted = all.iter().map(&mut of).collect();
        let mut included = self.include.unused("include", &included).peekable();
        let mut excluded = self.exclude.unused("exclude", &excluded);
        let refused = included.next_if(|_| !is_theirs).or_else(|| excluded.next());
        if let Some((field, text)) = refused {
            return Err(Reason::invalid(format!(
                "has no operation that `{field}` names with {}; correct it or leave it out",
                shown(text)
            )));
        }
        let missing = included.map(|(field, text)| format!("`{field}` names {}", shown(text))).collect();
        Ok(Applied { unwanted, missing })
    }
}

/// Whether the path is one that the pattern describes; `*` stands for any characters, also none.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == path;
    };
    let Some(mut left) = path.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_path_stands_for_any_characters() {
        for (pattern, path, is_fit) in [
            ("/pets", "/pets", true),
            ("/pets", "/pets/{id}", false),
            ("/pets*", "/pets", true),
            ("/pets/*", "/pets", false),
            ("/*/issues", "/repos/{r}/issues", true),
            ("/*/issues", "/repos/{r}/issues/{i}", false),
            ("*a*b*", "/xaxbx", true),
            ("*a*b*", "/xbxax", false),
            ("/a*a", "/a", false),
        ] {
            assert_eq!(fits(pattern, path), is_fit, "{pattern} {path}");
        }
    }
}
