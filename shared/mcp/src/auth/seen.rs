//! Owns the memory of every secret text that was used, in the forms in which it may come back.
//!
//! **Invariant:** it is bounded, and it does not print.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use toolfleet_core::redact::REDACTED;

use super::forms::{MIN_BYTES, forms_of};

/// Texts remembered; beyond it the longest unused are forgotten.
const MAX: usize = 64;
/// The mark of our own shortening, and how much of a secret before it is taken for one.
const CUT: char = '…';
const MIN_FRAGMENT: usize = 3;

/// A text that was used, and whether it is a secret for certain.
#[derive(Clone)]
struct Used {
    /// The text itself comes last among its forms.
    text: Arc<str>,
    certain: bool,
    forms: Arc<[String]>,
}

/// The secret texts that were used.
#[derive(Default)]
pub(crate) struct SecretScrubber(Mutex<Arc<Vec<Used>>>);

impl fmt::Debug for SecretScrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretScrubber([redacted])")
    }
}

impl SecretScrubber {
    /// Remembers a secret.
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
        let same = |used: &Used| *used.text == *text && used.certain >= certain;
        // What was used in the past half is not moved: it is in no danger of being forgotten.
        if known.iter().rev().take(MAX / 2).any(same) {
            return;
        }
        let known = Arc::make_mut(&mut known);
        let before = known.iter().position(|used| *used.text == *text).map(|at| known.remove(at));
        let certain = certain || before.as_ref().is_some_and(|before| before.certain);
        let forms = before.map_or_else(|| forms_of(text).into(), |before| before.forms);
        known.push(Used { text: text.into(), certain, forms });
        let over = known.len().saturating_sub(MAX);
        known.drain(..over);
    }

    /// Whether a secret stands in the text.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        self.all().iter().filter(|used| used.certain).any(|used| used.stands_in(text))
    }

    /// A server's words without any of them, nor the beginning of one where the words were cut.
    pub(crate) fn scrub(&self, text: String) -> String {
        let all = self.all();
        let forms = forms(&all, |_| true);
        without_fragments(without(text, &forms), &forms)
    }

    /// The text without what is a secret for certain.
    pub(crate) fn scrub_certain(&self, text: String) -> String {
        without(text, &forms(&self.all(), |used| used.certain))
    }

    fn all(&self) -> Arc<Vec<Used>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Used {
    fn stands_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }
}

/// The forms of all that counts, the longest first.
fn forms(known: &[Used], counts: impl Fn(&Used) -> bool) -> Vec<&str> {
    let counting = known.iter().filter(|used| counts(used));
    let mut forms: Vec<&str> = counting.flat_map(|used| used.forms.iter().map(String::as_str)).collect();
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

fn without(text: String, forms: &[&str]) -> String {
    forms
        .iter()
        .fold(text, |text, form| if text.contains(form) { text.replace(form, REDACTED) } else { text })
}

/// Takes out what a cut has left of a secret.
fn without_fragments(text: String, forms: &[&str]) -> String {
    if !text.contains(CUT) {
        return text;
    }
    let mut pieces = text.split(CUT);
    let last = pieces.next_back().unwrap_or_default();
    let mut whole = String::with_capacity(text.len());
    for piece in pieces {
        let fragment = forms.iter().map(|form| beginning_at_the_end(form, piece)).max().unwrap_or(0);
        whole.push_str(piece.get(..piece.len().saturating_sub(fragment)).unwrap_or_default());
        if fragment > 0 {
            whole.push_str(REDACTED);
        }
        whole.push(CUT);
    }
    whole.push_str(last);
    whole
}

/// How many bytes at the text's end are the beginning of the form.
fn beginning_at_the_end(form: &str, text: &str) -> usize {
    let longest = form.len().min(text.len());
    let begins = |n: &usize| form.get(..*n).is_some_and(|start| text.ends_with(start));
    (MIN_FRAGMENT..=longest).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::shorten;

    #[test]
    fn a_secret_is_scrubbed_as_it_is_as_json_writes_it_and_before_a_shorter_one_within_it() {
        let seen = SecretScrubber::default();
        seen.add("hunter");
        seen.add("hunter-\"two\"");
        let scrubbed = seen.scrub(r#"raw hunter-"two" json hunter-\"two\" short hunter"#.to_owned());
        assert_eq!(scrubbed, "raw [redacted] json [redacted] short [redacted]");
        assert_eq!(format!("{seen:?}"), "SecretScrubber([redacted])");
    }

    #[test]
    fn no_cut_leaves_a_part_of_a_secret_wherever_it_falls() {
        let secret = "Zq7-first line\nsecond/line+Zq7";
        let seen = SecretScrubber::default();
        seen.add(secret);
        for before in 250..320 {
            let words = seen.scrub(format!(
                "while asking: {}; nothing was sent",
                shorten(&format!("{}{secret}", "x".repeat(before)))
            ));
            let rest = words.replace(REDACTED, "");
            assert!(!rest.contains("Zq7"), "{before}: {words}");
            assert!(words.ends_with("; nothing was sent"), "{words}");
        }
        assert_eq!(seen.scrub("an innocent cut… here".to_owned()), "an innocent cut… here");
    }

    #[test]
    fn what_is_only_suspect_changes_no_result() {
        let seen = SecretScrubber::default();
        seen.suspect("platform");
        assert!(!seen.stands_in("the platform team"));
        assert_eq!(seen.scrub_certain("the platform team".to_owned()), "the platform team");
        assert_eq!(seen.scrub("the platform team".to_owned()), "the [redacted] team");
    }

    #[test]
    fn it_forgets_the_longest_unused_beyond_its_bound() {
        let seen = SecretScrubber::default();
        for n in 0..1000 {
            seen.add("used-all-the-time");
            seen.add(&format!("secret-{n}"));
        }
        assert!(seen.stands_in("secret-999") && !seen.stands_in("secret-1 "));
        assert!(seen.stands_in("used-all-the-time") && seen.all().len() <= MAX);
    }
}
