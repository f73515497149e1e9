//! The attributes of a queue: their limits, their defaults and the redrive policy.
//!
//! **Invariant:** a value of [`Attributes`] has been checked.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::names::queue_name_of_arn;
use crate::sqs::error::SqsError;

/// 1 MiB: the most a message or a whole batch may hold (SQS quota).
pub(crate) const MAX_MESSAGE_BYTES: usize = 1_048_576;

struct NumberRule {
    name: &'static str,
    least: u64,
    most: u64,
    default: u64,
}

/// SQS quotas and defaults, in seconds and bytes.
const NUMBERS: [NumberRule; 5] = [
    NumberRule { name: "VisibilityTimeout", least: 0, most: 43_200, default: 30 },
    NumberRule { name: "MessageRetentionPeriod", least: 60, most: 1_209_600, default: 345_600 },
    NumberRule { name: "DelaySeconds", least: 0, most: 900, default: 0 },
    NumberRule { name: "MaximumMessageSize", least: 1_024, most: 1_048_576, default: 1_048_576 },
    NumberRule { name: "ReceiveMessageWaitTimeSeconds", least: 0, most: 20, default: 0 },
];

/// Stored and returned, without effect on one machine.
const KEPT: [&str; 5] = [
    "Policy",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
    "RedriveAllowPolicy",
];

/// What only a FIFO queue has, with what it is unless somebody says otherwise.
const FIFO: [(&str, &[&str], &str); 4] = [
    ("FifoQueue", &["true"], "true"),
    ("ContentBasedDeduplication", &["false", "true"], "false"),
    ("DeduplicationScope", &["messageGroup", "queue"], "queue"),
    ("FifoThroughputLimit", &["perMessageGroupId", "perQueue"], "perQueue"),
];

/// Attributes that only `GetQueueAttributes` knows.
const READ_ONLY: [&str; 6] = [
    "QueueArn",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
];

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub(crate) dead_letter_queue: String,
    pub(crate) max_receive_count: u32,
}

/// What a FIFO queue takes for the same message sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fifo {
    /// A message without a deduplication id gets the SHA-256 of its body.
    pub(crate) by_content: bool,
    /// The same id in another group is another message.
    pub(crate) within_group: bool,
}

/// The checked attributes of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    given: BTreeMap<String, String>,
    pub(crate) visibility_ms: u64,
    pub(crate) retention_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) max_bytes: usize,
    pub(crate) wait_seconds: u64,
    pub(crate) redrive: Option<Redrive>,
    /// None for a standard queue.
    pub(crate) fifo: Option<Fifo>,
}

impl Attributes {
    /// Checks what a caller gave.
    pub(crate) fn check(given: BTreeMap<String, String>) -> Result<Self, SqsError> {
        for (name, text) in &given {
            check_one(name, text)?;
        }
        let given: BTreeMap<_, _> = given.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let redrive = given.get("RedrivePolicy").map(|text| redrive_of(text)).transpose()?;
        let fifo = fifo_of(&given)?;
        Ok(Self {
            visibility_ms: number(&given, "VisibilityTimeout") * 1000,
            retention_ms: number(&given, "MessageRetentionPeriod") * 1000,
            delay_ms: number(&given, "DelaySeconds") * 1000,
            max_bytes: usize::try_from(number(&given, "MaximumMessageSize")).unwrap_or(MAX_MESSAGE_BYTES),
            wait_seconds: number(&given, "ReceiveMessageWaitTimeSeconds"),
            redrive,
            fifo,
            given,
        })
    }

    /// These attributes with some of them replaced. An empty text takes an attribute away.
    pub(crate) fn with(&self, changed: BTreeMap<String, String>) -> Result<Self, SqsError> {
        if self.fifo.is_some() && changed.get("FifoQueue").is_some_and(|text| text != "true") {
            let problem = "FifoQueue. Reason: Modifying queue type is not supported";
            return Err(SqsError::InvalidAttributeValue(problem.to_owned()));
        }
        if self.fifo.is_none() && changed.contains_key("FifoQueue") {
            return Err(SqsError::InvalidAttributeName("FifoQueue".to_owned()));
        }
        let mut given = self.given.clone();
        given.extend(changed);
        Self::check(given)
    }

    /// The first of `asked` that differs from these: a queue of the same name is only the same queue if none does.
    pub(crate) fn first_difference(&self, asked: &BTreeMap<String, String>) -> Option<String> {
        let own = self.shown();
        let differs = |(name, text): &(&String, &String)| match own.get(name.as_str()) {
            Some(own_text) => !same_value(own_text, text),
            None => !text.is_empty(),
        };
        asked.iter().find(differs).map(|(name, _)| name.clone())
    }

    /// Every attribute that has a value, defaults included.
    pub(crate) fn shown(&self) -> BTreeMap<String, String> {
        let mut shown = self.given.clone();
        for rule in &NUMBERS {
            shown.entry(rule.name.to_owned()).or_insert_with(|| rule.default.to_string());
        }
        if self.fifo.is_some() {
            for (name, _, default) in FIFO {
                shown.entry(name.to_owned()).or_insert_with(|| default.to_owned());
            }
        }
        if !shown.contains_key("KmsMasterKeyId") {
            shown.entry("SqsManagedSseEnabled".to_owned()).or_insert_with(|| "true".to_owned());
        }
        shown
    }

