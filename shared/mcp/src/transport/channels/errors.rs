//! The errors of requests over a connection that is kept.

use bytes::Bytes;

use crate::fault::{Fault, NotSentCause};
use crate::transport::request_error::RequestError;

pub(crate) fn not_sent(fault: &Fault) -> Fault {
    if matches!(fault, Fault::NotSent { .. }) {
        return fault.clone();
    }
    Fault::NotSent { detail: format!("{fault}; the request had not been sent"), cause: NotSentCause::Answer }
}

/// The fault with the program's last words.
pub(crate) fn with_words(mut fault: Fault, words: &str) -> Fault {
    if !words.is_empty()
        && let Fault::AnswerLost { detail }
        | Fault::NotSent { detail, .. }
        | Fault::Rpc { message: detail, .. } = &mut fault
    {
        detail.push_str("; ");
        detail.push_str(words);
    }
    fault
}

pub(crate) fn gone() -> RequestError {
    Fault::AnswerLost { detail: "the connection is gone".to_owned() }.into()
}

/// Outside a string a line break is a blank, and within one JSON has none.
pub(crate) fn one_line(body: Bytes) -> Bytes {
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if body.iter().any(breaks) {
        body.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect()
    } else {
        body
    }
}
