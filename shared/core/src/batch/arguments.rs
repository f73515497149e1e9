//! The arguments of calls that are sent together: what each call gives for the list, and what all of them have in common.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// The arguments of one call, parted.
#[derive(Debug, Clone)]
pub struct Parted {
    /// The value of the batch's argument, as it was written.
    pub element: Box<RawValue>,
    /// The other arguments as a text. Calls are sent together only if these are equal, byte for byte.
    pub others: String,
}

impl Parted {
    /// The arguments of a call, if they have that argument.
    pub fn of(arguments: &RawValue, argument: &str) -> Option<Self> {
        let mut all: BTreeMap<String, Box<RawValue>> = serde_json::from_str(arguments.get()).ok()?;
        let element = all.remove(argument)?;
        Some(Self { element, others: serde_json::to_string(&all).ok()? })
    }
}

/// The arguments of a request for all calls: the others once, and the list of the elements in the place of the argument.
pub fn joined<'a>(
    others: &str,
    argument: &str,
    elements: impl Iterator<Item = &'a RawValue>,
) -> Option<Box<RawValue>> {
    let mut all: BTreeMap<String, Box<RawValue>> = serde_json::from_str(others).ok()?;
    let elements: Vec<_> = elements.collect();
    all.insert(argument.to_owned(), to_raw_value(&elements).ok()?);
    to_raw_value(&all).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn elements_keep_the_text_that_their_callers_wrote() {
        let first = Parted::of(&raw(r#"{"units": "C", "city": 1.50e1}"#), "city").unwrap();
        let second = Parted::of(&raw(r#"{"city":{"b":1, "a":2},"units":"C"}"#), "city").unwrap();
        assert_eq!(first.others, second.others);
        let whole = joined(&first.others, "city", [&*first.element, &*second.element].into_iter()).unwrap();
        assert_eq!(whole.get(), r#"{"city":[1.50e1,{"b":1, "a":2}],"units":"C"}"#);
    }

    #[test]
    fn arguments_without_the_argument_have_no_part() {
        assert!(Parted::of(&raw("{}"), "city").is_none());
        assert!(Parted::of(&raw(r#"{"order":{"city":1}}"#), "city").is_none());
    }

    proptest! {
        #[test]
        fn a_list_has_each_element_at_its_place(values in prop::collection::vec(".{0,8}", 1..20), other in ".{0,8}") {
            let calls: Vec<_> = values
                .iter()
                .map(|value| {
                    let arguments = serde_json::json!({"a": other, "of": value});
                    Parted::of(&raw(&arguments.to_string()), "of").unwrap()
                })
                .collect();
            let whole = joined(&calls[0].others, "of", calls.iter().map(|call| &*call.element)).unwrap();
            let whole: serde_json::Value = serde_json::from_str(whole.get()).unwrap();
            prop_assert_eq!(whole, serde_json::json!({"a": other, "of": values}));
        }
    }
}
