//! How a message waits in its queue: hidden by its visibility time-out, or replaced by a new message with a delay.

/// From this receive on, even a short wait becomes a new message.
pub const MANY_RECEIVES: u32 = 4;
/// The fewest receives after which a queue may give a message up: fewer would give up calls that wait.
pub const FEWEST_RECEIVES: u32 = MANY_RECEIVES + 1;
/// The longest wait by the visibility time-out, in seconds.
pub const SHORT_S: u64 = 30;
/// The longest delay of a new message, in seconds (SQS quota).
pub const LONGEST_DELAY_S: u64 = 900;

/// Whether the message itself stays in the queue, hidden; else a new message with a delay replaces it. One that waits for an operator, a
/// limit or a time set by the caller (`parks_at_once`) is replaced even for a short wait.
pub const fn stays(parks_at_once: bool, receive_count: u32, wait_s: u64) -> bool {
    !parks_at_once && wait_s <= SHORT_S && receive_count < MANY_RECEIVES
}

/// How long a message of a FIFO queue waits. It cannot become a new one, which would come after the others of its group; so that its
/// receives last, the waits grow: the eight receives of the template last for more than the hour that a call has by default. A worker that
/// stops requeues it at once.
pub const fn in_order_s(receive_count: u32, wait_s: u64) -> u64 {
    let least_s = match receive_count {
        0 | 1 => 0,
        2 => 5,
        3 => 15,
        4 => 60,
        5 => 300,
        6 => 900,
        7 => 1_800,
        _ => 3_600,
    };
    if wait_s == 0 || wait_s > least_s { wait_s } else { least_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_hides_the_message_until_it_was_received_often() {
        for (receive_count, wait_s, expected) in [
            (1, 0, true),
            (1, SHORT_S, true),
            (1, SHORT_S + 1, false),
            (MANY_RECEIVES - 1, 1, true),
            (MANY_RECEIVES, 1, false),
        ] {
            assert_eq!(stays(false, receive_count, wait_s), expected, "{receive_count} receives, {wait_s} s");
            assert!(
                !stays(true, receive_count, wait_s),
                "what may wait for long does not count as in flight"
            );
        }
    }

    #[test]
    fn a_fifo_message_waits_longer_at_each_receive_unless_it_is_due_now() {
        let waits: Vec<_> = (1..=9).map(|receive_count| in_order_s(receive_count, 1)).collect();
        assert_eq!(waits, [1, 5, 15, 60, 300, 900, 1_800, 3_600, 3_600]);
        assert!((1..=9).all(|receive_count| in_order_s(receive_count, 0) == 0));
        assert_eq!(in_order_s(2, 700), 700, "a wait that is asked for is not shortened");
    }
}
