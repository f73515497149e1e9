//! The embedded endpoints, a client of them, and the rows that a worker writes.

use std::sync::Arc;

use serde_json::json;
use toolfleet_aws::calls::Calls;
use toolfleet_aws::payloads::{Packed, Payloads};
use toolfleet_aws::{Applied, apply};
use toolfleet_client::{Aws, AwsOptions, Client, RequestBuilder, Tables};
use toolfleet_core::call::{CallRow, Caller, Claim, DeliveryContext, Effect, Event};
use toolfleet_core::ids::{CallId, CallKey, Nonce, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, Outcome, Payload};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;
use toolfleet_local::{ACCOUNT_ID, Clock, LocalEndpoints, LocalOptions, REGION};

pub(crate) const START_MS: i64 = 1_795_000_000_000;

pub(crate) struct World {
    pub(crate) local: LocalEndpoints,
    pub(crate) clock: Clock,
    pub(crate) aws: Aws,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        let clock = Clock::manual(u64::try_from(START_MS).unwrap());
        let options = LocalOptions {
            clock: clock.clone(),
            parameters: [("PriorityQueues".to_owned(), "true".to_owned())].into(),
            ..LocalOptions::default()
        };
        let local = LocalEndpoints::start(options).await.expect("the local endpoints start");
        let aws = connect(&local, local.s3_url()).await;
        let client = client(&aws, &local, &clock);
        Self { local, clock, aws, client }
    }

    /// A client whose bucket does not answer.
    pub(crate) async fn client_without_bucket(&self) -> Client {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        client(&connect(&self.local, &closed).await, &self.local, &self.clock)
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_ms(i64::try_from(self.clock.now_ms()).unwrap())
    }

    pub(crate) fn bucket(&self) -> String {
        format!("toolfleet-payloads-{ACCOUNT_ID}-{REGION}")
    }

    pub(crate) fn calls(&self) -> Calls {
        self.aws.calls(&Tables::with_prefix("toolfleet"))
    }

    /// The payloads of the fleet's bucket, where every result is large.
    pub(crate) fn payloads(&self) -> Payloads {
        self.aws.payloads(Some(self.bucket()), 0)
    }

    pub(crate) async fn apply(&self, seen: Option<&CallRow>, event: &Event) -> (CallRow, Effect) {
        match apply(&self.calls(), seen, event).await.unwrap() {
            Applied::Stored { row, then } => (*row, then),
            Applied::Rejected { rejection, .. } => panic!("{rejection:?}"),
        }
    }

    /// Claims the call, as a worker does before it executes it.
    pub(crate) async fn claim(&self, request: &CallRequest, message_id: &str) -> (CallRow, Claim) {
        let delivery = self.delivery(request, message_id);
        let event = Event::Claim { delivery, lease_ms: 60_000, definition: None, answers: None };
        match self.apply(None, &event).await {
            (row, Effect::Execute(claim)) => (row, claim),
            (row, effect) => panic!("{effect:?}: {row:?}"),
        }
    }

    /// Ends a claimed call.
    pub(crate) async fn finish(&self, (row, claim): (CallRow, Claim), outcome: Outcome) {
        let (now, task, notes) = (self.now(), None, None);
        self.apply(Some(&row), &Event::Finish { claim, outcome, attempts: 1, task, now, notes }).await;
    }

    /// Ends the call.
    pub(crate) async fn end(&self, request: &CallRequest, message_id: &str, outcome: Outcome) {
        let delivery = self.delivery(request, message_id);
        self.apply(None, &Event::Conclude { delivery, outcome, definition: None }).await;
    }

    /// Ends the call with a result that is stored in the bucket.
    pub(crate) async fn end_stored(&self, request: &CallRequest, message_id: &str) {
        let outcome = self.stored(request).await;
        self.end(request, message_id, outcome).await;
    }

    /// Ends the call with a result that was stored under `key` and has expired there.
    pub(crate) async fn end_expired(&self, request: &CallRequest, message_id: &str, key: &str) {
        let mut outcome = self.stored(request).await;
        if let Some(Payload::Stored(stored)) = &mut outcome.payload {
            stored.at.key = key.to_owned();
        }
        self.end(request, message_id, outcome).await;
    }

    async fn stored(&self, request: &CallRequest) -> Outcome {
        let payloads = self.payloads();
        let Packed::Large(upload) = payloads.pack(answer("in the bucket")).await.unwrap() else {
            panic!("every result is large")
        };
        payloads.store(&upload, &request.key.tenant, self.now()).await.unwrap()
    }

    /// Ends the message by itself, as a worker does that finds the id used before.
    pub(crate) async fn refuse_message(&self, request: &CallRequest, message_id: &str) {
        let delivery =
            DeliveryContext { key: CallKey::of_message(message_id), ..self.delivery(request, message_id) };
        let outcome = Outcome::refused(Code::IdempotencyMismatch, "used before");
        self.apply(None, &Event::Conclude { delivery, outcome, definition: None }).await;
    }

    fn delivery(&self, request: &CallRequest, message_id: &str) -> DeliveryContext {
        let caller = Caller {
            session: request.session.clone(),
            user: request.user.clone(),
            agent: request.agent.clone(),
            group: request.group.as_deref().map(toolfleet_core::request::Group::membership),
            sender: None,
            message_id: Some(message_id.to_owned()),
        };
        DeliveryContext {
            key: request.key.clone(),
            digest: request.digest.clone(),
            earlier_digest: request.earlier_digest.clone(),
            caller: Box::new(caller),
            nonce: Nonce::from_random(7),
            worker: WorkerId::parse("w").unwrap(),
            enqueued_at: self.now(),
            deadline: Some(self.now().plus_ms(3_600_000)),
            now: self.now(),
            skew_ms: 0,
            may_be_claimless: false,
            repeatable: false,
            expires_at: self.now().plus_ms(86_400_000).whole_s(),
        }
    }
}

async fn connect(local: &LocalEndpoints, s3_url: &str) -> Aws {
    Aws::connect(AwsOptions {
        region: Some(REGION.into()),
        sqs_endpoint: Some(local.sqs_url().into()),
        dynamodb_endpoint: Some(local.dynamodb_url().into()),
        secrets_endpoint: Some(local.secretsmanager_url().into()),
        s3_endpoint: Some(s3_url.into()),
        static_credentials: Some(("AKIATEST".into(), "very-secret".into())),
        ..AwsOptions::default()
    })
    .await
}

fn client(aws: &Aws, local: &LocalEndpoints, clock: &Clock) -> Client {
    let clock = clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    Client::new(aws, local.queue_url("toolfleet-calls"), &Tables::with_prefix("toolfleet"), Arc::new(now))
}

pub(crate) fn acme() -> Tenant {
    Tenant::parse("acme").unwrap()
}

pub(crate) fn key(id: &str) -> CallKey {
    CallKey { tenant: acme(), call_id: CallId::parse(id).unwrap() }
}

/// A call of `echo` with that text.
pub(crate) fn call(id: &str, text: &str) -> CallRequest {
    RequestBuilder::tool("acme", "echo").arguments(json!({"text": text})).call_id(id).build().unwrap()
}

pub(crate) fn answer(text: &str) -> Outcome {
    let content = json!({"content": [{"type": "text", "text": text}]}).to_string();
    Outcome::succeeded(serde_json::value::RawValue::from_string(content).unwrap())
}

pub(crate) fn text_of(outcome: &Outcome) -> &str {
    outcome.content().map_or("", |content| content.get())
}
