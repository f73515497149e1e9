//! The clock of this machine, compared with that of AWS: the `Date` header of the queue's endpoint. Its resolution is a second.

use std::time::Duration;

use toolfleet_core::time::{Timestamp, span};
use toolfleet_egress::EgressPolicy;
use url::Url;

use super::finding::{Check, Finding};
use crate::network::egress;

/// The date is cut to a second, and takes time to come here.
const WITHIN_MS: u64 = 3_000;
/// How long the endpoint may take.
const TIME_OUT: Duration = Duration::from_secs(3);

/// The date that the endpoint of that queue has, if it says one. Nothing is asked of the queue.
pub(super) async fn date_of(queue_url: &str) -> Option<Timestamp> {
    let mut origin = Url::parse(queue_url).ok()?;
    origin.set_path("/");
    let mut config = egress().ok()?.with_loopback();
    config.reach = EgressPolicy::anywhere();
    let clients = config.http_clients().await.ok()?;
    let answer = clients.plain().head(origin).timeout(TIME_OUT).send().await.ok()?;
    date(answer.headers().get(http::header::DATE)?.to_str().ok()?)
}

fn date(text: &str) -> Option<Timestamp> {
    let since_1970 = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_ms(i64::try_from(since_1970.as_millis()).ok()?))
}

/// What is wrong with the clock of this machine, by that date.
pub(super) fn of_this_machine(date: Timestamp, now: Timestamp) -> Option<Finding> {
    let (ahead_ms, behind_ms) = (now.ms_since(date), date.ms_since(now));
    let (ms, direction) = if ahead_ms > behind_ms { (ahead_ms, "ahead of") } else { (behind_ms, "behind") };
    (ms > WITHIN_MS).then(|| {
        let text = format!(
            "its clock is {} {direction} that of AWS; ages and deadlines here are wrong by as much",
            span(ms)
        );
        Finding::failed(Check::ClocksAgree, "this machine", text, "chronyc tracking")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(now: &str) -> String {
        let date = date("Mon, 30 Nov 2026 12:00:00 GMT").unwrap();
        let finding = of_this_machine(date, Timestamp::parse(now).unwrap());
        finding.map_or_else(String::new, |finding| finding.lines().join("\n"))
    }

    #[test]
    fn a_clock_within_three_seconds_of_the_date_is_right() {
        for now in ["2026-11-30T12:00:00Z", "2026-11-30T12:00:03Z", "2026-11-30T11:59:57Z"] {
            assert_eq!(told(now), "", "{now}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_named_with_this_machine() {
        assert!(
            told("2026-11-30T12:01:00Z")
                .contains("this machine: its clock is 1 min 0 s ahead of that of AWS")
        );
        assert!(
            told("2026-11-30T11:59:50Z").contains("this machine: its clock is 10.0 s behind that of AWS")
        );
    }

    #[test]
    fn a_text_that_is_no_date_says_nothing() {
        assert_eq!(date("yesterday"), None);
    }
}
