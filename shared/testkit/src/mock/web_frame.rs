//! Frames of a WebSocket (RFC 6455, section 5), written by hand so that a test can cut them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// A frame of a server, without a mask.
pub(super) fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A close frame.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, true, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The next message of a client: its opcode and its payload. A client must mask (section 5.3).
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<(u8, Vec<u8>)> {
    let (mut opcode, mut message) = (CONTINUATION, Vec::new());
    loop {
        let head = reader.read_u16().await?;
        let [first, second] = head.to_be_bytes();
        if second & 0x80 == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = match second & 0x7f {
            126 => u64::from(reader.read_u16().await?),
            127 => reader.read_u64().await?,
            short => u64::from(short),
        };
        let mask = reader.read_u32().await?.to_be_bytes();
        let mut payload = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        reader.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        if first & 0x0f != CONTINUATION {
            opcode = first & 0x0f;
        }
        message.append(&mut payload);
        if first & 0x80 != 0 {
            return Ok((opcode, message));
        }
    }
}
