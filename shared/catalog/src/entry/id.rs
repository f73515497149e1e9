//! Makes a server's id from its name.

use toolfleet_core::ids::ServerId;

/// A server's id, made of the name that another program's file gives it, and unlike those `taken` before.
pub(crate) fn id_of(name: &str, taken: &[String]) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let clean: String = name.trim().chars().map(fits).take(56).collect();
    let clean = clean.trim_matches('-');
    let clean = if clean.is_empty() { "server" } else { clean }.to_owned();
    let is_free = |id: &String| !taken.contains(id) && ServerId::parse(id.as_str()).is_ok();
    std::iter::once(clean.clone())
        .chain((2..=taken.len() + 2).map(|n| format!("{clean}-{n}")))
        .find(is_free)
        .unwrap_or(clean)
}
