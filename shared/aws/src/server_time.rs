//! How far this machine's clock is from that of DynamoDB, each of whose answers says when it was made.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
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
    /// two answers must say so.
    pub fn off_by_ms(&self, allowed_ms: u64) -> Option<i64> {
        let last_two = [&self.0.last_ms, &self.0.before_ms].map(|off_ms| off_ms.load(Ordering::Relaxed));
        let off_ms = last_two.into_iter().min_by_key(|off_ms| off_ms.unsigned_abs());
        off_ms.filter(|off_ms| off_ms.unsigned_abs() > allowed_ms.saturating_add(ROUGH_MS))
    }

    /// Learns of an answer with that date, whose request was sent and which came at those times of the machine's clock. A right clock shows the date
    /// between both, however long the process stood still or the answer was on its way.
    pub fn learn(&self, sent: Timestamp, came: Timestamp, date: &str) {
        let Some(date_ms) =
            DateTime::from_str(date, Format::HttpDate).ok().and_then(|date| date.to_millis().ok())
        else {
            return;
        };
        let ahead_ms = sent.as_ms().saturating_sub(date_ms).max(0);
        let behind_ms = came.as_ms().saturating_sub(date_ms).min(0);
        let before_ms = self.0.last_ms.swap(ahead_ms.saturating_add(behind_ms), Ordering::Relaxed);
        self.0.before_ms.store(before_ms, Ordering::Relaxed);
    }
}

/// When a request was sent, by the machine's clock.
#[derive(Debug)]
struct SentAt(Timestamp);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "toolfleet server time"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(SentAt(Clock::System.now()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some((SentAt(sent), date)) = bag.load::<SentAt>().zip(context.response().headers().get("date"))
        {
            self.learn(*sent, Clock::System.now(), date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Fri, 20 Nov 2026 12:00:00 GMT";

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_795_176_000_000 + ms)
    }

    /// An answer that takes 500 ms, by a clock that is off by so much.
    fn learn(time: &ServerTime, off_ms: i64) {
        time.learn(at(off_ms), at(off_ms + 500), DATE);
    }

    #[test]
    fn a_clock_is_off_where_two_answers_in_a_row_say_so() {
        let time = ServerTime::default();
        learn(&time, 3_600_000);
        assert_eq!(time.off_by_ms(2_000), None, "one answer may be wrong");
        learn(&time, 3_600_500);
        assert_eq!(time.off_by_ms(2_000), Some(3_600_000));
        learn(&time, 4_000);
        assert_eq!(time.off_by_ms(2_000), None, "a date has whole seconds");
        [-3_600_000, -3_600_000].into_iter().for_each(|off_ms| learn(&time, off_ms));
        assert_eq!(time.off_by_ms(2_000), Some(-3_599_500), "or it is behind");
        time.learn(at(0), at(500), "no date");
        assert_eq!(time.off_by_ms(2_000), Some(-3_599_500));
    }

    #[test]
    fn a_process_that_stood_still_has_a_right_clock() {
        let time = ServerTime::default();
        for sent_ms in [0, 100] {
            time.learn(at(sent_ms), at(60_000), DATE);
            time.learn(at(sent_ms - 60_000), at(sent_ms), DATE);
        }
        assert_eq!(time.off_by_ms(2_000), None);
    }
}
