//! The three pipes of a child: one task writes its stdin, one reads its stdout, one its stderr.
//!
//! **Invariant:** a line is written whole or the child is stopped; a child that does not read delays only its own callers.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use toolfleet_egress::sanitize_text;

use crate::blocking::{LARGE_BYTES, beside};
use crate::fault::Fault;
use crate::transport::channels::channel::{Channel, Outgoing};
use crate::transport::stdio::lines::{Line, Lines, Unfinished};

/// How long a child may leave a line of ours unread.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// The bound on a line of stderr.
const MAX_STDERR_LINE: usize = 8 * 1024;
/// How many lines of stderr of one child go to the log in one second.
const STDERR_LINES_PER_S: u32 = 20;

/// Writes until the child ends, or is to end: then its stdin is closed, by which well-behaved programs know that it is over.
pub(crate) async fn write(channel: Arc<Channel>, mut stdin: ChildStdin, mut lines: mpsc::Receiver<Outgoing>) {
    loop {
        let outgoing = tokio::select! {
            biased;
            () = channel.quit.cancelled() => return,
            Some(outgoing) = lines.recv() => outgoing,
            else => return,
        };
        if !channel.begins_to_leave(outgoing.of) {
            continue;
        }
        let written = tokio::select! {
            biased;
            () = channel.quit.cancelled() => return,
            written = timeout(WRITE_WITHIN, write_line(&mut stdin, &outgoing.body)) => written,
        };
        let detail = match written {
            Ok(Ok(())) => continue,
            Ok(Err(Unwritten { begun, error })) => {
                if !begun {
                    channel.has_not_left(outgoing.of);
                }
                // Why it reads no more is mostly that it has ended, which its supervisor can say better.
                let _ended = timeout(Duration::from_millis(500), channel.quit.cancelled()).await;
                format!("the program reads no more ({error})")
            }
            Err(_) => format!("the program did not read its input for {} s", WRITE_WITHIN.as_secs()),
        };
        channel.end(Fault::AnswerLost { detail });
        return;
    }
}

struct Unwritten {
    begun: bool,
    error: std::io::Error,
}

async fn write_line(stdin: &mut ChildStdin, body: &[u8]) -> Result<(), Unwritten> {
    let unwritten = |begun| move |error| Unwritten { begun, error };
    let first = stdin.write(body).await.map_err(unwritten(false))?;
    stdin.write_all(body.get(first..).unwrap_or_default()).await.map_err(unwritten(true))?;
    stdin.write_all(b"\n").await.map_err(unwritten(true))?;
    stdin.flush().await.map_err(unwritten(true))
}

/// Hears until stdout is closed.
pub(crate) async fn hear(channel: Arc<Channel>, stdout: ChildStdout, max_bytes: u64) {
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut lines = Lines::new(stdout, most);
    let mut unfinished = Unfinished::default();
    loop {
        match lines.next().await {
            Ok(Line::Whole(line)) if line.len() >= LARGE_BYTES => {
                let (channel, mut begun) = (Arc::clone(&channel), std::mem::take(&mut unfinished));
                let read = move || {
                    channel.take_line(&line, &mut begun, most);
                    begun
                };
                unfinished = beside(read).await.unwrap_or_default();
            }
            Ok(Line::Whole(line)) => channel.take_line(&line, &mut unfinished, most),
            Ok(Line::TooLong { beginning, tail }) => channel.take_long(&beginning, &tail, max_bytes),
            // Its end is told by its supervisor, who knows more of it.
            Ok(Line::End) | Err(_) => return,
        }
    }
}

/// Passes stderr on to the log, line by line, without secrets, and no more of it than a log can bear. What a program writes there
/// may be anybody's data, so it is for those who ask for it.
pub(crate) async fn log(channel: Arc<Channel>, stderr: ChildStderr) {
    let mut lines = Lines::new(stderr, MAX_STDERR_LINE);
    let (mut since, mut passed, mut left_out) = (Instant::now(), 0_u32, 0_u64);
    while let Ok(next) = lines.next().await {
        let line = match next {
            Line::Whole(line) => line,
            Line::TooLong { .. } => {
                left_out = left_out.saturating_add(1);
                continue;
            }
            Line::End => break,
        };
        let line = sanitize_text(&channel.scrubbed(String::from_utf8_lossy(&line).into_owned()));
        if line.is_empty() {
            continue;
        }
        if since.elapsed() >= Duration::from_secs(1) {
            if left_out > 0 {
                tracing::debug!(server = %channel.server, left_out, "stderr of a program goes on too fast");
            }
            (since, passed, left_out) = (Instant::now(), 0, 0);
        }
        if passed < STDERR_LINES_PER_S {
            passed = passed.saturating_add(1);
            tracing::debug!(server = %channel.server, channel = channel.serial, "stderr: {line}");
        } else {
            left_out = left_out.saturating_add(1);
        }
        channel.remember_line(line);
    }
}
