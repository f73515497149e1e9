//! One delivery of one message: what SQS says of it, and the nonce of this delivery.
//!
//! What a delayed message says about the message that it replaced counts only if a worker of the fleet has sent it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Delivery, Queue, Receipt};
use toolfleet_catalog::Catalog;
use toolfleet_core::call::{Caller, DeliveryContext};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallKey, Nonce, Tenant};
use toolfleet_core::limits::CarriedTurn;
pub(super) use toolfleet_core::message_attributes::{
    FIRST_MESSAGE, FIRST_SENDER, FIRST_SENT, OWN, PARKS, REASON, SPAN, TURN,
};
use toolfleet_core::request::{CallRequest, sns_attribute};
use toolfleet_core::requeue::in_order_s;
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;
use tracing::Span;

use super::origin::Origin;
use crate::answers::Generation;
use crate::backoff;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;
use crate::telemetry::trace::{self, Onward, TRACEPARENT, TRACESTATE};

/// The turn of a message that polls a task.
const POLL: &str = "poll";
/// The longest time for which SQS hides a delivery, in seconds, less a minute for the way there.
const LONGEST_HIDDEN_S: u32 = 12 * 60 * 60 - 60;

/// What a call holds beside its message while it is completed, in KiB.
const STATE_KIB: u32 = 4;

use toolfleet_core::requeue::MANY_RECEIVES;

/// One delivery of one message.
pub(crate) struct InboundCall {
    delivery: Delivery,
    origin: Origin,
    /// When it came.
    received: Instant,
    catalog: Arc<Catalog>,
    /// Which of the worker's catalogs that is.
    began: Generation,
    nonce: Nonce,
    /// Its span, where traces go somewhere.
    pub(super) span: Span,
    /// When the call's first message was sent.
    pub(super) enqueued_at: Timestamp,
    /// Who sent it.
    pub(super) sender: Option<String>,
    /// The id of the call's first message; unknown where a worker of an earlier version parked it.
    pub(super) first_message: Option<String>,
    /// How often it was parked.
    pub(super) parks: u32,
    /// Whether a worker has moved it to the dead-letter queue, to be left to an operator.
    pub(super) kept: bool,
    /// What the message carries of its call's limits.
    carried: Carried,
    /// What the message that replaces it carries, where this delivery has set it.
    carries_on: Mutex<Option<Carried>>,
    /// Whose call it is, once it is decoded.
    tenant: OnceLock<Tenant>,
    /// Whether the call has its index in its group, which was open when this delivery looked.
    joined: AtomicBool,
}

/// What a message carries of its call's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing.
    Nothing,
    /// A turn, or the time by which the call may ask for one.
    Turn(CarriedTurn),
    /// It polls a task: polls are not limited.
    Poll,
}

impl Carried {
    /// The value of the attribute; nothing has none.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Turn(turn) => Some(turn.to_string()),
            Self::Poll => Some(POLL.to_owned()),
        }
    }

    /// The wait of a call whose turn this delivery has used, or could not use. A poll that waits for anything stays a poll.
    fn waited(&self) -> Option<Self> {
        match self {
            Self::Turn(CarriedTurn { limit, wake_at, .. }) => Some(Self::Turn(CarriedTurn {
                limit: limit.clone(),
                turn: None,
                wake_at: *wake_at,
                others: Vec::new(),
            })),
            Self::Poll => Some(Self::Poll),
            Self::Nothing => None,
        }
    }

    fn read(text: &str) -> Self {
        if text == POLL {
            return Self::Poll;
        }
        text.parse().map_or(Self::Nothing, Self::Turn)
    }
}

impl InboundCall {
    /// One that the worker has received.
    pub(super) fn new(context: &WorkerContext, delivery: Delivery) -> Self {
        Self::of(context, delivery, Origin::received(context))
    }

    pub(super) fn of(context: &WorkerContext, mut delivery: Delivery, origin: Origin) -> Self {
        // SNS puts a message's attributes into the body that it wraps.
        for name in [TRACEPARENT, TRACESTATE] {
            if !delivery.attributes.contains_key(name)
                && let Some(value) = sns_attribute(&delivery.body, name)
            {
                delivery.attributes.insert(name.to_owned(), value);
            }
        }
        // Read before the catalog: where that changes in between, the call's answer is not kept.
        let began = context.answers.generation();
        let catalog = context.catalog.current();
        let ours = catalog.is_fleet_sender(delivery.sender.as_deref());
        let of_fleet = |name: &str| delivery.attributes.get(name).filter(|_| ours);
        // Whatever an attribute says, no message was first sent after itself, or before any message that could still exist.
        let possible =
            |at: &Timestamp| *at <= delivery.sent_at && delivery.sent_at.ms_since(*at) <= RETENTION_MS;
        let enqueued_at = of_fleet(FIRST_SENT)
            .and_then(|ms| ms.parse::<i64>().ok())
            .map(Timestamp::from_ms)
            .filter(possible)
            .unwrap_or(delivery.sent_at);
        let sender = of_fleet(FIRST_SENDER).cloned().or_else(|| delivery.sender.clone());
        let parks = of_fleet(PARKS).and_then(|n| n.parse().ok()).unwrap_or(0);
        let nonce = Nonce::from_random(uuid::Uuid::new_v4().as_u128());
        let parked = of_fleet(PARKS).is_some() || of_fleet(FIRST_SENT).is_some();
        let first_message =
            of_fleet(FIRST_MESSAGE).cloned().or_else(|| (!parked).then(|| delivery.message_id.clone()));
        // One that SQS has given up since was moved back to the calls: its call ends as any other.
        let kept = of_fleet(REASON).is_some() && delivery.given_up_by.is_none();
        let (received, span) = (Instant::now(), Span::none());
        let carried = of_fleet(TURN).map_or(Carried::Nothing, |text| Carried::read(text));
        let tenant = OnceLock::new();
        Self {
            catalog,
            began,
            nonce,
            enqueued_at,
            sender,
            first_message,
            parks,
            kept,
            carried,
            carries_on: Mutex::new(None),
            tenant,
            joined: AtomicBool::new(false),
            delivery,
            origin,
            received,
            span,
        }
    }

