//! Requests and their answers as whole messages, for transports that carry nothing else: no connection, no session, no stream of their
//! own. A Lambda function is called so.

mod api_gateway;
mod call;
mod form;
mod list;
mod message;
mod session;

pub use call::SingleCall;
pub use form::SingleForm;
pub use list::{SingleError, SingleList};
pub use session::SingleSession;
