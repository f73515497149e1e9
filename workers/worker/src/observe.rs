//! The metrics that are read when they are collected.

use std::sync::Arc;

use opentelemetry::KeyValue;
use toolfleet_core::fleet::{BreakerState, FleetSummary, busiest};

use crate::context::WorkerContext;
use crate::telemetry::{MOST_SERVERS, OTHER_SERVERS};

/// Registers the metrics that are read when they are collected.
pub(crate) fn observe(context: &Arc<WorkerContext>) {
    let slots = u64::from(context.limits.slots);
    context.meters.watch(
        "toolfleet.slots",
        "Calls of one tenant to one server that this worker may run at once.",
        move || slots,
    );
    let of = Arc::downgrade(context);
    let open = move || of.upgrade().map_or(0, |context| context.gate.open_breakers(context.now()));
    context.meters.watch("toolfleet.breakers.open", "Servers that are not asked for now.", open);
    let of = Arc::downgrade(context);
    let taken = move || of.upgrade().map_or(0, |context| context.catalog.reloads().taken);
    context.meters.watch_count(
        "toolfleet.catalog.taken",
        "Versions of the catalog taken since the start.",
        taken,
    );
    let of = Arc::downgrade(context);
    let refused = move || of.upgrade().map_or(0, |context| context.catalog.reloads().refused);
    context.meters.watch_count(
        "toolfleet.catalog.refused",
        "Versions of the catalog that were wrong or unreadable.",
        refused,
    );
    let of = Arc::downgrade(context);
    let programs = move || of.upgrade().map_or(0, |context| context.mcp.programs() as u64);
    context.meters.watch("toolfleet.stdio.programs", "Servers that are programs and run now.", programs);
    observe_control(context);
    observe_answers(context);
    observe_schemas(context);
    observe_fleet(context);
    observe_queues(context);
    observe_breakers(context);
    observe_aws(context);
    let aws = context.aws();
    let requests = move || aws.batching().requests;
    context.meters.watch_count("toolfleet.store.requests", "Write requests sent to the tables.", requests);
    let aws = context.aws();
    let statements = move || aws.batching().statements;
    context.meters.watch_count("toolfleet.store.writes", "Writes in them.", statements);
    let run_queue = context.run_queue.clone();
    context.meters.watch(
        "toolfleet.run_queue.lag_us",
        "How long a task waited for a thread lately, in microseconds; above 1,000 requests wait for company.",
        move || run_queue.lag_us(),
    );
}

/// How old what the worker knows of what operators set is; nothing before it has read it.
fn observe_control(context: &Arc<WorkerContext>) {
    let of = Arc::downgrade(context);
    context.meters.watch_known(
        "toolfleet.control.age_ms",
        "How long ago the worker last knew what operators have set.",
        move || of.upgrade()?.gate.control().age_ms(),
    );
}

fn observe_schemas(context: &Arc<WorkerContext>) {
    let schemas = context.schemas.clone();
    let compiled = move || schemas.figures().compiled;
    context.meters.watch_count("toolfleet.schemas.compiled", "Schemas of tools compiled.", compiled);
    let schemas = context.schemas.clone();
    let dropped = move || schemas.figures().dropped;
    context.meters.watch_count(
        "toolfleet.schemas.dropped",
        "Compiled schemas dropped to stay within the bound.",
        dropped,
    );
    let schemas = context.schemas.clone();
    let bytes = move || schemas.figures().bytes;
    context.meters.watch("toolfleet.schemas.bytes", "About what the compiled schemas take.", bytes);
}

/// The metrics of the stored answers.
fn observe_answers(context: &Arc<WorkerContext>) {
    let of = Arc::downgrade(context);
    let entries = move || of.upgrade().map_or(0, |context| context.answers.size().0);
    context.meters.watch("toolfleet.cache.entries", "Stored answers.", entries);
    let of = Arc::downgrade(context);
    let bytes = move || of.upgrade().map_or(0, |context| context.answers.size().1);
    context.meters.watch("toolfleet.cache.bytes", "Bytes that the stored answers take.", bytes);
}

