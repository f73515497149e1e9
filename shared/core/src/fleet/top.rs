//! Keeps the most important entries of a map, so that what is stored has a bound.

use std::collections::BTreeMap;

/// Removes all entries but the `most` with the highest weight, and returns those that were removed. Equal weights are decided by the
/// key.
pub fn busiest<K: Ord + Clone, V, W: Ord>(
    entries: &mut BTreeMap<K, V>,
    most: usize,
    weight: impl Fn(&V) -> W,
) -> BTreeMap<K, V> {
    if entries.len() <= most {
        return BTreeMap::new();
    }
    let mut order: Vec<_> =
        entries.iter().map(|(key, value)| (std::cmp::Reverse(weight(value)), key.clone())).collect();
    order.sort();
    order.into_iter().skip(most).filter_map(|(_, key)| entries.remove_entry(&key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_entries_are_kept() {
        let mut entries = BTreeMap::from([("a", 1), ("b", 3), ("c", 3), ("d", 2)]);
        let rest = busiest(&mut entries, 2, |weight| *weight);
        assert_eq!(entries.keys().copied().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(rest, BTreeMap::from([("a", 1), ("d", 2)]));
        assert!(busiest(&mut entries, 2, |weight| *weight).is_empty());
    }
}
