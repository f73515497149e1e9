//! Replaces unpaired surrogates (`"\ud800"`) in JSON, which allows them although no Unicode text can hold them.
//!
//! It is for texts that are only read here. What is delivered or sent stays unchanged.

use std::borrow::Cow;

/// The JSON text with every half of a surrogate pair as U+FFFD.
pub fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\ud") && !json.contains("\\uD") {
        return Cow::Borrowed(json);
    }
    let mut replaced = String::new();
    // Where the part begins that is not yet written.
    let mut from = 0;
    let mut at = 0;
    while let Some(backslash) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let start = at.saturating_add(backslash);
        at = start.saturating_add(2);
        let Some(first) = escape_at(json, start).filter(|unit| is_surrogate(*unit)) else {
            continue;
        };
        at = start.saturating_add(6);
        let second = escape_at(json, at);
        if is_first(first) && second.is_some_and(|second| is_surrogate(second) && !is_first(second)) {
            at = at.saturating_add(6);
            continue;
        }
        replaced.push_str(json.get(from..start).unwrap_or_default());
        replaced.push_str("\\ufffd");
        from = at;
    }
    if from == 0 {
        return Cow::Borrowed(json);
    }
    replaced.push_str(json.get(from..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// The unit that an escape `\uXXXX` at that place stands for.
fn escape_at(json: &str, at: usize) -> Option<u16> {
    let escape = json.get(at..at.checked_add(6)?)?;
    let digits = escape.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

const fn is_surrogate(unit: u16) -> bool {
    matches!(unit, 0xd800..=0xdfff)
}

const fn is_first(unit: u16) -> bool {
    matches!(unit, 0xd800..=0xdbff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_surrogate_pair_becomes_u_fffd_and_all_else_stays() {
        for (text, expected) in [
            (r#""a\ud800b""#, r#""a\ufffdb""#),
            (r#""\udc00\uD83D""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#""\\\ud800""#, r#""\\\ufffd""#),
            (r#""\ud800\n""#, r#""\ufffd\n""#),
            (r#""\ud8""#, r#""\ud8""#),
            (r#"{"\udfff":"é\ud800"}"#, r#"{"\ufffd":"é\ufffd"}"#),
            ("\\", "\\"),
        ] {
            assert_eq!(replace_lone_surrogates(text), expected, "{text}");
        }
        assert!(matches!(replace_lone_surrogates(r#""\ud83d\ude00 \u00e9""#), Cow::Borrowed(_)));
    }
}
