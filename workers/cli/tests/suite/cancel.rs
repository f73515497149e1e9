//! Cancelling calls.

use crate::run::Dev;

#[test]
fn a_cancellation_without_a_call_is_noted_and_shown() {
    let dev = Dev::start(&["--no-worker"]);
    for _ in 0..2 {
        let cancelled = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(3);
        cancelled.prints(&["nothing is known of call c1 of tenant acme", "The cancellation is noted"]);
    }
    let json = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c2", "--json"]).exits(3).json();
    assert_eq!(json["cancel"], "noted_ahead");
    let ran = dev.toolfleet(&["result", "acme", "c1"]).exits(3);
    ran.complains(&[
        "pending: call c1 of tenant acme: no worker has received it",
        "its cancellation is noted",
    ]);
    let json = dev.toolfleet(&["result", "acme", "c1", "--json"]).exits(3).json();
    assert_eq!(json["state"], "pending");
    assert!(json["cancel_requested_at"].is_string(), "{json}");
}

#[test]
fn a_cancellation_before_the_message_ends_the_call() {
    let dev = Dev::start(&[]);
    dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(3);
    let call = [
        "call",
        "--tenant",
        "acme",
        "--tool",
        "counter",
        "--arguments",
        r#"{"name": "n"}"#,
        "--call-id",
        "c1",
    ];
    dev.toolfleet(&call).exits(1).complains(&["cancelled (cancelled_by_caller)", "may have run: no"]);
    // A second cancellation has the same effect.
    let again = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(0);
    again.prints(&["cancelled: call c1 has ended"]);
}
