//! A page of a list that is in memory.

use std::ops::Range;

use crate::link::Link;
use crate::query::Query;

/// A page of a list, with the way to its neighbours.
#[derive(Debug, Clone)]
pub(crate) struct PageOf<T> {
    pub(crate) items: Vec<T>,
    /// Which of all, for people: `51 to 100 of 1,000`.
    pub(crate) range: String,
    pub(crate) newer: Option<String>,
    pub(crate) older: Option<String>,
}

/// The page that the address asks for, counted from 1, and the last one, which stands for every later one.
fn number(total: usize, query: &Query, size: usize) -> (usize, usize) {
    let last = total.div_ceil(size.max(1)).max(1);
    let asked = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize);
    (asked.clamp(1, last), last)
}

/// The indexes of that page in a list of so many.
pub(crate) fn indexes(total: u32, query: &Query, size: usize) -> Range<u32> {
    let (page, _) = number(usize::try_from(total).unwrap_or(usize::MAX), query, size);
    let index = |at: usize| u32::try_from(at).unwrap_or(total).min(total);
    index((page - 1) * size)..index(page * size)
}

impl<T> PageOf<T> {
    /// The page that the address asks for. `link` is the address without it.
    pub(crate) fn of(all: Vec<T>, query: &Query, size: usize, link: &Link) -> Self {
        let total = all.len();
        let (page, last) = number(total, query, size);
        let first = (page - 1) * size;
        let items: Vec<T> = all.into_iter().skip(first).take(size).collect();
        let count = |number: usize| crate::numbers::count(u64::try_from(number).unwrap_or(u64::MAX));
        let range = match total {
            0 => "none".to_owned(),
            _ => format!("{} to {} of {}", count(first + 1), count(first + items.len()), count(total)),
        };
        let at = |page: usize| link.clone().with("page", page.to_string()).text();
        Self {
            items,
            range,
            newer: (page > 1).then(|| at(page - 1)),
            older: (page < last).then(|| at(page + 1)),
        }
    }

    /// The same page with each item made into another.
    pub(crate) fn map<U>(self, make: impl FnMut(T) -> U) -> PageOf<U> {
        let Self { items, range, newer, older } = self;
        PageOf { items: items.into_iter().map(make).collect(), range, newer, older }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> PageOf<usize> {
        PageOf::of((0..101).collect(), &Query::parse(query), 50, &Link::to("/x").with("q", "a b"))
    }

    #[test]
    fn a_page_knows_its_neighbours() {
        let first = page("");
        assert_eq!((first.items.len(), first.range.as_str()), (50, "1 to 50 of 101"));
        assert_eq!((first.newer, first.older.as_deref()), (None, Some("/x?q=a+b&page=2")));
        let last = page("page=3");
        assert_eq!(
            (last.items.as_slice(), last.range.as_str(), last.older),
            (&[100][..], "101 to 101 of 101", None)
        );
        assert_eq!(page("page=99").items, [100]);
        assert_eq!(page("page=0").items[0], 0);
        for (query, expected) in [("", 0..50), ("page=3", 100..101), ("page=99", 100..101), ("page=x", 0..50)]
        {
            assert_eq!(indexes(101, &Query::parse(query), 50), expected, "{query}");
        }
        assert_eq!(PageOf::of(Vec::<u8>::new(), &Query::default(), 50, &Link::to("/")).range, "none");
    }
}
