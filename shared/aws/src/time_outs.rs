//! The time-outs of requests to AWS, and how often they are sent.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;

/// How often a request is sent before it fails.
pub(crate) const ATTEMPTS: u32 = 3;

/// The time-out of one attempt: well inside a lease of 30 s even with three attempts.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);
/// The same for ReceiveMessage, which waits up to 20 s for a message.
pub(crate) const RECEIVE_ATTEMPT: Duration = Duration::from_secs(30);
/// The same for an object: 16 MiB at 3 Mbit/s.
pub(crate) const OBJECT_ATTEMPT: Duration = Duration::from_secs(45);

pub(crate) fn time_outs(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

pub(crate) fn attempts(count: u32) -> RetryConfig {
    RetryConfig::standard().with_max_attempts(count)
}
