//! Lambda's side of the tests of invocations: an event source mapping over the local SQS, and a function whose runtime is a worker.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use toolfleet_testkit::{MockRuntimeApi, RuntimeAnswer};
use toolfleet_worker::config::LambdaConfig;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::services::invocations::Invocations;

use crate::rig::{Rig, run_service};

/// The most messages of a batch.
pub(crate) const BATCH: usize = 10;

/// Does what Lambda does with a queue: receives with the queue's own visibility time-out, invokes, and deletes what the response does not name.
pub(crate) struct EventSource {
    client: reqwest::Client,
    sqs: String,
    queue: String,
}

/// The messages of an invocation, as SQS has handed them out.
#[derive(Clone)]
pub(crate) struct Batch(pub(crate) Vec<Value>);

impl EventSource {
    pub(crate) fn of(rig: &Rig) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { client, sqs: rig.local.sqs_url().to_owned(), queue: rig.local.queue_url(rig.queue_name) }
    }

    async fn sqs(&self, operation: &str, body: Value) -> Value {
        let request = self.client.post(&self.sqs).header("x-amz-target", format!("AmazonSQS.{operation}"));
        let request = request.header("content-type", "application/x-amz-json-1.0").body(body.to_string());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{operation}: {}", response.status());
        serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null)
    }

    pub(crate) async fn receive(&self, most: usize) -> Batch {
        let ask = json!({
            "QueueUrl": self.queue, "MaxNumberOfMessages": most, "WaitTimeSeconds": 0,
            "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"],
        });
        let received = self.sqs("ReceiveMessage", ask).await;
        Batch(received["Messages"].as_array().cloned().unwrap_or_default())
    }

    /// The event, in the form of the AWS Lambda developer guide.
    pub(crate) fn event(&self, batch: &Batch) -> Value {
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{}", self.queue.rsplit('/').next().unwrap());
        let record = |message: &Value| {
            let texts = message["MessageAttributes"].as_object().cloned().unwrap_or_default();
            let text = |value: &Value| {
                json!({"stringValue": value["StringValue"], "stringListValues": [], "binaryListValues": [],
                    "dataType": value["DataType"]})
            };
            let texts: serde_json::Map<_, _> =
                texts.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            json!({
                "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
                "attributes": message["Attributes"], "messageAttributes": texts, "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "us-east-1",
            })
        };
        json!({"Records": batch.0.iter().map(record).collect::<Vec<_>>()})
    }

    /// Deletes what the response does not name; nothing where the invocation has failed. Returns what it names.
    pub(crate) async fn settle(&self, batch: &Batch, answer: &RuntimeAnswer) -> Vec<String> {
        let ids = |messages: &[Value]| {
            messages.iter().map(|m| m["MessageId"].as_str().unwrap().to_owned()).collect()
        };
        let RuntimeAnswer::Response(response) = answer else { return ids(&batch.0) };
        let kept = response["batchItemFailures"].as_array().expect("a response to a batch");
        let kept: Vec<_> =
            kept.iter().map(|item| item["itemIdentifier"].as_str().unwrap().to_owned()).collect();
        for message in batch.0.iter().filter(|m| !kept.iter().any(|id| m["MessageId"] == id.as_str())) {
            let ask = json!({"QueueUrl": self.queue, "ReceiptHandle": message["ReceiptHandle"]});
            self.sqs("DeleteMessage", ask).await;
        }
        kept
    }
}

/// A function whose runtime is a worker of the rig.
pub(crate) struct Function<'a> {
    rig: &'a Rig,
    pub(crate) api: MockRuntimeApi,
    pub(crate) source: EventSource,
    pub(crate) context: Arc<WorkerContext>,
    runtime: JoinHandle<()>,
}

impl<'a> Function<'a> {
    /// One invocation at a time, frozen in between.
    pub(crate) async fn start(rig: &'a Rig, context: Arc<WorkerContext>) -> Self {
        Self::with(rig, context, None).await
    }

    pub(crate) async fn with(rig: &'a Rig, context: Arc<WorkerContext>, at_once: Option<u32>) -> Self {
        let api = MockRuntimeApi::start().await;
        let config = LambdaConfig { runtime_api: api.address(), at_once };
        let service = Invocations::new(&context, &config, None, None).unwrap();
        let runtime = tokio::spawn(run_service(service, context.shutdown.clone()));
        Self { rig, api, source: EventSource::of(rig), context, runtime }
    }

    /// Invokes with those messages and so much time. Returns the invocation's id.
    pub(crate) fn invoke(&self, batch: &Batch, time_out_ms: u64) -> String {
        let deadline = i64::try_from(self.rig.clock.now_ms() + time_out_ms).unwrap();
        self.api.invoke(self.source.event(batch), deadline)
    }

    /// One batch of the queue, through to the deletions. Returns the messages that the response names.
    pub(crate) async fn batch(&self) -> Vec<String> {
        self.batch_within(60_000).await
    }

    pub(crate) async fn batch_within(&self, time_out_ms: u64) -> Vec<String> {
        let batch = self.source.receive(BATCH).await;
        assert!(!batch.0.is_empty(), "there is a message to invoke with");
        let answer = self.api.answer(&self.invoke(&batch, time_out_ms)).await;
        assert!(matches!(answer, RuntimeAnswer::Response(_)), "{answer:?}");
        self.source.settle(&batch, &answer).await
    }

    /// The environment dies.
    pub(crate) async fn kill(self) {
        self.runtime.abort();
        let _ended = self.runtime.await;
    }

    /// The environment is asked to end, and does.
    pub(crate) async fn end(self) {
        self.context.shutdown.end();
        self.runtime.await.unwrap();
    }
}
