//! One dead letter: the call that its message asks for, why it is there, and since when. Values of arguments are never shown.

use toolfleet_aws::queue::Delivery;
use toolfleet_core::argument_shape::{ShownArguments, shape};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::message_attributes::{FIRST_MESSAGE, FIRST_SENDER, FIRST_SENT, REASON};
use toolfleet_core::request::{CallRequest, Malformed, Target, TimeLimit};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

/// The reason of a message that SQS moved after its last receive.
pub const RECEIVED_TOO_OFTEN: &str = "received_too_often";
/// The shape of arguments has at most so many bytes, as in an audit record.
const SHAPE_BYTES: usize = 256;

/// One message of the dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub(super) delivery: Delivery,
    decoded: Result<Box<CallRequest>, Box<Malformed>>,
}

impl DeadLetter {
    pub(super) fn new(delivery: Delivery) -> Self {
        let decoded = CallRequest::decode(&delivery.body).map(Box::new);
        Self { delivery, decoded }
    }

    /// The id of the message.
    pub fn message_id(&self) -> &str {
        &self.delivery.message_id
    }

    /// The id of the call's first message, as this one says it.
    pub fn first_message_id(&self) -> &str {
        self.claim(FIRST_MESSAGE).unwrap_or_else(|| self.message_id())
    }

    /// The call, also of a message that is no request but names one.
    pub fn key(&self) -> Option<&CallKey> {
        match &self.decoded {
            Ok(request) => Some(&request.key),
            Err(malformed) => malformed.addressed.as_ref(),
        }
    }

    /// Its request, unless it is none.
    pub fn request(&self) -> Option<&CallRequest> {
        self.decoded.as_deref().ok()
    }

    /// What is wrong with it, if it is no request.
    pub fn problem(&self) -> Option<String> {
        self.decoded.as_ref().err().map(|malformed| malformed.error.to_string())
    }

    /// The tool that it asks for.
    pub fn tool(&self) -> Option<String> {
        self.request().map(|request| request.target.to_string())
    }

    /// The keys and types of its arguments, as an audit record has them.
    pub fn arguments_shape(&self) -> Option<String> {
        let request = self.request()?;
        shape(request.arguments.get(), &ShownArguments::none(), SHAPE_BYTES)
    }

    /// Why it is there: the code of its record, or [`RECEIVED_TOO_OFTEN`].
    pub fn reason(&self) -> &str {
        let moved_by_sqs = self.delivery.given_up_by.is_some();
        self.claim(REASON).filter(|_| !moved_by_sqs).unwrap_or(RECEIVED_TOO_OFTEN)
    }

    /// When the call's first message was sent, as this one says it.
    pub fn first_sent(&self) -> Timestamp {
        let sent_at = self.delivery.sent_at;
        let claimed = self.claim(FIRST_SENT).and_then(|ms| ms.parse().ok()).map(Timestamp::from_ms);
        // As a worker reads it: no message was first sent before any message that could still exist.
        let possible = |at: &Timestamp| *at <= sent_at && sent_at.ms_since(*at) <= RETENTION_MS;
        claimed.filter(possible).unwrap_or(sent_at)
    }

    /// When this message was sent.
    pub const fn sent_at(&self) -> Timestamp {
        self.delivery.sent_at
    }

    /// How often it was received.
    pub const fn received(&self) -> u32 {
        self.delivery.receive_count
    }

    /// Who sent it, as SQS says.
    pub fn sender(&self) -> Option<&str> {
        self.delivery.sender.as_deref()
    }

    /// The queue that gave it up, if SQS moved it.
    pub fn queue(&self) -> Option<&str> {
        self.delivery.given_up_by.as_deref()
    }

    /// Whether SQS moved it there, so that SQS knows the queue that it came from.
    pub const fn is_given_up(&self) -> bool {
        self.delivery.given_up_by.is_some()
    }

    /// The deadline that its request names.
    pub fn named_deadline(&self) -> Option<Timestamp> {
        let request = self.request()?;
        request.time_limit.map(|_| request.deadline(self.first_sent(), u64::MAX))
    }

    /// Whether its deadline counts from its sending: a copy that counts as sent now would have it again.
    pub fn deadline_begins_again(&self) -> bool {
        let limit = self.request().map(|request| request.time_limit);
        matches!(limit, Some(None | Some(TimeLimit::TimeoutMs(_))))
    }

    /// Whether it says anything about an earlier message of its call.
    pub(super) fn names_an_earlier_message(&self) -> bool {
        [FIRST_SENT, FIRST_SENDER, FIRST_MESSAGE].iter().any(|name| self.claim(name).is_some())
    }

    /// What it says of itself in an attribute of the fleet.
    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.delivery.attributes.get(name).map(String::as_str)
    }
}

/// Which dead letters. All parts that are given must fit.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// Those of this tool: the registered id, `id.function`, or `server/name`.
    pub tool: Option<String>,
    /// Those of this tenant.
    pub tenant: Option<Tenant>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Those whose call was first sent before this instant.
    pub sent_before: Option<Timestamp>,
}

/// Whether `wanted` names the tool of that target. The id of a tool may itself have dots.
fn names(wanted: &str, target: &Target) -> bool {
    match target {
        Target::Tool { id, .. } => wanted == id.as_str() || wanted == target.to_string(),
        Target::OnServer { .. } | Target::Server { .. } => wanted == target.to_string(),
    }
}

impl LetterFilter {
    /// Whether it lets everything through.
    pub const fn is_all(&self) -> bool {
        self.tool.is_none() && self.tenant.is_none() && self.reason.is_none() && self.sent_before.is_none()
    }

    /// Whether that letter fits.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let tool = |wanted: &String| letter.request().is_some_and(|request| names(wanted, &request.target));
        let tenant = |wanted: &Tenant| letter.key().is_some_and(|key| key.tenant == *wanted);
        self.tool.as_ref().is_none_or(tool)
            && self.tenant.as_ref().is_none_or(tenant)
            && self.reason.as_ref().is_none_or(|reason| letter.reason() == reason)
            && self.sent_before.is_none_or(|before| letter.first_sent() < before)
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::{ServerId, ToolId};

    use super::*;

    #[test]
    fn the_letters_of_another_tool_whose_id_begins_so_are_not_taken() {
        let tool = |id: &str, function: Option<&str>| Target::Tool {
            id: ToolId::parse(id).unwrap(),
            function: function.map(str::to_owned),
        };
        assert!(names("crm", &tool("crm", None)) && names("crm", &tool("crm", Some("search"))));
        assert!(
            names("crm.search", &tool("crm", Some("search")))
                && names("crm.search", &tool("crm.search", None))
        );
        assert!(!names("crm", &tool("crm.search", None)) && !names("crm", &tool("crm.search", Some("fast"))));
        let on_server =
            Target::OnServer { server: ServerId::parse("crm").unwrap(), name: "search".to_owned() };
        assert!(names("crm/search", &on_server) && !names("crm", &on_server));
    }
}
