//! The names of the message attributes that the fleet itself sets. What they say counts only in messages of the fleet's own senders.

/// When the first message of the call was sent, in milliseconds since 1970.
pub const FIRST_SENT: &str = "toolfleet-first-sent-ms";
/// The SenderId of the call's first message.
pub const FIRST_SENDER: &str = "toolfleet-first-sender";
/// The MessageId of the call's first message.
pub const FIRST_MESSAGE: &str = "toolfleet-first-message";
/// How often the call was parked.
pub const PARKS: &str = "toolfleet-parks";
/// The turn of a call that waits for one, or that the message polls a task and needs none.
pub const TURN: &str = "toolfleet-turn";
/// That the message is of a group itself and is no call: its event.
pub const GROUP: &str = "toolfleet-group";
/// Why a worker moved a message to the dead-letter queue: the code of its record.
pub const REASON: &str = "toolfleet-reason";
/// The span of the delivery whose worker parked the call, as a `traceparent`: the next delivery's span links to it.
pub const SPAN: &str = "toolfleet-span";
/// What the names of the fleet's own attributes begin with.
pub const OWN: &str = "toolfleet-";
