//! Handles one line of a child's stdout: a message, a part of one that was written over several lines, or something else.

use serde_json::value::RawValue;

use crate::protocol::frame::{Frame, messages_in, readable};
use crate::transport::channels::channel::Channel;
use crate::transport::stdio::lines::Unfinished;

impl Channel {
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
            self.take_message(text);
            return;
        }
        if let Some(whole) = unfinished.add(text.as_bytes(), max_bytes) {
            let text = readable(&whole);
            messages_in(text.trim()).into_iter().for_each(|message| self.take_message(message));
        }
    }
}

/// Whether more lines may belong to this one.
fn begins_something(text: &str) -> bool {
    let begun = serde_json::from_str::<serde::de::IgnoredAny>(text);
    text.starts_with('{') && begun.is_err_and(|error| error.is_eof())
}
