//! Sends dead letters again, as `toolfleet dlq redrive` does, once what killed their workers is removed.
//!
//! **Invariant:** the cause is removed when the letter was seen in the dead-letter queue, and before it is sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use toolfleet_client::{Client, DeadLetters, LetterFilter, Redrive, RedriveRules, RedrivenAs};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::RateLimit;
use toolfleet_core::request::CallRequest;

use super::deadly::Deadly as DeadlyCalls;
use super::plan::{ChaosCall, Deadly, Plan, tool};

/// How often an operator looks for dead letters.
const LOOK: Duration = Duration::from_millis(500);

/// How many letters were sent again. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Again(Arc<AtomicU64>);

impl Again {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sends the letters of the calls that are to be cured again, each once.
    pub(super) async fn send_all(self, client: Client, plan: Arc<Plan>, deadly: DeadlyCalls) {
        let mut left: Vec<&ChaosCall> = plan.deadly(Deadly::Cured).collect();
        while !left.is_empty() {
            tokio::time::sleep(LOOK).await;
            // Endpoints that are restarted answer again.
            let Ok(dead) = seen(&client).await else { continue };
            let mut open = Vec::new();
            for call in left {
                let is_moved = dead.contains(&call.id) && {
                    deadly.cure(&call.id);
                    send(&client, call).await
                };
                if is_moved {
                    self.0.fetch_add(1, Ordering::Relaxed);
                } else {
                    open.push(call);
                }
            }
            left = open;
        }
    }
}

/// The calls whose letters are in the dead-letter queue.
async fn seen(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let dead = letters(client).await?;
    let depth = dead.depth().await?;
    let mut seen = BTreeSet::new();
    if depth.visible == 0 {
        return Ok(seen);
    }
    let mut look = dead.look();
    let read = async {
        loop {
            let letters = look.next().await?;
            if letters.is_empty() {
                return anyhow::Ok(());
            }
            seen.extend(letters.iter().filter_map(|letter| Some(letter.key()?.call_id.to_string())));
        }
    };
    let read = read.await;
    look.release().await;
    read.map(|()| seen)
}

/// Sends the letters of that call's tenant and tool again. Returns whether that of the call was moved, also if the endpoints fail after that.
async fn send(client: &Client, call: &ChaosCall) -> bool {
    let mut is_moved = false;
    // Endpoints that are restarted answer again.
    let _tried_again = redrive(client, call, &mut is_moved).await;
    is_moved
}

async fn redrive(client: &Client, call: &ChaosCall, is_moved: &mut bool) -> anyhow::Result<()> {
    let dead = letters(client).await?;
    let sender = client.sender_id().await?;
    let filter = LetterFilter {
        tool: Some(tool(call.server, call.repeats)),
        tenant: Some(Tenant::parse(call.tenant)?),
        ..LetterFilter::default()
    };
    let redrive = Redrive {
        filter,
        may_have_run: false,
        act: true,
        rate: RateLimit::new(20, 1)?,
        rules: &Rules,
        own_sender: Some(&sender),
    };
    let mut look = dead.look();
    let done = dead.redrive(&mut look, &redrive, |redriven| {
        let is_it = redriven.letter.key().is_some_and(|key| key.call_id.as_str() == call.id);
        *is_moved |= is_it && matches!(redriven.done, RedrivenAs::Moved { .. });
    });
    let done = done.await;
    look.release().await;
    done?;
    Ok(())
}

async fn letters(client: &Client) -> anyhow::Result<DeadLetters> {
    client.dead_letters().await?.context("the queue has no dead-letter queue")
}

/// What the catalog of the run says: whoever may send to the queue may send calls of its tenants, and nobody is the fleet.
struct Rules;

impl RedriveRules for Rules {
    fn is_fleet(&self, _: &str) -> Option<bool> {
        Some(false)
    }

    fn may_speak_for(&self, _: &str, _: &Tenant) -> Option<bool> {
        Some(true)
    }

    fn is_repeatable(&self, _: &CallRequest) -> bool {
        false
    }

    fn may_be_claimless(&self, _: &CallRequest) -> bool {
        false
    }
}
