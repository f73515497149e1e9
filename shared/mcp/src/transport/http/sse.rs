//! Parses server-sent events: bytes in, in any pieces, events out. (WHATWG HTML, section 9.2.)
//!
//! **Invariant:** how the bytes are cut into pieces never changes the events; no more than `max_bytes` of one event are held.

use std::collections::VecDeque;

/// How much is kept of an event that is too long, to tell whose it is.
pub(crate) const BEGINNING_BYTES: usize = 4 * 1024;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The data of a whole event.
    Whole(Vec<u8>),
    /// The data of an event of the type `endpoint`, with which the transport of 2024-11-05 begins.
    Endpoint(Vec<u8>),
    /// The beginning of the data of an event that grew beyond the bound. The rest of it is skipped.
    TooLong(Vec<u8>),
}

/// An incremental parser of one stream. Events with empty data (priming events) only move the last id, and so do events of other
/// types than `message` and `endpoint`: they carry no JSON-RPC.
#[derive(Debug)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The event at hand is of another type.
    is_other: bool,
    is_endpoint: bool,
    /// The rest of the line, or of the data, is left out.
    skips_line: bool,
    skips_data: bool,
    pending_id: Option<String>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    after_cr: bool,
    bom: u8,
    ready: VecDeque<Event>,
    others: u64,
    max_bytes: usize,
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Parser {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            is_other: false,
            is_endpoint: false,
            skips_line: false,
            skips_data: false,
            pending_id: None,
            last_id: None,
            retry_ms: None,
            after_cr: false,
            bom: 0,
            ready: VecDeque::new(),
            others: 0,
            max_bytes,
        }
    }

    /// The next event.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
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

    /// How many events of other types came.
    pub(crate) const fn others(&self) -> u64 {
        self.others
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while self.bom < 3 {
            let Some((first, rest)) = bytes.split_first() else {
                return;
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
            self.extend_line(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default());
            let Some(end) = end else { break };
            self.after_cr = bytes.get(end) == Some(&b'\r');
            self.end_line();
            bytes = bytes.get(end.saturating_add(1)..).unwrap_or_default();
        }
    }

    /// The event that was not ended by an empty line when the stream ended; whether it is whole, its reader has to judge.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        if !self.line.is_empty() {
            self.end_line();
        }
        let whole = self.has_data && !self.data.is_empty() && !self.is_other && !self.skips_data;
        whole.then(|| std::mem::take(&mut self.data))
    }

    /// Takes a part of a line. Where line and data together grow beyond the bound, only the beginning of the data is kept.
    fn extend_line(&mut self, part: &[u8]) {
        if self.skips_line {
            return;
        }
        let room = self.max_bytes.saturating_sub(self.line.len()).saturating_sub(self.data.len());
        let fits = part.get(..room);
        self.line.extend_from_slice(fits.unwrap_or(part));
        if fits.is_none_or(|fits| fits.len() == part.len()) {
            return;
        }
        self.skips_line = true;
        let line = std::mem::take(&mut self.line);
        self.take_line(&line);
        if !self.has_data {
            // A comment, or a field that nobody reads.
            return;
        }
        self.skips_data = true;
        let mut beginning = std::mem::take(&mut self.data);
        beginning.truncate(BEGINNING_BYTES);
        if !self.is_other {
            self.ready.push_back(Event::TooLong(beginning));
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.skips_line) {
            return;
        }
        if line.is_empty() {
            self.dispatch();
        } else {
            self.take_line(&line);
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let field = line.get(..colon).unwrap_or_default();
        let value = line.get(colon.saturating_add(1)..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" if !self.skips_data => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.is_other = !value.is_empty() && value != b"message";
                self.is_endpoint = value == b"endpoint";
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
        let is_other = std::mem::take(&mut self.is_other);
        let skipped = std::mem::take(&mut self.skips_data);
        let has_data = std::mem::take(&mut self.has_data);
        if std::mem::take(&mut self.is_endpoint) && !skipped {
            self.ready.push_back(Event::Endpoint(data));
        } else if is_other {
            self.others = self.others.saturating_add(1);
        } else if has_data && !skipped && !data.is_empty() {
            self.ready.push_back(Event::Whole(data));
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
            parser.feed(piece);
            while let Some(event) = parser.next_event() {
                if let Event::Whole(event) = event {
                    found.push(String::from_utf8_lossy(&event).into_owned());
                }
            }
        }
        (found, parser.last_id().map(str::to_owned))
    }

    fn fed(max_bytes: usize, text: &str) -> Vec<Event> {
        let mut parser = Parser::new(max_bytes);
        parser.feed(text.as_bytes());
        std::iter::from_fn(|| parser.next_event()).collect()
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
    fn an_event_of_another_type_moves_the_id_and_is_no_event() {
        let text = b"event: ping\ndata: {}\nid: 3\n\ndata: x\nevent: endpoint\n\nevent:message\ndata: a\n\nevent:\ndata: b\n\n";
        assert_eq!(events(&[text]), (vec!["a".to_owned(), "b".to_owned()], Some("3".to_owned())));
        let mut parser = Parser::new(100);
        parser.feed(b"event: ping\ndata: x");
        assert_eq!(parser.finish(), None);
    }

    #[test]
    fn the_event_that_names_an_address_is_told_apart() {
        let found = fed(100, "event: endpoint\ndata: /m?s=1\n\nevent: message\ndata: x\n\n");
        assert_eq!(found, [Event::Endpoint(b"/m?s=1".to_vec()), Event::Whole(b"x".to_vec())]);
    }

    #[test]
    fn an_unfinished_event_is_handed_over_only_at_the_end() {
        let mut parser = Parser::new(100);
        parser.feed(b"data: x");
        assert_eq!(parser.next_event(), None);
        assert_eq!(parser.finish(), Some(b"x".to_vec()));
    }

    #[test]
    fn an_event_beyond_the_bound_is_told_at_once_and_the_next_one_is_whole() {
        let long = Event::TooLong(b"12345678".to_vec());
        assert_eq!(fed(14, "data: 123456789"), std::slice::from_ref(&long));
        assert_eq!(fed(14, "data: 123456789\ndata: 5\n\ndata: x\n\n"), [long, Event::Whole(b"x".to_vec())]);
        let lines = "data: 1234\ndata: 5678\n\ndata: x\n\n";
        assert_eq!(fed(13, lines), [Event::TooLong(b"1234\n567".to_vec()), Event::Whole(b"x".to_vec())]);
    }

    #[test]
    fn what_nobody_reads_is_skipped_however_long_it_is() {
        let ping = format!(
            "event: ping\ndata: {}\n\n: {}\nodd: {}\ndata: x\n\n",
            "p".repeat(50),
            "c".repeat(50),
            "o".repeat(50)
        );
        assert_eq!(fed(20, &ping), [Event::Whole(b"x".to_vec())]);
        let many = "data: 12345\n\n".repeat(100);
        assert_eq!(fed(20, &many).len(), 100);
    }
}
