//! Batches: calls of one tool that are sent to their server as one call, whose argument is the list of theirs, and whose answer is the list
//! of their answers.

mod answers;
mod arguments;
mod rule;

pub use answers::parts_of;
pub use arguments::{Parted, joined};
pub use rule::{BatchRule, BatchRuleError, DEFAULT_MAX, DEFAULT_WAIT_MS, MOST, MOST_WAIT_MS};

use crate::ids::CallId;

/// The id of a batch: the call that leads it, and the number of that call's attempt.
pub fn batch_id(leader: &CallId, attempt: u32) -> String {
    format!("{leader}#{attempt}")
}

/// Whether that call led the batch of that id.
pub fn leads_batch(id: &str, call: &CallId) -> bool {
    id.rsplit_once('#').is_some_and(|(leader, _)| leader == call.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_named_after_its_leader() {
        let [a, b] = ["a", "a.b"].map(|id| CallId::parse(id).unwrap());
        assert_eq!(batch_id(&b, 2), "a.b#2");
        assert!(leads_batch(&batch_id(&b, 2), &b) && !leads_batch(&batch_id(&b, 2), &a));
    }
}
