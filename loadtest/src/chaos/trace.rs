//! The traces of the calls: a server reads from a request's trace which of several equal calls it belongs to.

use super::plan::ID_PREFIX;

/// The `traceparent` that a call is sent with.
pub(crate) fn traceparent(seed: u64, n: u32) -> String {
    // No part may be zero.
    format!("00-{:016x}{:016x}-0000000000000001-01", seed.wrapping_add(1), u64::from(n) + 1)
}

/// The id of the call with that trace id.
pub(crate) fn call_of_trace(trace: &str) -> Option<String> {
    let (seed, n) = trace.split_at_checked(16)?;
    let (seed, n) = (u64::from_str_radix(seed, 16).ok()?, u64::from_str_radix(n, 16).ok()?);
    Some(format!("{ID_PREFIX}{}-{}", seed.wrapping_sub(1), n.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_names_its_call() {
        for (seed, n) in [(0, 0), (7, 41), (u64::from(u32::MAX) + 9, u32::MAX)] {
            let parent = traceparent(seed, n);
            let trace = parent.split('-').nth(1).unwrap();
            assert_eq!(call_of_trace(trace), Some(format!("chaos-{seed}-{n}")));
        }
        assert_eq!(call_of_trace("0af7"), None);
    }
}
