//! A server at an address: the address and its credentials.

use std::collections::BTreeMap;

use serde::Serialize;
use toolfleet_core::credential::{ClientCertificate, Credential, Sensitive};
use url::Url;

/// A server at an address.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpTransport {
    /// Its streamable HTTP endpoint, without user or password.
    pub url: Url,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    pub headers: BTreeMap<String, Sensitive>,
    /// How workers prove who they are.
    pub auth: Credential,
    /// The certificate that workers show.
    pub client_certificate: Option<ClientCertificate>,
}
