//! Names that are nearest to one that was mistyped.

/// How many names are offered.
const OFFERED: usize = 3;

/// The names that are nearest to that one, at most three, the nearest first; those that have little in common with it are left out.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let most = (name.chars().count() / 2).max(2);
    let mut found: Vec<_> = known
        .into_iter()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= most || known.contains(name) || name.contains(known))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(OFFERED).map(|(_, known)| known).collect()
}

/// How many characters have to be changed, added or taken away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let least = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, least);
            left = least;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_in_changed_characters() {
        for (a, b, count) in
            [("", "abc", 3), ("abc", "abc", 0), ("wether", "weather", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), count, "{a} {b}");
            assert_eq!(distance(b, a), count, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_names_come_first_and_strange_ones_not_at_all() {
        let known = ["weather", "maps/geocode", "feather", "zzzzzzzzzz"];
        assert_eq!(nearest("wether", known), ["weather", "feather"]);
        assert_eq!(nearest("geocode", known), ["maps/geocode"]);
        assert!(nearest("payments", known).is_empty());
    }
}
