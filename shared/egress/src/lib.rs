//! Outbound HTTP: which addresses may be called, the clients that enforce it, bounded response bodies, and the sanitising of
//! text that comes from outside.

mod body;
mod clients;
mod error;
mod policy;
mod proxies;
mod resolver;
mod text;

pub use body::{BodyError, ResponseBody};
pub use clients::{BuildError, ClientIdentity, HttpClients, HttpOptions, HttpVersions, IdentityError};
pub use error::{EgressError, client_certificate_refused, error_detail, request_error};
pub use policy::{AddressRefused, EgressPolicy, Network};
pub use proxies::Proxies;
pub use text::{sanitize_bytes, sanitize_text, sanitize_text_to, shorten_text_to, url_without_secrets};
