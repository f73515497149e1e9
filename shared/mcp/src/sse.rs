//! Owns server-sent events: bytes in, in any pieces, events out. (WHATWG HTML, section 9.2.)
//!
//! **Invariant:** how the bytes are cut into pieces never changes the events; memory is bounded by `max_bytes`.

use std::collections::VecDeque;

/// The event grew beyond the bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// An incremental parser of one stream. Events with empty data (priming events) only move the last id.
#[derive(Debug)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    pending_id: Option<String>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    after_cr: bool,
    bom: u8,
    ready: VecDeque<Vec<u8>>,
    max_bytes: usize,
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Parser {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            pending_id: None,
            last_id: None,
            retry_ms: None,
            after_cr: false,
            bom: 0,
            ready: VecDeque::new(),
            max_bytes,
        }
    }

    /// The data of the next whole event.
    pub(crate) fn next_event(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// How many bytes of an unfinished event it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The id to resume after.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The pause the server asks for before a reconnection.
    pub(crate) const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while self.bom < 3 {
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            if BOM.get(usize::from(self.bom)) == Some(first) {
                self.bom += 1;
                bytes = rest;
            } else {
                let begun = BOM.get(..usize::from(self.bom)).unwrap_or_default();
                self.line.extend_from_slice(begun);
                self.bom = 3;
            }
        }
        while let Some(&first) = bytes.first() {
            if self.after_cr {
                self.after_cr = false;
                if first == b'\n' {
                    bytes = bytes.get(1..).unwrap_or_default();
                    continue;
                }
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            if self.line.len().saturating_add(self.data.len()).saturating_add(part.len()) > self.max_bytes {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_cr = bytes.get(end) == Some(&b'\r');
            let line = std::mem::take(&mut self.line);
            self.take_line(&line);
            bytes = bytes.get(end.saturating_add(1)..).unwrap_or_default();
        }
        Ok(())
    }

    /// The event that was not ended by an empty line when the stream ended; whether it is whole, its reader has to judge.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line);
        }
        (self.has_data && !self.data.is_empty()).then(|| std::mem::take(&mut self.data))
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.dispatch();
            return;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let field = line.get(..colon).unwrap_or_default();
        let value = line.get(colon.saturating_add(1)..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"id" if !value.contains(&0) => {
                self.pending_id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry_ms = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        if let Some(id) = self.pending_id.take() {
            self.last_id = (!id.is_empty()).then_some(id);
        }
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) && !data.is_empty() {
            self.ready.push_back(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut parser = Parser::new(1 << 20);
        let mut found = Vec::new();
        for piece in pieces {
            parser.feed(piece).unwrap();
            while let Some(event) = parser.next_event() {
                found.push(String::from_utf8_lossy(&event).into_owned());
            }
        }
        (found, parser.last_id().map(str::to_owned))
    }

    #[test]
    fn every_line_end_a_bom_comments_and_several_data_lines_are_understood() {
        for end in ["\n", "\r", "\r\n"] {
            let text =
                "\u{feff}: hello|event: message|data: a|data:b|id: 4||data|x: y||data: c||".replace('|', end);
            let (found, last) = events(&[text.as_bytes()]);
            assert_eq!(found, ["a\nb", "c"], "{end:?}");
            assert_eq!(last.as_deref(), Some("4"));
        }
    }

    #[test]
    fn a_priming_event_moves_the_id_and_is_no_event() {
        assert_eq!(events(&[b"id: 1\nretry: 20\ndata: \n\n"]), (vec![], Some("1".to_owned())));
    }

    #[test]
    fn an_unfinished_event_is_handed_over_only_at_the_end() {
        let mut parser = Parser::new(100);
        parser.feed(b"data: x").unwrap();
        assert_eq!(parser.next_event(), None);
        assert_eq!(parser.finish(), Some(b"x".to_vec()));
    }

    #[test]
    fn an_event_beyond_the_bound_is_refused() {
        let mut parser = Parser::new(10);
        parser.feed(b"data: 123\n").unwrap();
        assert_eq!(parser.feed(b"data: 12345"), Err(TooLarge));
    }
}
