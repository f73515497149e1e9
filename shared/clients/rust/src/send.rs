//! Sends calls. A request has passed the decoder that workers use; large arguments go to the bucket and are sent by reference.

use std::collections::BTreeMap;

use futures::future::join_all;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{MAX_BODY_BYTES, Outgoing, Queue};
use toolfleet_core::call::CallRow;
use toolfleet_core::payload::MAX_PAYLOAD_BYTES;
use toolfleet_core::request::CallRequest;

use crate::client::Client;
use crate::status::is_of;

/// The longest delay of a message, in seconds (SQS quota).
const LONGEST_DELAY_S: u32 = 900;

impl Client {
    /// Sends a call to the queue of its priority; `traceparent` (W3C) is sent as a message attribute. Returns the message's id.
    pub async fn send(&self, request: &CallRequest, traceparent: Option<&str>) -> Result<String, AwsError> {
        let attributes: BTreeMap<_, _> =
            traceparent.map(|t| ("traceparent".to_owned(), t.to_owned())).into_iter().collect();
        let group = Some(request.key.tenant.to_string());
        let queue = self.queue_for(request)?;
        let body = self.fitting(request, request.encode()).await?;
        let delay_s = self.delay_s(request, queue);
        queue.send(Outgoing { body, group, attributes, delay_s, ..Outgoing::default() }).await
    }

    /// Sends a call, unless a worker has received this very request before; returns the message's id if it was sent.
    ///
    /// A call that was sent and not received yet is sent again, which costs a message: calls of one id execute once.
    ///
    /// # Errors
    /// The table or the queue failed. Whether the message was sent is then not known.
    pub async fn send_once(
        &self,
        request: &CallRequest,
        traceparent: Option<&str>,
    ) -> Result<Option<String>, AwsError> {
        let row = self.calls.read(&request.key).await?;
        let is_known =
            |row: CallRow| row.digest.is_some() && is_of(row.digest.as_ref(), row.caller.as_deref(), request);
        if row.is_some_and(is_known) {
            return Ok(None);
        }
        self.send(request, traceparent).await.map(Some)
    }

    /// Sends a request with `body` as its text; by reference where that is too large for a message.
    pub async fn send_as(&self, request: &CallRequest, body: String) -> Result<String, AwsError> {
        let queue = self.queue_for(request)?;
        let (body, group) = (self.fitting(request, body).await?, Some(request.key.tenant.to_string()));
        let delay_s = self.delay_s(request, queue);
        queue.send(Outgoing { body, group, delay_s, ..Outgoing::default() }).await
    }

    /// Sends calls in batches of ten; each has its own result, in order.
    pub async fn send_many(&self, requests: &[CallRequest]) -> Vec<Result<String, AwsError>> {
        join_all(requests.iter().map(|request| self.send(request, None))).await
    }

    /// Sends a body unchecked to the default queue; one that is larger than any worker accepts is not sent.
    pub async fn send_body(&self, body: String, tenant: Option<&str>) -> Result<String, AwsError> {
        let (body, group) = (sendable(body)?, tenant.map(str::to_owned));
        self.queue.send(Outgoing { body, group, ..Outgoing::default() }).await
    }

    /// How long SQS delays the message of a call that is not to start yet: fifteen minutes at most. A FIFO queue delays no single message.
    fn delay_s(&self, request: &CallRequest, queue: &Queue) -> u32 {
        let left_ms =
            request.not_before.filter(|_| !queue.is_fifo()).map_or(0, |at| at.ms_since((self.now)()));
        u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX).min(LONGEST_DELAY_S)
    }

    /// The queue of the request's priority.
    fn queue_for(&self, request: &CallRequest) -> Result<&Queue, AwsError> {
        self.queue_of(request.priority).ok_or_else(|| {
            AwsError::rejection(format!(
                "priority: the URL of the queue of priority `{0}` is not known; set TOOLFLEET_QUEUE_URL_{1}, or give it to \
                 Client::with_priority_queues, or leave the priority out",
                request.priority,
                request.priority.as_str().to_uppercase()
            ))
        })
    }

    /// The body; with its arguments in the bucket where it is too large for a message and there is a bucket.
    async fn fitting(&self, request: &CallRequest, body: String) -> Result<String, AwsError> {
        if body.len() <= MAX_BODY_BYTES || self.payloads.bucket().is_none() || request.arguments_ref.is_some()
        {
            return sendable(body);
        }
        let size = request.arguments.get().len() as u64;
        if size > MAX_PAYLOAD_BYTES {
            return Err(AwsError::rejection(format!(
                "the arguments have {size} bytes; accepted are at most {MAX_PAYLOAD_BYTES}, by reference too"
            )));
        }
        let now = (self.now)();
        let reference = self.payloads.store_arguments(&request.arguments, &request.key.tenant, now).await?;
        sendable(request.encode_by_reference(&reference))
    }
}

/// The body, unless it is so large that a worker would refuse it.
fn sendable(body: String) -> Result<String, AwsError> {
    if body.len() <= MAX_BODY_BYTES {
        return Ok(body);
    }
    Err(AwsError::rejection(format!(
        "the request has {} bytes; accepted are at most {MAX_BODY_BYTES}, because a call that waits carries attributes beside its \
         body. Name the fleet's bucket (TOOLFLEET_PAYLOAD_BUCKET, Client::with_payload_bucket), and its arguments are sent by reference",
        body.len()
    )))
}