    /// The catalog that was current when the message arrived; every step uses this one.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The same, for what outlives the delivery.
    pub(super) fn catalog_of_delivery(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// Under which of the worker's catalogs it came.
    pub(super) const fn began(&self) -> Generation {
        self.began
    }

    pub(super) fn body(&self) -> &str {
        &self.delivery.body
    }

    /// Drops the body, once nothing will send it again.
    pub(super) fn forget_body(&mut self) {
        self.delivery.body = String::new();
    }

    /// About how many KiB of memory it holds.
    pub(super) fn kib(&self) -> u32 {
        let attributes: usize = self.delivery.attributes.values().map(String::len).sum();
        let bytes = self.delivery.body.len().saturating_add(attributes);
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(STATE_KIB)
    }

    pub(crate) fn message_id(&self) -> &str {
        &self.delivery.message_id
    }

    /// The id that the sender of the call's first message was given, as far as that is known.
    pub(super) fn first_id(&self) -> &str {
        self.first_message.as_deref().unwrap_or_else(|| self.message_id())
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// The queue that the message came from: it is deleted there, hidden there, and sent on to it.
    pub(super) const fn queue(&self) -> &Queue {
        &self.delivery.queue
    }

    /// How it came to the worker.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The end of what runs for it.
    pub(super) const fn shutdown(&self) -> &Shutdown {
        self.origin.shutdown()
    }

    /// Deletes the message.
    pub(super) async fn delete(&self) -> Result<(), AwsError> {
        self.origin.delete(&self.delivery).await
    }

    pub(super) const fn receipt(&self) -> &Receipt {
        &self.delivery.receipt
    }

    pub(super) const fn receive_count(&self) -> u32 {
        self.delivery.receive_count
    }

    /// How many seconds of invisibility SQS still gives this delivery: twelve hours from its receive in all.
    pub(super) fn hideable_s(&self) -> u32 {
        LONGEST_HIDDEN_S.saturating_sub(u32::try_from(self.received.elapsed().as_secs()).unwrap_or(u32::MAX))
    }

    /// How long the message is out of the workers' hands that is to wait for `after_ms`, in milliseconds. In a queue that keeps its order the
    /// waits grow with each receive.
    pub(super) fn away_ms(&self, after_ms: u64) -> u64 {
        if !self.queue().is_fifo() {
            return after_ms;
        }
        let hidden_s = in_order_s(self.receive_count(), after_ms.div_ceil(1_000));
        hidden_s.min(u64::from(self.hideable_s())).saturating_mul(1_000)
    }

    /// When the worker received the message.
    pub(super) const fn received(&self) -> Instant {
        self.received
    }

    /// How long the message had waited in its queue, in milliseconds, if this is the first receive of a call that was never parked.
    pub(super) fn first_wait_ms(&self, now: Timestamp) -> Option<u64> {
        self.is_first_receive().then(|| now.ms_since(self.enqueued_at))
    }

    /// Whether this is the first receive of a message that its caller sent: it was neither parked, nor given up, nor redriven.
    pub(super) fn is_first_receive(&self) -> bool {
        self.parks == 0
            && self.delivery.receive_count <= 1
            && self.enqueued_at == self.delivery.sent_at
            && self.delivery.given_up_by.is_none()
            && self.first_message.as_deref() == Some(self.message_id())
    }

    /// How often the call was received, the receives of replaced messages included: the input of the back-off.
    pub(super) const fn tries(&self) -> u32 {
        self.parks.saturating_mul(MANY_RECEIVES).saturating_add(self.delivery.receive_count)
    }

    /// How long to wait for a call that another delivery holds: its holder may end any moment, so not for its whole lease.
    pub(super) fn wait_for_holder_ms(&self, lease_left_ms: u64) -> u64 {
        lease_left_ms.min(backoff::after_tries(self.tries()).max(1_000))
    }

    /// What the message carries of its call's limits.
    pub(super) const fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Whether the message carries a turn that is still to come.
    pub(super) fn carries_turn(&self, now: Timestamp) -> bool {
        match &self.carried {
            Carried::Turn(CarriedTurn { turn: Some(turn), .. }) => turn.at() >= now,
            Carried::Turn(CarriedTurn { turn: None, .. }) | Carried::Nothing | Carried::Poll => false,
        }
    }

    /// Lets the message that replaces it carry that, and nothing that was set before.
    pub(super) fn carry(&self, carried: Carried) {
        *self.carries_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(carried);
    }

    /// The call has no task, or none any more: the message that replaces this one does not say that it polls.
    pub(super) fn polls_no_longer(&self) {
        if self.carried == Carried::Poll {
            self.carry(Carried::Nothing);
        }
    }

    /// Whether this delivery has a turn, or the time to ask for one, that only a message which replaces its own can take on.
    pub(super) fn takes_a_turn_on(&self) -> bool {
        let carries_on = self.carries_on.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*carries_on, Some(Carried::Turn(_)))
    }

    /// What the message that replaces it carries: what this delivery has set, else that its call has waited for a limit. A pause of its server
    /// or a retry does not send it back to the end of those that wait.
    pub(super) fn carries_on(&self) -> Option<String> {
        match &*self.carries_on.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(carried) => carried.text(),
            None => self.carried.waited()?.text(),
        }
    }

