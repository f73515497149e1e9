//! Tokens that an issuer has signed (JWT): access tokens of OAuth 2.1, ID tokens of OpenID Connect.
//!
//! ```text
//! verifier   a token      -> its claims, if signature, issuer, audience and times are right
//! keys       a key's id   -> a key of the issuer, cached
//! issuer     an address   -> what the issuer says of itself
//! claim      claims       -> the value of one
//! ```
//!
//! **Invariant:** no error and no line of the log has anything of a token.

mod claim;
mod issuer;
mod keys;
mod verifier;

pub use claim::{ClaimName, values, words};
pub use issuer::{Issuer, IssuerError, Metadata};
pub use keys::{HttpKeys, KeySource, Keys, ReadKeys};
pub use verifier::{LEEWAY_S, TokenError, Verifier};
