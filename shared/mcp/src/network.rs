//! Owns what a failure of the network means: whether anything can have run, and the words for it.
//!
//! **Invariant:** only what proves that the server processed nothing is called a failure to connect.

use std::error::Error;
use std::io;
use std::iter::successors;

use rustls::AlertDescription;
use toolfleet_core::fault::Fault;

use crate::reach::Refused;
use crate::words::shorten;

/// What it means that no response came.
pub(crate) fn not_answered(error: reqwest::Error, sent: bool) -> Fault {
    if let Some(refused) = address_refused(&error) {
        return refused.fault();
    }
    let refused =
        !sent || error.is_connect() || stream_refused(&error) || certificate_refused(&error).is_some();
    let detail = detail_of(error);
    if refused { Fault::Connect { detail } } else { Fault::AnswerLost { detail } }
}

/// The guard's own word, where it gave the connection no address.
pub(crate) fn address_refused(error: &reqwest::Error) -> Option<&Refused> {
    found(error)
}

/// RFC 9113: a stream refused with `REFUSED_STREAM` (section 8.7), or begun after the last one that a GOAWAY names (6.8), was not
/// processed. h2 gives a stream the peer's GOAWAY for its error in that case alone.
fn stream_refused(error: &reqwest::Error) -> bool {
    found::<h2::Error>(error).is_some_and(|h2| {
        h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// The server's word that it did not like our certificate, or that there was none.
///
/// With TLS 1.3 it comes after our first bytes, and yet before the server reads any (RFC 8446, section 4.4.2.4); once a handshake
/// is done no server sends one of these, because we offer no authentication after it.
pub(crate) fn certificate_refused(error: &reqwest::Error) -> Option<String> {
    let Some(rustls::Error::AlertReceived(alert)) = found(error) else {
        return None;
    };
    let about_it = matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    );
    about_it.then(|| format!("TLS alert {alert:?}"))
}

/// The innermost words of a network error, without the address, whose query may be a secret.
pub(crate) fn detail_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let words = causes(&error).last().map(ToString::to_string).unwrap_or_default();
    match found::<rustls::Error>(&error) {
        Some(tls) => shorten(&format!("TLS: {tls}")),
        None => shorten(&words),
    }
}

/// The first cause of that kind.
fn found<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    successors(Some(error as &(dyn Error + 'static)), |cause| cause_of(*cause))
}

/// What an I/O error wraps is not among its sources but in it.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
