//! Owns the memory of every secret text that was used, in the forms in which it may come back.
//!
//! **Invariant:** it is bounded, and it does not print.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use toolfleet_core::redact::REDACTED;

/// Texts remembered; beyond it the longest unused are forgotten.
const MAX: usize = 64;
/// Shorter texts stand in too many innocent words.
const MIN_BYTES: usize = 6;

/// A text that was used, and whether it is a secret for certain.
#[derive(Clone, PartialEq, Eq)]
struct Used {
    text: String,
    certain: bool,
}

/// The secret texts that were used.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Arc<Vec<Used>>>);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen([redacted])")
    }
}

impl Seen {
    /// Remembers a secret, as it is and as JSON writes it.
    pub(crate) fn add(&self, text: &str) {
        self.remember(text, true);
    }

    /// Remembers a text that may be a secret: it is taken out of faults, but no tool's result is changed for it.
    pub(crate) fn suspect(&self, text: &str) {
        self.remember(text, false);
    }

    fn remember(&self, text: &str, certain: bool) {
        if text.len() < MIN_BYTES {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |used: &Used| used.text == text && used.certain >= certain;
        // What was used in the past half is not moved: it is in no danger of being forgotten.
        if known.iter().rev().take(MAX / 2).any(same) {
            return;
        }
        let known = Arc::make_mut(&mut known);
        let escaped = serde_json::Value::from(text).to_string();
        let escaped = escaped.get(1..escaped.len().saturating_sub(1)).unwrap_or_default();
        for form in [escaped, text] {
            let before = known.iter().position(|old| old.text == form).map(|at| known.remove(at));
            let certain = certain || before.is_some_and(|before| before.certain);
            known.push(Used { text: form.to_owned(), certain });
        }
        let over = known.len().saturating_sub(MAX);
        known.drain(..over);
    }

    /// Whether a secret stands in the text.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        self.all().iter().any(|used| used.certain && text.contains(used.text.as_str()))
    }

    /// The text without any of them.
    pub(crate) fn scrub(&self, text: String) -> String {
        self.without(text, |_| true)
    }

    /// The text without what is a secret for certain.
    pub(crate) fn scrub_certain(&self, text: String) -> String {
        self.without(text, |used| used.certain)
    }

    fn without(&self, text: String, counts: impl Fn(&Used) -> bool) -> String {
        let known = self.all();
        let standing = |used: &&Used| counts(used) && text.contains(used.text.as_str());
        let mut secrets: Vec<&str> = known.iter().filter(standing).map(|used| used.text.as_str()).collect();
        // The longest first, so that no part of one is left where a shorter one stands within it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text, |text, secret| text.replace(secret, REDACTED))
    }

    fn all(&self) -> Arc<Vec<Used>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_scrubbed_as_it_is_as_json_writes_it_and_before_a_shorter_one_within_it() {
        let seen = Seen::default();
        seen.add("hunter");
        seen.add("hunter-\"two\"");
        let scrubbed = seen.scrub(r#"raw hunter-"two" json hunter-\"two\" short hunter"#.to_owned());
        assert_eq!(scrubbed, "raw [redacted] json [redacted] short [redacted]");
        assert_eq!(format!("{seen:?}"), "Seen([redacted])");
    }

    #[test]
    fn what_is_only_suspect_changes_no_result() {
        let seen = Seen::default();
        seen.suspect("platform");
        assert!(!seen.stands_in("the platform team"));
        assert_eq!(seen.scrub_certain("the platform team".to_owned()), "the platform team");
        assert_eq!(seen.scrub("the platform team".to_owned()), "the [redacted] team");
    }

    #[test]
    fn it_forgets_the_longest_unused_beyond_its_bound() {
        let seen = Seen::default();
        for n in 0..1000 {
            seen.add(&format!("secret-{n}"));
            seen.add("the-one-in-use");
        }
        assert!(seen.stands_in("secret-999") && seen.all().len() <= MAX);
        assert!(seen.stands_in("the-one-in-use") && !seen.stands_in("secret-100"));
    }
}
