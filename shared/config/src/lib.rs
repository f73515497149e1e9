//! Settings that programs of the fleet share: where the catalog is, where requests may go, how servers are authenticated, where payloads
//! are, and which hosts and origins an own endpoint answers.

pub mod catalog;
pub mod credentials;
pub mod documents;
pub mod egress;
pub mod hosts;
pub mod keyring;
pub mod lambda;
pub mod payload;
mod place;
pub mod settings;
