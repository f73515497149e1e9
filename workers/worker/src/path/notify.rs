//! Owns the seventh step: the hint to whoever waits.
//!
//! **Invariant:** a notice that cannot be sent costs no call: the record is the truth.

use std::collections::BTreeMap;

use toolfleet_aws::queue::Outgoing;

use super::record::Recorded;
use crate::fleet::Fleet;

pub(super) async fn notify(fleet: &Fleet, recorded: &Recorded) {
    let Some((notice, queue)) = recorded.notice() else {
        return;
    };
    let Ok(body) = serde_json::to_string(notice) else {
        return;
    };
    let group = Some(notice.tenant.to_string());
    let message = Outgoing { body, delay_s: 0, group, attributes: BTreeMap::new() };
    if let Err(trouble) = fleet.reply_queue(queue).send(message).await {
        tracing::warn!(%trouble, call_id = %notice.call_id, code = "notice_failed", "a notice could not be sent; the result stands");
    }
}
