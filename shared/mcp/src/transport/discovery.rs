//! Reads from the answers to `server/discover` and `initialize` which protocol revision a server speaks.

use serde::Deserialize;
use toolfleet_egress::sanitize_text_to;

use crate::fault::Fault;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{HEADER_MISMATCH, LEGACY, MODERN, VERSION_UNSUPPORTED};
use crate::transport::request_error::RequestError;

/// What asking a server found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) era: ProtocolRevision,
    /// Whether the server answered. Of one that did not, the older generation is assumed for a short while.
    pub(crate) answered: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Discovered {
    pub(crate) supported_versions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Initialized {
    pub(crate) protocol_version: String,
}

/// The era we share with a server that names its versions.
pub(crate) fn era_among(supported: Vec<String>) -> Result<ProtocolRevision, RequestError> {
    if supported.iter().any(|version| version == MODERN) {
        Ok(ProtocolRevision::Modern)
    } else if supported.is_empty() || supported.iter().any(|version| LEGACY.contains(&version.as_str())) {
        Ok(ProtocolRevision::Legacy)
    } else {
        let supported = supported.iter().take(16).map(|version| sanitize_text_to(version, 32)).collect();
        Err(Fault::VersionUnsupported { supported }.into())
    }
}

/// What an error in the place of an answer to `server/discover` says of the server. Who is asked to wait, or is not let in, has not
/// learned anything.
pub(crate) fn era_despite(error: RequestError) -> Result<ProtocolRevision, RequestError> {
    match &error.fault {
        Fault::InvalidAnswer { .. } => return Ok(ProtocolRevision::Legacy),
        Fault::Connect { .. }
        | Fault::NotSent { .. }
        | Fault::RateLimited { .. }
        | Fault::SessionStoreUnavailable { .. }
        | Fault::Unauthorized { .. }
        | Fault::Forbidden { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::AddressRefused { .. }
        | Fault::SessionLost
        | Fault::WrongTransport { .. }
        | Fault::NotResumable { .. }
        | Fault::AnswerLost { .. }
        | Fault::AttemptTimeout { .. }
        | Fault::AnswerTooLarge { .. }
        | Fault::Redirect { .. }
        | Fault::ServerStatus { status: 408 | 421 | 425 | 429 | 502..=504, .. } => return Err(error),
        Fault::VersionUnsupported { .. }
        | Fault::Rpc { .. }
        | Fault::RpcAmbiguous { .. }
        | Fault::ServerStatus { .. }
        | Fault::ClientStatus { .. } => {}
    }
    match error.refusal.as_ref().and_then(|refusal| refusal.code) {
        Some(VERSION_UNSUPPORTED) => {
            era_among(error.refusal.map(|refusal| refusal.supported).unwrap_or_default())
        }
        Some(HEADER_MISMATCH | -32021) => Ok(ProtocolRevision::Modern),
        Some(_) | None => Ok(ProtocolRevision::Legacy),
    }
}