/// The metrics of the whole fleet, the same in each worker; none while nobody makes the summary.
fn observe_fleet(context: &Arc<WorkerContext>) {
    let of = |read: fn(&FleetSummary) -> Option<u64>| {
        let of = Arc::downgrade(context);
        move || of.upgrade().and_then(|context| read(&*context.fleet_view.current(context.now())?))
    };
    context.meters.watch_known(
        "toolfleet.fleet.runnable_seconds",
        "Slot time that the work needs which runs or could run, in the whole fleet.",
        of(|summary| Some(summary.runnable?.seconds())),
    );
    context.meters.watch_known(
        "toolfleet.fleet.waiting_seconds",
        "The part of it that waits.",
        of(|summary| Some(summary.runnable?.waiting_seconds())),
    );
    context.meters.watch_known(
        "toolfleet.fleet.wanted_slots",
        "Slots that the fleet needs for its work to wait no longer than it may.",
        of(|summary| Some(summary.runnable?.wanted_slots)),
    );
    context.meters.watch_known(
        "toolfleet.fleet.slots",
        "Slots of all workers that live.",
        of(|summary| Some(summary.workers.slots)),
    );
}

/// How long messages wait, by queue.
fn observe_queues(context: &Arc<WorkerContext>) {
    let of = Arc::downgrade(context);
    let oldest = move || {
        let summary = of.upgrade().and_then(|context| context.fleet_view.current(context.now()));
        let queues = summary.iter().flat_map(|summary| &summary.queues);
        let label = |name: &String| [KeyValue::new("messaging.destination.name", name.clone())];
        queues.filter_map(|(name, seen)| Some((label(name), seen.oldest_ms?))).collect()
    };
    context.meters.watch_each(
        "toolfleet.queue.oldest_ms",
        "The longest wait of a message that the fleet received for the first time since the last beat.",
        oldest,
    );
}

/// The breakers that are not closed, by server: the worst of a server and its tenants.
fn observe_breakers(context: &Arc<WorkerContext>) {
    let of = Arc::downgrade(context);
    let states = move || {
        let not_open = of.upgrade().map(|context| context.gate.not_open(context.now(), usize::MAX));
        let worst = |(server, seen): (_, toolfleet_core::fleet::ServerSeen)| {
            let of_tenants = seen.tenants.values().map(|tenant| tenant.breaker).max();
            (server, seen.breaker.max(of_tenants.unwrap_or_default()))
        };
        let mut states = not_open.unwrap_or_default().into_iter().map(worst).collect();
        let rest = busiest(&mut states, MOST_SERVERS, |state: &BreakerState| *state);
        let label = |server: String| [KeyValue::new("toolfleet.server", server)];
        let mut shown: Vec<_> =
            states.into_iter().map(|(server, state)| (label(server.to_string()), number(state))).collect();
        shown.extend(rest.values().max().map(|state| (label(OTHER_SERVERS.to_owned()), number(*state))));
        shown
    };
    context.meters.watch_each(
        "toolfleet.server.breaker",
        "The worst breaker of a server that is not closed: 1 half-open, 2 open.",
        states,
    );
}

const fn number(state: BreakerState) -> u64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

/// What the worker uses of AWS.
fn observe_aws(context: &Arc<WorkerContext>) {
    if !context.meters.is_on() {
        return;
    }
    let usage = context.usage();
    usage.begin();
    let counted = usage.clone();
    #[expect(clippy::cast_precision_loss, reason = "a process sends less than 2^52 requests")]
    let requests = move || {
        let label = |operation| [KeyValue::new("rpc.method", operation)];
        counted.requests().into_iter().map(|(operation, count)| (label(operation), count as f64)).collect()
    };
    context.meters.watch_sums("toolfleet.aws.requests", "Requests to AWS, repetitions included.", requests);
    let units = move || {
        let label = |table, kind: &'static str| {
            [KeyValue::new("toolfleet.table", table), KeyValue::new("toolfleet.units", kind)]
        };
        usage.units().into_iter().map(|(table, kind, used)| (label(table, kind.as_str()), used)).collect()
    };
    context.meters.watch_sums("toolfleet.aws.capacity_units", "Capacity units of DynamoDB.", units);
}
