//! Settings that programs of the fleet share: where the catalog is, where requests may go, how servers are authenticated, and where payloads
//! are.

pub mod catalog;
pub mod credentials;
pub mod documents;
pub mod egress;
pub mod keyring;
pub mod lambda;
pub mod payload;
mod place;
pub mod settings;