    /// What this queue's `RedriveAllowPolicy` says of the queue `source`. Without one, every queue may.
    pub(crate) fn allows_dead_letters_of(&self, source: &str) -> bool {
        let Some(policy) = self.given.get("RedriveAllowPolicy").and_then(|text| parse(text)) else {
            return true;
        };
        let sources = policy.get("sourceQueueArns").and_then(Value::as_array);
        match policy.get("redrivePermission").and_then(Value::as_str) {
            Some("denyAll") => false,
            Some("byQueue") => sources
                .into_iter()
                .flatten()
                .any(|arn| arn.as_str().is_some_and(|arn| queue_name_of_arn(arn) == source)),
            Some(_) | None => true,
        }
    }

    /// What a caller gave, as it is kept over a restart.
    pub(crate) fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }
}

/// Whether `GetQueueAttributes` may ask for it.
pub(crate) fn is_readable(name: &str) -> bool {
    name == "All"
        || name == "RedrivePolicy"
        || KEPT.contains(&name)
        || READ_ONLY.contains(&name)
        || NUMBERS.iter().any(|rule| rule.name == name)
        || is_fifo(name)
}

fn is_fifo(name: &str) -> bool {
    FIFO.iter().any(|(fifo, _, _)| *fifo == name)
}

fn check_one(name: &str, text: &str) -> Result<(), SqsError> {
    if let Some(rule) = NUMBERS.iter().find(|rule| rule.name == name) {
        return match text.parse::<u64>() {
            Ok(value) if (rule.least..=rule.most).contains(&value) => Ok(()),
            Ok(_) | Err(_) => Err(SqsError::InvalidAttributeValue(name.to_owned())),
        };
    }
    let is_right = match name {
        _ if text.is_empty() => true,
        "RedrivePolicy" | "KmsMasterKeyId" => true,
        "Policy" | "RedriveAllowPolicy" => parse(text).is_some_and(|policy| policy.is_object()),
        "SqsManagedSseEnabled" => matches!(text, "true" | "false"),
        "KmsDataKeyReusePeriodSeconds" => {
            text.parse().is_ok_and(|seconds: u32| (60..=86_400).contains(&seconds))
        }
        // A standard queue does not know the attribute at all, not even to deny it.
        "FifoQueue" if text == "false" => return Err(SqsError::InvalidAttributeName(name.to_owned())),
        _ => match FIFO.iter().find(|(fifo, _, _)| *fifo == name) {
            Some((_, allowed, _)) => allowed.contains(&text),
            None => return Err(SqsError::InvalidAttributeName(name.to_owned())),
        },
    };
    if is_right { Ok(()) } else { Err(SqsError::InvalidAttributeValue(name.to_owned())) }
}

fn fifo_of(given: &BTreeMap<String, String>) -> Result<Option<Fifo>, SqsError> {
    let is = |name: &str, text: &str| given.get(name).is_some_and(|value| value == text);
    if !is("FifoQueue", "true") {
        let stray = given.keys().find(|name| is_fifo(name));
        return stray.map_or(Ok(None), |name| Err(SqsError::InvalidAttributeName(name.clone())));
    }
    let within_group = is("DeduplicationScope", "messageGroup");
    if is("FifoThroughputLimit", "perMessageGroupId") && !within_group {
        let problem =
            "FifoThroughputLimit. Reason: perMessageGroupId needs the DeduplicationScope messageGroup";
        return Err(SqsError::InvalidAttributeValue(problem.to_owned()));
    }
    Ok(Some(Fifo { by_content: is("ContentBasedDeduplication", "true"), within_group }))
}

fn number(given: &BTreeMap<String, String>, name: &str) -> u64 {
    let default = NUMBERS.iter().find(|rule| rule.name == name).map_or(0, |rule| rule.default);
    given.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn redrive_of(text: &str) -> Result<Redrive, SqsError> {
    let refused = |reason: &str| {
        let problem = format!("Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}");
        SqsError::InvalidParameterValue(problem)
    };
    let policy: Value = serde_json::from_str(text).map_err(|_not_json| refused("it is not valid JSON."))?;
    let arn = policy.get("deadLetterTargetArn").and_then(Value::as_str);
    let count = policy.get("maxReceiveCount").and_then(|count| match count {
        Value::Number(number) => number.as_u64(),
        // The console and older SDKs send the number as text.
        Value::String(digits) => digits.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    match (arn, count.and_then(|count| u32::try_from(count).ok())) {
        (Some(arn), Some(count)) if (1..=1000).contains(&count) => {
            Ok(Redrive { dead_letter_queue: queue_name_of_arn(arn).to_owned(), max_receive_count: count })
        }
        (Some(_), _) => Err(refused("maxReceiveCount must be between 1 and 1000.")),
        (None, _) => Err(refused("deadLetterTargetArn is missing.")),
    }
}

/// Policies are the same when they mean the same JSON, however it is written.
fn same_value(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (redrive_of(one), redrive_of(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => match (parse(one), parse(other)) {
            (Some(one), Some(other)) => one == other,
            (Some(_) | None, Some(_) | None) => false,
        },
    }
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
