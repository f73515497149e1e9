//! The name of an operation as a tool: its `operationId`, else method and path, in the characters that all models take.

use std::collections::HashMap;

use super::model::Method;
use toolfleet_core::digest::Digest;

/// The longest name of a tool that every model takes.
const MOST_CHARS: usize = 64;
/// How many characters of a digest tell apart what would have one name.
const MARK_CHARS: usize = 8;

/// Where an operation stands, and what its author calls it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) id: Option<&'a str>,
}

/// The names of operations, in their order. A name depends on the operations of the document alone, not on their order.
pub(super) fn names(places: &[Place<'_>]) -> Vec<String> {
    let wanted: Vec<(String, bool)> = places.iter().map(wanted).collect();
    let mut count: HashMap<&str, usize> = HashMap::new();
    for (name, _) in &wanted {
        *count.entry(name.as_str()).or_default() += 1;
    }
    let of = |(place, (name, cut)): (&Place<'_>, &(String, bool))| {
        let is_taken = count.get(name.as_str()).is_some_and(|count| *count > 1);
        if is_taken || *cut { marked(name, place) } else { name.clone() }
    };
    places.iter().zip(&wanted).map(of).collect()
}

/// The name that an operation would have alone, and whether it had to be cut.
fn wanted(place: &Place<'_>) -> (String, bool) {
    let from_id = place.id.map(plain).filter(|name| !name.is_empty());
    let name = from_id
        .unwrap_or_else(|| plain(&format!("{}_{}", place.method.as_str().to_ascii_lowercase(), place.path)));
    let cut: String = name.chars().take(MOST_CHARS).collect();
    let is_cut = cut.len() < name.len();
    (cut, is_cut)
}

/// The text in letters, digits, `_` and `-`; whatever else stands in it becomes one `_`.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name.trim_matches('_').to_owned()
}

/// The name with a mark of the operation's place behind it.
fn marked(name: &str, place: &Place<'_>) -> String {
    let digest = Digest::of_text(&format!("{} {}", place.method.as_str(), place.path));
    let kept: String = name.chars().take(MOST_CHARS - MARK_CHARS - 1).collect();
    format!("{}_{}", kept.trim_end_matches('_'), digest.short(MARK_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(method: Method, path: &'a str, id: Option<&'a str>) -> Place<'a> {
        Place { method, path, id }
    }

    #[test]
    fn a_name_is_the_operation_id_or_method_and_path() {
        let named = names(&[
            place(Method::Get, "/pets", Some("listPets")),
            place(Method::Get, "/repos/{owner}", Some("repos/get")),
            place(Method::Delete, "/pets/{petId}", None),
            place(Method::Get, "/", None),
            place(Method::Post, "/ä", Some("  ")),
        ]);
        assert_eq!(named, ["listPets", "repos_get", "delete_pets_petId", "get", "post"]);
    }

    #[test]
    fn equal_names_get_a_mark_that_does_not_depend_on_order() {
        let places = [
            place(Method::Get, "/a", Some("x y")),
            place(Method::Get, "/b", Some("x.y")),
            place(Method::Get, "/c", None),
        ];
        let named = names(&places);
        assert!(named[0].starts_with("x_y_") && named[0].len() == 12 && named[0] != named[1], "{named:?}");
        let reversed: Vec<_> = places.into_iter().rev().collect();
        assert_eq!(names(&reversed).into_iter().rev().collect::<Vec<_>>(), named);
    }

    #[test]
    fn a_long_name_is_cut_to_64_characters_with_a_mark() {
        let long = "x".repeat(100);
        let named = names(&[place(Method::Get, "/a", Some(&long)), place(Method::Put, "/a", Some(&long))]);
        assert!(named.iter().all(|name| name.len() == 64) && named[0] != named[1], "{named:?}");
    }
}
