//! What operators have set, as this worker last read it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{Control, ControlEntry, Subject};
use toolfleet_core::failure::Refusal;
use toolfleet_core::fleet::ControlSeen;
use toolfleet_core::time::Timestamp;

/// The shortest and the longest time for which a paused call waits before it looks again, in milliseconds. They differ from call to call, so
/// that calls that were paused together do not all come back together.
const PAUSE_CHECK_MS: std::ops::Range<u64> = 30_000..60_000;

/// Within so many milliseconds after a pause has ended by itself its calls come back.
const END_MS: std::ops::Range<u64> = 0..2_000;

/// The control entries in use.
#[derive(Debug, Default)]
pub struct ControlHandle {
    /// Whether anything is set: without it, a check is one load.
    any: AtomicBool,
    current: ArcSwap<Control>,
    /// When the reading began that gave them, or that found them unchanged.
    read: Mutex<Option<Instant>>,
}

impl ControlHandle {
    /// Uses `control` from now on. Calls under way meet it at their next attempt.
    pub fn take(&self, control: Control) {
        let any = !control.is_empty();
        self.current.store(Arc::new(control));
        self.any.store(any, Ordering::Release);
    }

    /// Notes a reading that began then: what is in use is what was set at that time.
    pub fn note_read(&self, begun: Instant) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// How long ago what is in use was what was set, in milliseconds; none before it was read for the first time.
    pub fn age_ms(&self) -> Option<u64> {
        let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Some(u64::try_from(read?.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// What the worker says of it in its row.
    pub fn seen(&self, now: Timestamp) -> Option<ControlSeen> {
        let current = self.current.load();
        Some(ControlSeen {
            version: current.version,
            read_at: Timestamp::from_ms(now.as_ms().saturating_sub_unsigned(self.age_ms()?)),
            unreadable: u64::try_from(current.unreadable).unwrap_or(u64::MAX),
        })
    }

    /// What is set; nothing where nothing is.
    pub fn current(&self) -> Option<Arc<Control>> {
        self.any.load(Ordering::Acquire).then(|| self.current.load_full())
    }

    /// The version of the entries in use.
    pub fn version(&self) -> u64 {
        self.current.load().version
    }

    /// The entries that had ended when they were read.
    pub fn ended(&self) -> Vec<ControlEntry> {
        self.current.load().ended.clone()
    }

    /// Whether a pause stops such a call now.
    pub(super) fn check(&self, subject: Subject<'_>, now: Timestamp) -> Result<(), Refusal> {
        let Some(control) = self.current() else {
            return Ok(());
        };
        let Some((until, detail)) = control.stop_of(subject, now) else {
            return Ok(());
        };
        let look_again_ms = fastrand::u64(PAUSE_CHECK_MS);
        let at_the_end =
            |until: Timestamp| until.ms_since(now).max(1_000).saturating_add(fastrand::u64(END_MS));
        let retry_after_ms = until.map_or(look_again_ms, |until| at_the_end(until).min(look_again_ms));
        Err(Refusal { reason: HeldReason::Paused, retry_after_ms, last_failure: None, detail: Some(detail) })
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::control::{Switch, SwitchTarget};
    use toolfleet_core::ids::{ServerId, Tenant};

    use super::*;

    #[test]
    fn a_paused_call_looks_again_at_the_end_of_the_pause_or_within_a_minute() {
        let (server, tenant) = (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap());
        let subject = Subject { server: &server, tenant: &tenant, tool: None, digest: None };
        let now = Timestamp::from_ms(0);
        let handle = ControlHandle::default();
        assert!(handle.check(subject, now).is_ok());
        for (until_ms, expected) in
            [(None, 30_000..60_000), (Some(9_000), 9_000..11_000), (Some(5), 1_000..3_000)]
        {
            let pause = ControlEntry::Pause(Switch {
                target: SwitchTarget::Server(server.clone()),
                tenant: None,
                by: "ann".into(),
                why: "it is down".into(),
                since: now,
                until: until_ms.map(Timestamp::from_ms),
            });
            handle.take(Control::new(1, [pause], now));
            let refusal = handle.check(subject, now).unwrap_err();
            assert!(expected.contains(&refusal.retry_after_ms), "{until_ms:?}: {}", refusal.retry_after_ms);
            assert!(refusal.detail.unwrap().contains("paused by ann"));
        }
        handle.take(Control::default());
        assert!(handle.check(subject, now).is_ok());
    }
}
