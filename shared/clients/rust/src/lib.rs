//! The client of a Rust orchestrator: send a call, wait for its result, cancel it, read its audit records.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use toolfleet_client::{Client, RequestBuilder, Tables};
//!
//! let queue = "https://sqs.us-east-1.amazonaws.com/123456789012/toolfleet-calls";
//! let client = Client::connect(queue, &Tables::with_prefix("toolfleet")).await;
//! let call = RequestBuilder::tool("acme", "echo").arguments(serde_json::json!({"text": "hello"})).call_id("c-1").build()?;
//! let message_id = client.send(&call, None).await?;
//! let result = client.wait_for_sent(&call, &message_id, std::time::Duration::from_secs(30)).await?;
//! # Ok(()) }
//! ```

mod answers;
mod cancel;
mod client;
mod clock;
mod control;
mod dead_letters;
mod fleet;
mod fleet_view;
pub mod fleet_words;
mod groups;
mod queue_depths;
mod readable;
mod record_search;
mod records;
mod request_builder;
mod send;
mod sessions;
pub mod shell_command;
mod status;
mod tool_series;
mod wait;
mod why;

pub use cancel::Cancelled;
pub use client::Client;
pub use clock::{Now, system_clock};
pub use control::Controls;
pub use dead_letters::{
    DeadLetter, DeadLetters, Judged, LetterFilter, Look, RECEIVED_TOO_OFTEN, Redrive, RedriveError,
    RedriveReport, RedriveRules, Redriven, RedrivenAs, Stop,
};
pub use fleet::{Stats, StatsOf, ToolStats};
pub use fleet_view::{FleetView, LimitShown, limits};
pub use groups::{GroupCancelled, GroupError, GroupMember, GroupRedrive, GroupStatus};
pub use queue_depths::QueueDepth;
pub use readable::readable;
pub use record_search::{PAGE_READS, RecordSearch, RecordsOfCall};
pub use records::{RecordsOf, Span};
pub use request_builder::RequestBuilder;
pub use sessions::{Session, SessionError, Sessions};
pub use status::{CallResult, CallStatus};
pub use tool_series::{CalledTool, Parts};
pub use toolfleet_aws::payloads::PayloadError;
pub use toolfleet_aws::queue::Depth;
pub use toolfleet_aws::{Aws, AwsError, AwsErrorKind, AwsOptions, Reads, RecordCursor, RecordPage, Tables};
pub use toolfleet_core::server_session::ServerSession;
pub use toolfleet_core::session::SESSION_CACHE_TTL_S;
pub use wait::WaitError;
pub use why::Why;
