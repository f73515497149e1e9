//! Writes a request as the body of a message.

use super::call_request::{CallRequest, REQUEST_VERSION, Target, TimeLimit};
use super::wire::WireRequest;
use crate::payload::ArgumentsRef;

impl CallRequest {
    /// The message body of this request. Reading it gives an equal request.
    pub fn encode(&self) -> String {
        self.encoded(self.arguments_ref.as_deref())
    }

    /// The same with its arguments in an object.
    pub fn encode_by_reference(&self, arguments: &ArgumentsRef) -> String {
        self.encoded(Some(arguments))
    }

    fn encoded(&self, by_reference: Option<&ArgumentsRef>) -> String {
        let (tool, function, server, name) = match self.target.clone() {
            Target::Tool { id, function } => (Some(id), function, None, None),
            Target::OnServer { server, name } => (None, None, Some(server), Some(name)),
            Target::Server { server } => (None, None, Some(server), None),
        };
        let (deadline, timeout_ms) = match self.time_limit {
            None => (None, None),
            Some(TimeLimit::Deadline(at)) => (Some(at), None),
            Some(TimeLimit::TimeoutMs(ms)) => (None, Some(ms)),
        };
        let wire = WireRequest {
            v: REQUEST_VERSION,
            call_id: self.idempotency_key.is_none().then(|| self.key.call_id.clone()),
            idempotency_key: self.idempotency_key.clone(),
            tenant: self.key.tenant.clone(),
            tool,
            function,
            server,
            name,
            arguments: by_reference.is_none().then(|| self.arguments.clone()),
            arguments_ref: by_reference.cloned(),
            operation: self.operation,
            session: self.session.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            group: self.group.clone(),
            not_before: self.not_before,
            supersede: self.supersede.clone(),
            deadline,
            timeout_ms,
            priority: self.priority,
            retry: self.retry,
            idempotent: self.idempotent,
            cache: self.cache,
            reply: self.reply.clone(),
            resume: self.resume.clone(),
            can_answer: self.can_answer.clone(),
        };
        // Serialising owned strings, numbers and checked JSON has no way to fail.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}