    /// The mark of this delivery.
    pub(super) const fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// When this very message was sent: the same at each of its deliveries.
    pub(super) const fn sent_at(&self) -> Timestamp {
        self.delivery.sent_at
    }

    /// Notes that the call has its index in its group, which is open.
    pub(super) fn joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Notes whose call it is.
    pub(super) fn is_of(&self, tenant: &Tenant) {
        self.tenant.get_or_init(|| tenant.clone());
    }

    /// The `MessageGroupId` of a message that replaces this one in a standard queue: the tenant, whatever its sender has set, so that fair
    /// queues know whose message it is.
    pub(super) fn group(&self) -> Option<String> {
        self.tenant.get().map(ToString::to_string).or_else(|| self.delivery.group.clone())
    }

    pub(super) const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The trace context that the sender gave.
    pub(crate) fn trace_context(&self) -> Onward {
        let read = |name: &str| self.delivery.attributes.get(name).filter(|v| !v.is_empty()).cloned();
        let told = Onward { traceparent: read(TRACEPARENT), tracestate: read(TRACESTATE) };
        told.or(Onward::of_aws(self.delivery.trace_header.as_deref().unwrap_or_default()))
    }

    /// The id of the trace that the delivery is part of, for its record.
    pub(super) fn trace_id(&self) -> Option<String> {
        let context = trace::onward(&self.span).or(self.trace_context());
        context.traceparent.as_deref().and_then(trace::trace_id).map(str::to_owned)
    }

    /// The span of the delivery whose worker parked the call.
    pub(super) fn earlier_span(&self) -> Option<&str> {
        self.delivery.attributes.get(SPAN).map(String::as_str)
    }

    /// What this delivery brings to the state table.
    pub(super) fn delivery_context(
        &self,
        context: &WorkerContext,
        request: &CallRequest,
        repeatable: bool,
    ) -> DeliveryContext {
        let (key, digest) = (request.key.clone(), request.digest.clone());
        DeliveryContext {
            earlier_digest: request.earlier_digest.clone(),
            deadline: Some(request.deadline(self.enqueued_at, context.limits.default_deadline_ms())),
            may_be_claimless: self.catalog.may_be_claimless(request),
            ..self.context_by(context, self.caller(request), (key, digest), repeatable)
        }
    }

    /// Who asks by this message.
    pub(super) fn caller(&self, request: &CallRequest) -> Caller {
        Caller::of(request, self.sender.as_deref(), self.first_message.as_deref())
    }

    /// The same for a call of which no more than this is known.
    pub(super) fn delivery_context_of(
        &self,
        context: &WorkerContext,
        key: CallKey,
        digest: Digest,
        repeatable: bool,
    ) -> DeliveryContext {
        let caller = Caller::unknown(self.sender.as_deref(), self.first_message.as_deref());
        self.context_by(context, caller, (key, digest), repeatable)
    }

    /// The same for a call that this caller made.
    fn context_by(
        &self,
        context: &WorkerContext,
        caller: Caller,
        (key, digest): (CallKey, Digest),
        repeatable: bool,
    ) -> DeliveryContext {
        DeliveryContext {
            key,
            digest,
            earlier_digest: None,
            caller: Box::new(caller),
            nonce: self.nonce.clone(),
            worker: context.worker.clone(),
            enqueued_at: self.enqueued_at,
            deadline: None,
            now: context.now(),
            skew_ms: context.limits.skew_ms(),
            may_be_claimless: false,
            repeatable,
            expires_at: self.enqueued_at.plus_ms(RETENTION_MS),
        }
    }
}
