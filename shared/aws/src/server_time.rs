//! How far this machine's clock is from that of DynamoDB, each of whose answers says when it was made.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use toolfleet_core::time::Timestamp;

use crate::clock::Clock;

/// The date of an answer has whole seconds, and the answer is on its way for a moment, in milliseconds.
const ROUGH_MS: u64 = 2_000;

/// The difference of this machine's clock to that of DynamoDB, as its last two answers say. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct ServerTime(Arc<LastTwo>);

/// By how much the clock was ahead at the last answer, and at the one before, in milliseconds. Not behind a lock: a worker reads it whenever it
/// looks at its clock.
#[derive(Debug, Default)]
struct LastTwo {
    last_ms: AtomicI64,
    before_ms: AtomicI64,
}

impl ServerTime {
    /// By how many milliseconds the clock is ahead, or behind if that is negative, if by more than is allowed between two workers. Both of the last
    /// two answers must say so: the process may have stood still after one of them.
    pub fn off_by_ms(&self, allowed_ms: u64) -> Option<i64> {
        let last_two = [&self.0.last_ms, &self.0.before_ms].map(|off_ms| off_ms.load(Ordering::Relaxed));
        let off_ms = last_two.into_iter().min_by_key(|off_ms| off_ms.unsigned_abs());
        off_ms.filter(|off_ms| off_ms.unsigned_abs() > allowed_ms.saturating_add(ROUGH_MS))
    }

    /// Learns of an answer that came now, by the machine's clock, with that date.
    pub fn learn(&self, now: Timestamp, date: &str) {
        let Some(date_ms) =
            DateTime::from_str(date, Format::HttpDate).ok().and_then(|date| date.to_millis().ok())
        else {
            return;
        };
        let before_ms = self.0.last_ms.swap(now.as_ms().saturating_sub(date_ms), Ordering::Relaxed);
        self.0.before_ms.store(before_ms, Ordering::Relaxed);
    }
}

#[dyn_dispatch_hint]
impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "toolfleet server time"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.learn(Clock::System.now(), date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_where_two_answers_in_a_row_say_so() {
        let (time, date) = (ServerTime::default(), "Fri, 20 Nov 2026 12:00:00 GMT");
        let now = Timestamp::from_ms(1_795_176_000_000);
        time.learn(now.plus_ms(3_600_000), date);
        assert_eq!(time.off_by_ms(2_000), None, "the process may have stood still");
        time.learn(now.plus_ms(3_600_500), date);
        assert_eq!(time.off_by_ms(2_000), Some(3_600_000));
        time.learn(now.plus_ms(4_000), date);
        assert_eq!(time.off_by_ms(2_000), None, "a date has whole seconds");
        for ms in [-3_600_000, -3_600_000] {
            time.learn(Timestamp::from_ms(now.as_ms() + ms), date);
        }
        assert_eq!(time.off_by_ms(2_000), Some(-3_600_000), "or it is behind");
        time.learn(now, "no date");
        assert_eq!(time.off_by_ms(2_000), Some(-3_600_000));
    }
}
