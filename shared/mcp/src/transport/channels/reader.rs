//! Handles one message that came in. What is no message, or answers no pending request, is logged and skipped.
//!
//! **Invariant:** only the envelope of a message is parsed; an answer goes to the pending request of its id and to no other.

use serde::Deserialize;
use serde_json::value::RawValue;
use toolfleet_egress::sanitize_text;

use crate::fault::Fault;
use crate::protocol::frame::{Frame, Heard, messages_in, number_in, readable};
use crate::protocol::message_head::Beginning;
use crate::protocol::wire::{ACKNOWLEDGED, UPDATED, reply, uri_in};
use crate::transport::channels::channel::{Channel, Notice};
use crate::transport::request_error::RequestError;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    #[serde(borrow)]
    progress_token: &'a RawValue,
}

impl Channel {
    /// Takes one message, or a batch of them.
    pub(crate) fn take_text(&self, bytes: &[u8]) {
        let text = readable(bytes);
        let text = text.trim();
        if !text.is_empty() {
            messages_in(text).into_iter().for_each(|message| self.take_message(message));
        }
    }

    /// Takes what is known of a message that was too long to be kept: the call that it answers fails, and no other.
    pub(crate) fn take_long(&self, beginning: &[u8], tail: &[u8], limit_bytes: u64) {
        let mut of = Beginning::of(beginning);
        if !of.is_own_word && !of.is_noise && of.id.is_none() && !of.of_another {
            of.take_tail(tail);
        }
        let nobodys = of.is_own_word || of.is_noise || of.of_another;
        // Where nothing tells whose it is, it is most likely of the only request there is.
        let id = of.id.or_else(|| self.only_waiter().filter(|_| !nobodys));
        let answered =
            id.is_some_and(|id| self.answer(id, Err(Fault::AnswerTooLarge { limit_bytes }.into())));
        if !answered {
            self.stray(&format!("a message of more than {limit_bytes} bytes: {}", readable(beginning)));
        }
    }

    pub(crate) fn take_message(&self, message: &str) {
        let frame = match Frame::read(message) {
            Ok(frame) => frame,
            Err(reason) => return self.take_unreadable(message, &reason),
        };
        if !frame.is_answer() {
            return self.take_word(frame);
        }
        match frame.id.and_then(number_in) {
            Some(id) => self.take_answer(id, frame, message),
            // An error that names no request is about the only one there is.
            None if frame.is_error_of_nobody() => match self.only_waiter() {
                Some(id) => self.take_answer(id, frame, message),
                None => self.stray(message),
            },
            None => self.stray(message),
        }
    }

    /// Takes what is no JSON, such as `NaN` in a result: where its id can be read all the same, no other answer will come.
    fn take_unreadable(&self, message: &str, reason: &str) {
        let of = Beginning::of(message.as_bytes());
        let detail = || self.scrubbed(format!("the answer cannot be read: {reason}"));
        let id = of.id.filter(|_| !of.is_own_word);
        if !id.is_some_and(|id| self.answer(id, Err(Fault::InvalidAnswer { detail: detail() }.into()))) {
            self.stray(message);
        }
    }

    fn take_answer(&self, id: u64, frame: Frame<'_>, message: &str) {
        let answer = match frame.seen_by(id) {
            Heard::Result(result) => Ok(result.to_owned()),
            Heard::Error(error) => Err(RequestError::of_rpc(error)),
            Heard::Nonsense(detail) => Err(Fault::InvalidAnswer { detail: self.scrubbed(detail) }.into()),
            Heard::Foreign(_) | Heard::Request { .. } | Heard::Notification { .. } => {
                return self.stray(message);
            }
        };
        if !self.answer(id, answer) {
            self.stray(message);
        }
    }

    /// Something of the server's own: a request to us, or a notification.
    fn take_word(&self, frame: Frame<'_>) {
        match frame.seen_by(0) {
            Heard::Request { id, method } => self.tell(reply(id, &method)),
            Heard::Notification { method, params: Some(params) } => {
                let about_resources = match method.as_ref() {
                    UPDATED => Some(uri_in(params)),
                    ACKNOWLEDGED => Some(None),
                    _ => None,
                };
                if let Some(uri) = about_resources {
                    let notice = Notice { method: method.into_owned(), params: params.to_owned() };
                    return self.tell_watchers(uri.as_deref(), &notice);
                }
                let of = match method.as_ref() {
                    "notifications/progress" => serde_json::from_str::<Progress<'_>>(params.get())
                        .ok()
                        .and_then(|told| number_in(told.progress_token)),
                    // A log line names no request. With one request under way it is told of that one.
                    "notifications/message" => self.only_waiter(),
                    _ => None,
                };
                if let Some(id) = of {
                    self.notify(id, Notice { method: method.into_owned(), params: params.to_owned() });
                }
            }
            Heard::Notification { .. }
            | Heard::Result(_)
            | Heard::Error(_)
            | Heard::Foreign(_)
            | Heard::Nonsense(_) => {}
        }
    }

    /// Logs what is no message to anybody: the first of a connection, then the tenth, the hundredth and so on.
    pub(crate) fn stray(&self, line: &str) {
        let count = self.count_stray();
        if !is_power_of_ten(count) {
            return;
        }
        let bytes = line.len();
        // A secret that was cut in half would no longer be recognised.
        let line: String = line.chars().take(8 * 1024).collect();
        let line = sanitize_text(&self.scrubbed(line));
        if self.endpoint.program().is_some() {
            tracing::warn!(
                server = %self.server, channel = self.serial, lines = count, bytes, code = "stdio_stray_line",
                "a line on a program's stdout is skipped, because it answers no request; at the level debug it is shown"
            );
        } else {
            tracing::warn!(
                server = %self.server, channel = self.serial, messages = count, bytes, code = "stray_message",
                "a message of a server is skipped, because it answers no request; at the level debug it is shown"
            );
        }
        // It may be its caller's data.
        tracing::debug!(server = %self.server, channel = self.serial, line, "what answers no request");
    }
}

fn is_power_of_ten(mut count: u64) -> bool {
    while count > 1 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}
