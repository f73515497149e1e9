//! What programs with an endpoint of their own over HTTP share.
//!
//! ```text
//! serve      a listener  -> connections within bounds -> the routes
//! endpoint   the settings of an endpoint, declared once for each program
//! hosts      which hosts and origins a request may name
//! tokens     a token     -> its claims, by keys of its issuer
//! ```

pub mod endpoint;
pub mod hosts;
pub mod serve;
mod timed_stream;
pub mod tokens;
