//! Remembers the secrets that were used and scrubs them from text, in every encoding in which a server may repeat them.
//!
//! **Invariant:** the memory is bounded, and it does not print.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use toolfleet_core::redact::REDACTED;

use crate::secret_forms::{MIN_BYTES, forms_of};

/// Texts remembered; beyond it the least recently used are forgotten.
const MAX: usize = 64;
/// The mark of our own truncation, and how many bytes of a secret before it count as one.
const CUT: char = '…';
const MIN_FRAGMENT: usize = 3;

/// A text that was used, and whether it is certainly a secret.
#[derive(Clone)]
struct Used {
    text: Arc<str>,
    certain: bool,
    forms: Arc<[String]>,
}

/// The secret texts that were used.
#[derive(Default)]
pub struct SecretScrubber(Mutex<Arc<Vec<Used>>>);

impl fmt::Debug for SecretScrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretScrubber([redacted])")
    }
}

impl SecretScrubber {
    /// Remembers a secret.
    pub fn add(&self, text: &str) {
        self.remember(text, true);
    }

    /// Remembers a text that may be a secret: it is scrubbed from errors, but not from results of tools.
    pub fn add_suspected(&self, text: &str) {
        self.remember(text, false);
    }

    fn remember(&self, text: &str, certain: bool) {
        if text.len() < MIN_BYTES {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |used: &Used| *used.text == *text && used.certain >= certain;
        // A text in the newer half is not moved: it is not about to be forgotten.
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

    /// Whether the text holds a secret.
    pub fn is_in(&self, text: &str) -> bool {
        self.all().iter().filter(|used| used.certain).any(|used| used.is_in(text))
    }

    /// The text without any of them, nor the beginning of one where the text was truncated.
    pub fn scrub(&self, text: String) -> String {
        let all = self.all();
        let forms = forms(&all, |_| true);
        without_fragments(without(text, &forms), &forms)
    }

    /// The text without what is certainly a secret.
    pub fn scrub_certain(&self, text: String) -> String {
        without(text, &forms(&self.all(), |used| used.certain))
    }

    /// Each form of what is certainly a secret, the longest first.
    pub(crate) fn certain_forms(&self) -> Vec<String> {
        forms(&self.all(), |used| used.certain).into_iter().map(str::to_owned).collect()
    }

    fn all(&self) -> Arc<Vec<Used>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Used {
    fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }
}

/// The forms of all texts that count, the longest first.
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

/// Scrubs the beginning of a secret that a truncation has left.
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

/// How many bytes at the text's end are a prefix of the form.
fn beginning_at_the_end(form: &str, text: &str) -> usize {
    let longest = form.len().min(text.len());
    let begins = |n: &usize| form.get(..*n).is_some_and(|start| text.ends_with(start));
    (MIN_FRAGMENT..=longest).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use toolfleet_egress::sanitize_text;

    #[test]
    fn plain_and_json_forms_are_scrubbed_longest_first() {
        let scrubber = SecretScrubber::default();
        scrubber.add("hunter");
        scrubber.add("hunter-\"two\"");
        let scrubbed = scrubber.scrub(r#"raw hunter-"two" json hunter-\"two\" short hunter"#.to_owned());
        assert_eq!(scrubbed, "raw [redacted] json [redacted] short [redacted]");
        assert_eq!(format!("{scrubber:?}"), "SecretScrubber([redacted])");
    }

    #[test]
    fn no_truncation_leaves_a_part_of_a_secret() {
        let secret = "Zq7-first line\nsecond/line+Zq7";
        let scrubber = SecretScrubber::default();
        scrubber.add(secret);
        for before in 250..320 {
            let text = scrubber.scrub(format!(
                "while asking: {}; nothing was sent",
                sanitize_text(&format!("{}{secret}", "x".repeat(before)))
            ));
            let rest = text.replace(REDACTED, "");
            assert!(!rest.contains("Zq7"), "{before}: {text}");
            assert!(text.ends_with("; nothing was sent"), "{text}");
        }
        assert_eq!(scrubber.scrub("an innocent cut… here".to_owned()), "an innocent cut… here");
    }

    #[test]
    fn a_suspected_secret_is_kept_in_results() {
        let scrubber = SecretScrubber::default();
        scrubber.add_suspected("platform");
        assert!(!scrubber.is_in("the platform team"));
        assert_eq!(scrubber.scrub_certain("the platform team".to_owned()), "the platform team");
        assert_eq!(scrubber.scrub("the platform team".to_owned()), "the [redacted] team");
    }

    #[test]
    fn the_least_recently_used_is_forgotten() {
        let scrubber = SecretScrubber::default();
        for n in 0..1000 {
            scrubber.add("used-all-the-time");
            scrubber.add(&format!("secret-{n}"));
        }
        assert!(scrubber.is_in("secret-999") && !scrubber.is_in("secret-1 "));
        assert!(scrubber.is_in("used-all-the-time") && scrubber.all().len() <= MAX);
    }
}
