//! Throttles some statements of a batch, as DynamoDB does: the request succeeds, and each refused statement has an error of its own.
//!
//! **Invariant:** pure; the merged answer has one response for each statement, in their order.

use fastrand::Rng;
use serde_json::{Value, json};

use super::writes::Batch;

/// The error of a request that is throttled as a whole.
pub(crate) const WHOLE: &str = "ProvisionedThroughputExceededException";
/// The error of a statement that is throttled.
const STATEMENT: &str = "ThrottlingError";

/// A batch of which some statements are refused.
pub(crate) struct Throttled {
    /// The request with the other statements.
    pub(crate) kept: Vec<u8>,
    /// The refused statements.
    pub(crate) refused: Vec<String>,
    /// Whether each statement of the batch is refused.
    is_refused: Vec<bool>,
}

/// Refuses about half of the statements, one at least; none if the request is not a batch, or has a single statement.
pub(crate) fn split(request: &[u8], rng: &mut Rng) -> Option<Throttled> {
    let batch: Batch<'_> = serde_json::from_slice(request).ok()?;
    if batch.statements.len() < 2 {
        return None;
    }
    let mut is_refused: Vec<bool> = batch.statements.iter().map(|_| rng.bool()).collect();
    // Both sides have one at least: DynamoDB refuses an empty batch.
    *is_refused.first_mut()? = true;
    *is_refused.last_mut()? = false;
    let of = |refused: bool| {
        let statements = batch.statements.iter().zip(&is_refused);
        statements.filter(move |(_, is)| **is == refused).map(|(statement, _)| statement.get())
    };
    let refused = of(true).map(str::to_owned).collect();
    let mut request: Value = serde_json::from_slice(request).ok()?;
    let kept: Vec<Value> = of(false).map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
    request.as_object_mut()?.insert("Statements".to_owned(), Value::Array(kept));
    Some(Throttled { kept: request.to_string().into_bytes(), refused, is_refused })
}

impl Throttled {
    /// The answer to the whole batch, from that to the kept statements. An answer of another form, such as an error, stays.
    pub(crate) fn merge(&self, answer: &[u8]) -> Vec<u8> {
        let merged = || {
            let mut answer: Value = serde_json::from_slice(answer).ok()?;
            let responses = answer.as_object_mut()?.get_mut("Responses")?.as_array_mut()?;
            let mut kept = std::mem::take(responses).into_iter();
            for refused in &self.is_refused {
                responses.push(if *refused {
                    json!({"Error": {"Code": STATEMENT, "Message": "injected"}})
                } else {
                    kept.next()?
                });
            }
            Some(answer.to_string().into_bytes())
        };
        merged().unwrap_or_else(|| answer.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_statements_are_left_out_and_answered_in_their_places() {
        let batch = json!({"Statements": [{"Statement": "a"}, {"Statement": "b"}, {"Statement": "c"}, {"Statement": "d"}]});
        let throttled = split(batch.to_string().as_bytes(), &mut Rng::with_seed(1)).unwrap();
        let kept: Value = serde_json::from_slice(&throttled.kept).unwrap();
        let kept: Vec<_> =
            kept["Statements"].as_array().unwrap().iter().map(|s| s["Statement"].clone()).collect();
        assert_eq!(throttled.refused.len() + kept.len(), 4);
        assert!(throttled.refused[0].contains("\"a\"") && kept.contains(&json!("d")));
        let answer = json!({"Responses": kept.iter().map(|name| json!({"Item": name})).collect::<Vec<_>>()});
        let merged: Value = serde_json::from_slice(&throttled.merge(answer.to_string().as_bytes())).unwrap();
        let responses = merged["Responses"].as_array().unwrap();
        assert_eq!(responses.len(), 4);
        assert_eq!((&responses[0]["Error"]["Code"], &responses[3]["Item"]), (&json!(STATEMENT), &json!("d")));
        assert_eq!(throttled.merge(b"{\"__type\":\"x\"}"), b"{\"__type\":\"x\"}");
    }

    #[test]
    fn a_single_statement_is_not_split() {
        let one = br#"{"Statements":[{"Statement":"a"}]}"#;
        assert!(split(one, &mut Rng::with_seed(1)).is_none());
        assert!(split(b"{\"QueueUrl\":\"q\"}", &mut Rng::with_seed(1)).is_none());
    }
}
