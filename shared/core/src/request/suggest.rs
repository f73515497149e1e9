//! Suggests the field that was meant by an unknown one: another spelling, a synonym, or a typing error.

/// Synonyms of fields, letters and digits only.
const WORDS: [(&str, &[&str]); 14] = [
    ("arguments", &["args", "argument", "params", "parameters", "input", "inputs", "payload", "kwargs"]),
    ("call_id", &["id", "requestid", "messageid", "callid", "toolcallid", "tooluseid", "correlationid"]),
    ("tool", &["toolname", "toolid", "tools"]),
    (
        "tenant",
        &[
            "tenantid",
            "tenantname",
            "account",
            "accountid",
            "customer",
            "customerid",
            "entity",
            "org",
            "orgid",
        ],
    ),
    ("session", &["sessionid", "conversation", "conversationid", "threadid", "thread"]),
    ("user", &["userid", "username", "principal"]),
    ("agent", &["agentid", "agentname"]),
    ("timeout_ms", &["timeout", "timeoutmillis", "timeoutmilliseconds", "timeoutseconds", "timeouts", "ttl"]),
    ("deadline", &["expires", "expiresat", "notafter", "deadlineat"]),
    ("idempotency_key", &["idempotencyid", "dedupid", "deduplicationid", "messagededuplicationid"]),
    ("v", &["version", "schemaversion"]),
    ("reply", &["replyto", "replyqueue", "replyqueueurl", "callback"]),
    ("server", &["serverid", "servername", "mcpserver"]),
    ("operation", &["method", "action"]),
];
/// Synonyms within `user`, `group`, `retry` and `reply`.
const WITHIN: [(&str, &[&str]); 6] = [
    ("id", &["userid", "groupid", "name", "username"]),
    ("type", &["usertype", "kind"]),
    ("roles", &["role", "userroles", "groups"]),
    ("size", &["count", "total"]),
    ("max_attempts", &["attempts", "retries", "maxretries"]),
    ("sqs_queue_url", &["queueurl", "queue", "url", "sqs"]),
];
/// Names shorter than this may have one typing error, longer ones two.
const SHORT: usize = 5;

/// serde's text of an unknown field, with the field that was probably meant.
pub(super) fn with_suggestion(sentence: String) -> String {
    let Some((found, rest)) = sentence.strip_prefix("unknown field `").and_then(|s| s.split_once("`, "))
    else {
        return sentence;
    };
    // The accepted fields are between back-ticks.
    let accepted: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    match meant(found, &accepted) {
        Some(meant) => format!("unknown field `{found}` (did you mean `{meant}`?), {rest}"),
        None => sentence,
    }
}

fn meant<'a>(found: &str, accepted: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let found = plain(found);
    if found.is_empty() {
        return None;
    }
    let same = accepted.iter().find(|name| plain(name) == found);
    let other_word = || {
        let words = WORDS.iter().chain(&WITHIN);
        let named = |(_, others): &&(&str, &[&str])| others.contains(&found.as_str());
        words.filter(named).find_map(|(name, _)| accepted.iter().find(|accepted| *accepted == name))
    };
    let slip = || {
        let most = if found.len() < SHORT { 1 } else { 2 };
        let near = accepted.iter().map(|name| (slips(&found, &plain(name)), name));
        near.filter(|(n, name)| *n <= most && name.len() > 2).min_by_key(|(n, _)| *n).map(|(_, name)| name)
    };
    same.or_else(other_word).or_else(slip).copied()
}

/// How many characters differ: added, left out or replaced (Levenshtein).
fn slips(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut before = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = before + usize::from(ca != *cb);
            left = replaced.min(left + 1).min(above + 1);
            before = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 9] =
        ["v", "call_id", "tenant", "tool", "function", "arguments", "session", "timeout_ms", "user"];

    #[test]
    fn the_field_that_was_meant_is_named() {
        for (found, expected) in [
            ("callId", Some("call_id")),
            ("CALL-ID", Some("call_id")),
            ("toolName", Some("tool")),
            ("tenantId", Some("tenant")),
            ("args", Some("arguments")),
            ("input", Some("arguments")),
            ("timeoutMs", Some("timeout_ms")),
            ("arguements", Some("arguments")),
            ("tennant", Some("tenant")),
            ("sesion", Some("session")),
            ("version", Some("v")),
            ("colour", None),
            ("x", None),
            ("ü", None),
        ] {
            assert_eq!(meant(found, &FIELDS), expected, "{found}");
        }
    }

    #[test]
    fn a_sentence_names_what_was_meant_before_what_is_accepted() {
        let of = |found: &str| {
            with_suggestion(format!("unknown field `{found}`, expected one of `id`, `type`, `roles`"))
        };
        assert_eq!(
            of("role"),
            "unknown field `role` (did you mean `roles`?), expected one of `id`, `type`, `roles`"
        );
        assert_eq!(of("colour"), "unknown field `colour`, expected one of `id`, `type`, `roles`");
        assert_eq!(with_suggestion("missing field `x`".into()), "missing field `x`");
    }
}
