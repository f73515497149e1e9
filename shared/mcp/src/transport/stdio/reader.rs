//! Handles one line of a child's stdout. A line that is no message, or answers no pending request, is logged and skipped.
//!
//! **Invariant:** only the envelope of a line is parsed; an answer goes to the pending request of its id and to no other.

use serde::Deserialize;
use serde_json::value::RawValue;
use toolfleet_egress::sanitize_text;

use crate::fault::Fault;
use crate::protocol::frame::{Frame, Heard, messages_in, number_in, readable};
use crate::protocol::message_head::Beginning;
use crate::protocol::wire::reply;
use crate::transport::request_error::RequestError;
use crate::transport::stdio::child::{Child, Notice};
use crate::transport::stdio::lines::Unfinished;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    #[serde(borrow)]
    progress_token: &'a RawValue,
}

impl Child {
    /// Takes one line. `unfinished` is what began in the lines before.
    pub(crate) fn take_line(&self, line: &[u8], unfinished: &mut Unfinished, max_bytes: usize) {
        let text = readable(line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if text.starts_with(['{', '[']) && serde_json::from_str::<&RawValue>(text).is_ok() {
            // In the middle of a longer message only what is a message by itself ends that.
            let alone = unfinished.is_empty() || Frame::read(text).is_ok_and(|frame| frame.says_something());
            if alone {
                *unfinished = Unfinished::default();
                messages_in(text).into_iter().for_each(|message| self.take_message(message));
                return;
            }
        }
        if unfinished.is_empty() && !begins_something(text) {
            self.stray(text);
            return;
        }
        if let Some(whole) = unfinished.add(text.as_bytes(), max_bytes) {
            let text = readable(&whole);
            messages_in(text.trim()).into_iter().for_each(|message| self.take_message(message));
        }
    }

    /// Takes what is known of a line that was too long to be kept: the call that it answers fails, and no other.
    pub(crate) fn take_long_line(&self, beginning: &[u8], tail: &[u8], limit_bytes: u64) {
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
            self.stray(&format!("a line of more than {limit_bytes} bytes: {}", readable(beginning)));
        }
    }

    fn take_message(&self, message: &str) {
        let frame = match Frame::read(message) {
            Ok(frame) => frame,
            Err(_) => return self.stray(message),
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

    /// Logs what is no message to anybody: the first of a child, then the tenth, the hundredth and so on.
    fn stray(&self, line: &str) {
        let count = self.count_stray();
        if !is_power_of_ten(count) {
            return;
        }
        let bytes = line.len();
        // A secret that was cut in half would no longer be recognised.
        let line: String = line.chars().take(8 * 1024).collect();
        let line = sanitize_text(&self.scrubbed(line));
        tracing::warn!(
            server = %self.server, child = self.serial, lines = count, bytes, code = "stdio_stray_line",
            "a line on a program's stdout is skipped, because it answers no request; at the level debug it is shown"
        );
        // What a program prints may be its caller's data.
        tracing::debug!(server = %self.server, child = self.serial, line, "a line that answers no request");
    }
}

/// Whether more lines may belong to this one.
fn begins_something(text: &str) -> bool {
    let begun = serde_json::from_str::<serde::de::IgnoredAny>(text);
    text.starts_with('{') && begun.is_err_and(|error| error.is_eof())
}

fn is_power_of_ten(mut count: u64) -> bool {
    while count > 1 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}
