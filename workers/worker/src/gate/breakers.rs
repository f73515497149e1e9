//! The circuit breakers of a worker, and the pauses that servers ask for.
//!
//! Connections count for each server: all tenants share its address. Answers count for each server and tenant, because one tenant's calls
//! may fail where another's succeed. A tool that takes too long does not count: other tools of its server may work, and the call's own
//! time-out bounds it. Failures of credentials or of the call's arguments move no breaker.
//!
//! **Invariant:** a call that was let through as a probe is reported or released, also when its future is dropped.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use toolfleet_core::breaker::{Admission, Breaker, BreakerPolicy};
use toolfleet_core::failure::{Evidence, Failure, Refusal};
use toolfleet_core::fleet::{BreakerState, ServerSeen};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;

use super::memory::{Memory, OfServer};

/// The breakers and pauses of a worker.
#[derive(Debug, Default)]
pub struct Breakers {
    policy: BreakerPolicy,
    known: Mutex<Memory>,
}

/// The right to ask a server once. Dropped without a report, it releases the probe.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    breakers: &'a Breakers,
    server: &'a ServerId,
    tenant: &'a Tenant,
    at: Timestamp,
    probes_connection: bool,
    probes_answer: bool,
}

impl Breakers {
    /// Closed breakers of that policy.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, known: Mutex::default() }
    }

    /// Whether a call of that tenant would be let through, without becoming a probe.
    pub fn peek(&self, server: &ServerId, tenant: &Tenant, now: Timestamp) -> Result<(), Refusal> {
        match self.known().servers.get(server) {
            Some(known) => known.peek(tenant, now),
            None => Ok(()),
        }
    }

    /// Asks for one attempt.
    pub fn ask<'a>(
        &'a self,
        server: &'a ServerId,
        tenant: &'a Tenant,
        now: Timestamp,
    ) -> Result<Permit<'a>, Refusal> {
        let mut permit = Permit {
            breakers: self,
            server,
            tenant,
            at: now,
            probes_connection: false,
            probes_answer: false,
        };
        if let Some(known) = self.known().servers.get_mut(server) {
            known.peek(tenant, now)?;
            permit.probes_connection = known.connections.ask(now) == Admission::Probe;
            if let Some(of_tenant) = known.tenants.get_mut(tenant) {
                permit.probes_answer = of_tenant.answers.ask(now) == Admission::Probe;
            }
        }
        Ok(permit)
    }

    /// How many breakers are open, those of single tenants included.
    pub fn open(&self, now: Timestamp) -> u64 {
        let refuses = |breaker: &Breaker| u64::from(breaker.peek(now) != Admission::Through);
        let of_server = |known: &OfServer| {
            let tenants = known.tenants.values().map(|of_tenant| refuses(&of_tenant.answers));
            refuses(&known.connections).saturating_add(tenants.sum::<u64>())
        };
        self.known().servers.values().map(of_server).sum()
    }

    /// The servers that refuse calls now, or refuse those of some tenant, and what is known of them. At most `most` servers, and as many
    /// tenants of each.
    pub fn not_open(&self, now: Timestamp, most: usize) -> BTreeMap<ServerId, ServerSeen> {
        let known = self.known();
        let seen = known.servers.iter().map(|(server, known)| (server, known.seen(now, most)));
        let seen = seen.filter(|(_, seen)| seen.breaker != BreakerState::Closed || !seen.tenants.is_empty());
        seen.take(most).map(|(server, seen)| (server.clone(), seen)).collect()
    }

    fn known(&self) -> MutexGuard<'_, Memory> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Learns how the attempt ended. Gives the pause that the server asked for, in milliseconds.
    pub fn record<T>(mut self, ended: &Result<T, Failure>, now: Timestamp) -> Option<u64> {
        let failure = ended.as_ref().err();
        let evidence = failure.map(|failure| failure.evidence);
        let summary = || failure.map(|failure| failure.summary.clone());
        let mut known = self.breakers.known();
        if matches!(evidence, None | Some(Evidence::Reached)) && !known.servers.contains_key(self.server) {
            return None;
        }
        let mut pause_ms = None;
        match evidence {
            Some(Evidence::NotConnected) => {
                let of_server = known.server(self.server, self.breakers.policy);
                of_server.last_failure = summary();
                if of_server.connections.report(false, self.probes_connection, now) {
                    let fault = failure.map(|failure| failure.summary.as_str());
                    tracing::warn!(server = %self.server, fault, code = "breaker_opened", "connections to the server fail too often: its breaker is open for all tenants");
                }
                self.probes_connection = false;
            }
            Some(Evidence::AnswerFailed) => {
                let of_tenant = known.pair(self.server, self.tenant, self.breakers.policy, now);
                of_tenant.last_failure = summary();
                if of_tenant.answers.report(false, self.probes_answer, now) {
                    let fault = failure.map(|failure| failure.summary.as_str());
                    tracing::warn!(server = %self.server, tenant = %self.tenant, fault, code = "breaker_opened", "the server fails a tenant's calls too often: its breaker is open for that tenant");
                }
                self.probes_answer = false;
            }
            Some(Evidence::Paused(floor_ms)) => {
                let of_tenant = known.pair(self.server, self.tenant, self.breakers.policy, now);
                of_tenant.last_failure = summary();
                pause_ms = Some(of_tenant.pause.asked(floor_ms, now));
            }
            None => {
                if let Some(of_tenant) = known.known_pair(self.server, self.tenant) {
                    of_tenant.answers.report(true, self.probes_answer, now);
                    of_tenant.pause.answered();
                }
                self.probes_answer = false;
            }
            Some(Evidence::Reached | Evidence::Nothing) => {}
        }
        if !matches!(evidence, Some(Evidence::NotConnected | Evidence::Nothing)) {
            known.reached(self.server, self.probes_connection, now);
            self.probes_connection = false;
        }
        known.forget_as_new(self.server, self.tenant, now);
        drop(known);
        pause_ms
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.probes_connection && !self.probes_answer {
            return;
        }
        let mut known = self.breakers.known();
        if let Some(of_server) = known.servers.get_mut(self.server) {
            if self.probes_connection {
                of_server.connections.release_probe(self.at);
            }
            if let Some(of_tenant) = of_server.tenants.get_mut(self.tenant).filter(|_| self.probes_answer) {
                of_tenant.answers.release_probe(self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_executors::failure_of;
    use toolfleet_mcp::{Fault, NotSentCause};

    use super::super::memory::MAX_PAIRS;
    use super::*;
    use toolfleet_core::call::HeldReason;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    struct Pair {
        breakers: Breakers,
        server: ServerId,
        acme: Tenant,
        globex: Tenant,
    }

    impl Pair {
        fn new() -> Self {
            let policy = BreakerPolicy { window: 4, failures: 2, cool_down_ms: 1_000 };
            Self {
                breakers: Breakers::new(policy),
                server: ServerId::parse("crm").unwrap(),
                acme: Tenant::parse("acme").unwrap(),
                globex: Tenant::parse("globex").unwrap(),
            }
        }

        fn ask<'a>(&'a self, tenant: &'a Tenant, now: i64) -> Result<Permit<'a>, Refusal> {
            self.breakers.ask(&self.server, tenant, at(now))
        }

        fn ends(&self, tenant: &Tenant, fault: &Fault, now: i64) -> Option<u64> {
            self.ask(tenant, now).expect("let through").record(&Err::<(), _>(failure_of(fault)), at(now))
        }
    }

    fn lost() -> Fault {
        Fault::AnswerLost { detail: "reset".into() }
    }

    fn away() -> Fault {
        Fault::Connect { detail: "refused".into() }
    }

    #[test]
    fn what_answers_say_to_one_tenant_closes_the_server_to_no_other() {
        let failures = [
            lost(),
            Fault::ServerStatus { status: 500, detail: String::new(), retry_after_ms: None },
            Fault::RpcAmbiguous { code: -32_603, message: String::new() },
            Fault::InvalidAnswer { detail: String::new() },
            Fault::SessionLost,
            Fault::NotSent { detail: String::new(), cause: NotSentCause::Answer },
        ];
        for fault in failures {
            let pair = Pair::new();
            pair.ends(&pair.acme, &fault, 0);
            pair.ends(&pair.acme, &fault, 0);
            let refusal = pair.ask(&pair.acme, 0).unwrap_err();
            assert_eq!((refusal.reason, refusal.retry_after_ms), (HeldReason::ServerFailing, 1_000));
            assert_eq!(refusal.last_failure, Some(fault.summary()));
            assert!(pair.ask(&pair.globex, 0).is_ok(), "{fault}");
        }
    }

    #[test]
    fn servers_that_refuse_calls_are_reported_with_the_reason() {
        let pair = Pair::new();
        assert!(pair.breakers.not_open(at(0), 9).is_empty());
        pair.ends(&pair.acme, &lost(), 0);
        assert!(pair.breakers.not_open(at(0), 9).is_empty(), "one failure closes nothing");
        pair.ends(&pair.acme, &lost(), 0);
        pair.ends(&pair.globex, &Fault::RateLimited { retry_after_ms: Some(5_000) }, 0);
        let seen = pair.breakers.not_open(at(0), 9).remove(&pair.server).unwrap();
        assert_eq!((seen.breaker, seen.last_failure), (BreakerState::Closed, None));
        assert_eq!(seen.tenants[&pair.acme].breaker, BreakerState::Open);
        assert_eq!(seen.tenants[&pair.acme].last_failure, Some(lost().summary()));
        assert_eq!(seen.tenants[&pair.globex].paused_until, Some(at(5_000)));
        pair.ends(&pair.globex, &away(), 5_000);
        pair.ends(&pair.globex, &away(), 5_000);
        let seen = pair.breakers.not_open(at(5_000), 9).remove(&pair.server).unwrap();
        assert_eq!((seen.breaker, seen.last_failure), (BreakerState::Open, Some(away().summary())));
        assert_eq!(seen.tenants[&pair.acme].breaker, BreakerState::HalfOpen);
    }

    #[test]
    fn connections_that_fail_close_the_server_to_all_tenants() {
        let pair = Pair::new();
        pair.ends(&pair.acme, &away(), 0);
        pair.ends(&pair.globex, &away(), 0);
        for tenant in [&pair.acme, &pair.globex] {
            assert_eq!(pair.ask(tenant, 0).unwrap_err().reason, HeldReason::ServerUnreachable);
        }
        // Any answer shows that the connection is there again, also one that refuses the call.
        pair.ends(&pair.acme, &Fault::Unauthorized { detail: String::new() }, 1_000);
        assert!(pair.ask(&pair.globex, 1_000).is_ok());
    }

    #[test]
    fn slow_tools_bad_arguments_and_configuration_move_nothing() {
        let faults = [
            Fault::AttemptTimeout { after_ms: 1, detail: String::new() },
            Fault::NotSent { detail: String::new(), cause: NotSentCause::Time },
            Fault::NotSent { detail: String::new(), cause: NotSentCause::Place },
            Fault::NotSent { detail: String::new(), cause: NotSentCause::Command },
            Fault::Rpc { code: -32_602, message: String::new() },
            Fault::RpcAmbiguous { code: 42, message: String::new() },
            Fault::ServerStatus { status: 409, detail: String::new(), retry_after_ms: None },
            Fault::ClientStatus { status: 400, detail: String::new() },
            Fault::AnswerTooLarge { limit_bytes: 1 },
            Fault::Unauthorized { detail: String::new() },
            Fault::Forbidden { scope: None, detail: String::new() },
            Fault::Credential { detail: String::new() },
            Fault::CredentialPending { detail: String::new() },
            Fault::SessionStoreUnavailable { detail: String::new() },
            Fault::VersionUnsupported { supported: Vec::new() },
            Fault::AddressRefused { detail: String::new() },
            Fault::Redirect {
                location: String::new(),
                may_have_run: toolfleet_core::outcome::MayHaveRun::No,
            },
        ];
        for fault in faults {
            let pair = Pair::new();
            for _ in 0..100 {
                pair.ends(&pair.acme, &fault, 0);
            }
            assert!(pair.ask(&pair.acme, 0).is_ok(), "{fault}");
            assert!(pair.breakers.known().servers.is_empty(), "nothing is remembered of {fault}");
        }
    }

    #[test]
    fn a_probe_that_timed_out_or_was_dropped_lets_the_next_call_probe() {
        for fault in [lost(), away()] {
            let pair = Pair::new();
            pair.ends(&pair.acme, &fault, 0);
            pair.ends(&pair.acme, &fault, 0);
            drop(pair.ask(&pair.acme, 1_000).expect("a probe"));
            let probe = pair.ask(&pair.acme, 1_001).expect("the dropped probe was released");
            assert!(pair.ask(&pair.acme, 1_001).is_err(), "one probe at a time");
            probe.record(
                &Err::<(), _>(failure_of(&Fault::AttemptTimeout { after_ms: 1, detail: String::new() })),
                at(1_100),
            );
            let probe = pair.ask(&pair.acme, 1_100).expect("a time-out is no probe");
            probe.record(&Ok(()), at(1_101));
            assert!(pair.breakers.known().servers.is_empty(), "a closed breaker is as new");
        }
    }

    #[test]
    fn a_pause_holds_one_tenant_grows_and_is_no_failure() {
        let pair = Pair::new();
        let limited = |ms| Fault::RateLimited { retry_after_ms: ms };
        assert_eq!(pair.ends(&pair.acme, &limited(None), 0), Some(1_000));
        assert_eq!(pair.ask(&pair.acme, 0).unwrap_err().reason, HeldReason::ServerPause);
        assert!(pair.ask(&pair.globex, 0).is_ok());
        assert_eq!(pair.ends(&pair.acme, &limited(None), 1_000), Some(2_000));
        assert_eq!(pair.ends(&pair.acme, &limited(Some(9_000)), 3_000), Some(9_000));
        let _ = pair.ask(&pair.acme, 12_000).expect("over").record(&Ok(()), at(12_000));
        assert!(pair.breakers.known().servers.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_however_many_tenants_there_are() {
        let pair = Pair::new();
        for n in 0..(MAX_PAIRS + 100) {
            let tenant = Tenant::parse(format!("t{n}")).unwrap();
            pair.ends(&tenant, &Fault::RateLimited { retry_after_ms: Some(1_000_000) }, 0);
        }
        let known = pair.breakers.known();
        let pairs: usize = known.servers.values().map(|of_server| of_server.tenants.len()).sum();
        assert!(pairs <= MAX_PAIRS && pairs == known.pairs, "{pairs} {}", known.pairs);
    }
}
