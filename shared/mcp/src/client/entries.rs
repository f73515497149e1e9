//! Splits a listing's result into its entries and writes a part of it.
//!
//! **Invariant:** entries and other members keep their bytes and their order.

use serde_json::value::RawValue;
use toolfleet_core::request::Operation;

use crate::client::members::{Members, NEXT_CURSOR, member_of};
use crate::fault::Fault;
use crate::fault::invalid;

/// A listing's result whose entries can be given in parts.
#[derive(Debug)]
pub struct Entries {
    list: &'static str,
    /// The other members, in their order; the list stands where its value is nothing.
    members: Vec<(String, Option<Box<RawValue>>)>,
    entries: Vec<Box<RawValue>>,
    next: Option<Box<RawValue>>,
}

impl Entries {
    /// Of the result of such a listing.
    pub fn of(result: &RawValue, operation: Operation) -> Result<Self, Fault> {
        let list = member_of(operation);
        let read = Members::of(result)?;
        let entries = read.entries(list)?.into_iter().map(ToOwned::to_owned).collect();
        let next = read.get(NEXT_CURSOR).map(ToOwned::to_owned);
        let others = read.0.into_iter().filter(|(name, _)| name != NEXT_CURSOR);
        let members = others.map(|(name, value)| {
            let value = (name != list).then(|| value.to_owned());
            (name, value)
        });
        Ok(Self { list, members: members.collect(), entries, next })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The text of an entry.
    pub fn text(&self, at: usize) -> Option<&str> {
        self.entries.get(at).map(|entry| entry.get())
    }

    /// The end of the longest part from `from` on whose result has at most `most_bytes`, room for a cursor included; one entry at least.
    pub fn end_within(&self, from: usize, most_bytes: usize) -> usize {
        let named = |(name, value): &(String, Option<Box<RawValue>>)| {
            name.len().saturating_add(8).saturating_add(value.as_ref().map_or(0, |value| value.get().len()))
        };
        let mut bytes = self.members.iter().map(named).fold(MOST_CURSOR_BYTES, usize::saturating_add);
        let mut end = from;
        for entry in self.entries.get(from..).unwrap_or_default() {
            bytes = bytes.saturating_add(entry.get().len()).saturating_add(1);
            if bytes > most_bytes && end > from {
                break;
            }
            end = end.saturating_add(1);
        }
        end
    }

    /// The result with the entries from `from` to before `end` alone. It goes on at `next`; without it, and where the last entry is among
    /// them, where the server said.
    pub fn part(&self, from: usize, end: usize, next: Option<&str>) -> Result<Box<RawValue>, Fault> {
        let entries = self.entries.get(from..end).unwrap_or_default();
        let list = entries.iter().map(|entry| entry.get()).collect::<Vec<_>>().join(",");
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut written: Vec<String> = Vec::with_capacity(self.members.len().saturating_add(1));
        for (name, value) in &self.members {
            match value {
                None if name == self.list => written.push(format!("{}:[{list}]", quoted(name))),
                None => {}
                Some(value) => written.push(format!("{}:{}", quoted(name), value.get())),
            }
        }
        let own = self.next.as_ref().map(|next| next.get().to_owned());
        let next = next.map(quoted).or(own);
        written.extend(next.map(|next| format!("\"{NEXT_CURSOR}\":{next}")));
        RawValue::from_string(format!("{{{}}}", written.join(",")))
            .map_err(|error| invalid("a listing", &error.to_string()))
    }
}

/// Room that is left for a cursor.
const MOST_CURSOR_BYTES: usize = 6 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        let text =
            r#"{"ttlMs": 5,"tools":[{"name":"a","n":1.0},{"name":"b"},{"name":"c"}],"nextCursor":"theirs"}"#;
        Entries::of(&RawValue::from_string(text.to_owned()).unwrap(), Operation::ToolsList).unwrap()
    }

    #[test]
    fn a_part_holds_whole_entries_and_says_where_the_list_goes_on() {
        let entries = entries();
        let part = |from, end, next| entries.part(from, end, next).unwrap().get().to_owned();
        assert_eq!(
            part(0, 1, Some("ours")),
            r#"{"ttlMs":5,"tools":[{"name":"a","n":1.0}],"nextCursor":"ours"}"#
        );
        assert_eq!(
            part(1, 3, None),
            r#"{"ttlMs":5,"tools":[{"name":"b"},{"name":"c"}],"nextCursor":"theirs"}"#
        );
        assert_eq!(entries.text(1), Some(r#"{"name":"b"}"#));
    }

    #[test]
    fn a_part_is_as_long_as_the_bound_allows_and_never_empty() {
        let entries = entries();
        assert_eq!(entries.end_within(0, 1_000_000), 3);
        assert_eq!(entries.end_within(0, MOST_CURSOR_BYTES + 70), 2);
        assert_eq!(entries.end_within(1, 0), 2);
    }
}
