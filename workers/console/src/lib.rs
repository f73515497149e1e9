//! The fleet in a browser: pages for operators, rendered on the server, without a script. They show what the `toolfleet` command shows, from the
//! same reads, and name the command at their end.
//!
//! ```text
//! door      one request: hosts, visitor, slots                 -> a page, or the way to one
//! pages     read the fleet, and make a page of it              -> templates/*.html, through escape
//! login     a token becomes a session: a signed cookie
//! oidc      a login at a provider becomes one
//! ```
//!
//! **Invariants:** no page changes anything. A visitor sees what concerns the tenants of their token or login, and nothing else. Every text that goes into
//! a page is escaped by one escaper. A page reads a bounded number of rows, however large the fleet and its history are.

mod access;
mod assets;
mod command;
mod console;
mod dead_letter_list;
mod door;
mod escape;
mod failure;
mod frame;
mod link;
mod login;
mod numbers;
mod oidc;
mod oidc_login;
mod page_of;
mod pages;
mod period;
mod plot;
mod query;
mod reading;
mod response;
mod serve;
mod session;
mod settings;
mod tokens;
mod visitor;

pub use access::Access;
pub use console::{Console, Parts};
pub use oidc::{Oidc, OidcConfig, OperatorClaim, VisitorClaims};
pub use serve::serve;
pub use session::{KeyError, SessionKey};
pub use settings::ConsoleArgs;
pub use tokens::{Tokens, TokensError};
pub use toolfleet_web::hosts::Hosts;
pub use toolfleet_web::serve::Bounds;
pub use visitor::Scope;
