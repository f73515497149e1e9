//! The pause before a throttled request is sent again.

use std::time::Duration;

/// About 25, 50, 100, .. ms, with jitter so that workers do not retry together.
pub(crate) fn retry_pause(tries: u32) -> Duration {
    let base = 25_u64 << tries.min(6);
    let mut jitter = [0_u8; 2];
    // Without randomness the pause is merely regular.
    let _no_jitter = getrandom::fill(&mut jitter);
    Duration::from_millis(base / 2 + u64::from(u16::from_le_bytes(jitter)) * base / 2 / u64::from(u16::MAX))
}
