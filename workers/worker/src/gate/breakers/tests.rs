//! Tests of the breakers: what opens which, and for whom.

use toolfleet_executors::failure_of;
use toolfleet_mcp::{Fault, NotSentCause};

use super::super::memory::MAX_PAIRS;
use super::*;
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::ToolNames;

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
        self.breakers.ask(&self.server, tenant, None, at(now))
    }

    fn ask_tool<'a>(&'a self, tenant: &'a Tenant, tool: &'a str, now: i64) -> Result<Permit<'a>, Refusal> {
        let tool = ToolNames { registered: Some(tool), server: "crm", name: "find" };
        self.breakers.ask(&self.server, tenant, Some(tool), at(now))
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
    // It may be the answer of a tool that threw an error.
    let (pair, thrown) = (Pair::new(), Fault::RpcAmbiguous { code: -32_603, message: String::new() });
    pair.ends(&pair.acme, &thrown, 0);
    pair.ends(&pair.acme, &thrown, 0);
    assert!(pair.ask(&pair.acme, 0).is_ok(), "{thrown}");
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
fn bad_arguments_and_configuration_move_nothing() {
    let faults = [
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
        Fault::Redirect { location: String::new(), may_have_run: toolfleet_core::outcome::MayHaveRun::No },
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
fn time_outs_close_one_tool_to_one_tenant_until_it_answers() {
    let pair = Pair::new();
    let late = || Err::<(), _>(failure_of(&Fault::AttemptTimeout { after_ms: 1, detail: String::new() }));
    for n in 0..5 {
        let open = |tenant, tool| pair.ask_tool(tenant, tool, n).is_ok();
        assert!(open(&pair.acme, "slow"), "after {n} time-outs");
        pair.ask_tool(&pair.acme, "slow", n).unwrap().record(&late(), at(n));
    }
    let refusal = pair.ask_tool(&pair.acme, "slow", 5).unwrap_err();
    assert_eq!(refusal.reason, HeldReason::ServerFailing);
    assert!(refusal.last_failure.is_some());
    assert!(pair.ask_tool(&pair.acme, "fast", 5).is_ok(), "another tool");
    assert!(pair.ask_tool(&pair.globex, "slow", 5).is_ok(), "another tenant");
    assert!(pair.ask(&pair.acme, 5).is_ok(), "a request that is no call of a tool");
    assert_eq!(pair.breakers.open(at(5)), 1);
    let seen = pair.breakers.not_open(at(5), 9).remove(&pair.server).unwrap();
    assert_eq!((seen.breaker, seen.tenants.len()), (BreakerState::Closed, 1));
    // The probe that is dropped is released; the next times out, and one that is answered closes it.
    drop(pair.ask_tool(&pair.acme, "slow", 10_004).unwrap());
    pair.ask_tool(&pair.acme, "slow", 10_004).unwrap().record(&late(), at(12_000));
    assert!(pair.ask_tool(&pair.acme, "slow", 21_999).is_err());
    let refused = Err::<(), _>(failure_of(&Fault::Rpc { code: -32_602, message: String::new() }));
    pair.ask_tool(&pair.acme, "slow", 22_000).unwrap().record(&refused, at(22_001));
    assert!(pair.ask_tool(&pair.acme, "slow", 22_002).is_ok());
    assert!(pair.breakers.known().servers.is_empty(), "nothing is remembered");
}

#[test]
fn a_tool_that_answers_most_calls_in_time_stays_open() {
    let pair = Pair::new();
    let late = || Err::<(), _>(failure_of(&Fault::AttemptTimeout { after_ms: 1, detail: String::new() }));
    for n in 0..100 {
        let permit = pair.ask_tool(&pair.acme, "slow", n).expect("open");
        permit.record(&if n % 2 == 0 { late() } else { Ok(()) }, at(n));
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
