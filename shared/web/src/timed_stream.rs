//! A connection's stream that fails when its client takes too long: to send a head, to send the next request, or to read an answer.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take to send the head of a request, the first one counted from the start of its connection.
pub(crate) const HEAD_TIME_OUT: Duration = Duration::from_secs(10);
/// How long a client may take to read anything of an answer.
pub(crate) const WRITE_TIME_OUT: Duration = Duration::from_secs(30);

/// What happens on a connection.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing of the next request has come.
    Idle { until: Instant },
    /// A head has begun to come.
    Head { until: Instant },
    /// A request is answered. How long that takes is not the connection's affair.
    Answering,
}

/// What happens on a connection, told by the stream and by the requests.
pub(crate) struct Activity {
    state: Mutex<State>,
    idle: Duration,
}

struct State {
    phase: Phase,
    /// Who reads while a request is answered, and has to learn that the time runs again.
    reader: Option<Waker>,
}

impl Activity {
    /// Of a connection that has just begun. It is kept for `idle` without a request.
    pub(crate) fn new(idle: Duration) -> Self {
        let phase = Phase::Head { until: Instant::now() + HEAD_TIME_OUT };
        Self { state: Mutex::new(State { phase, reader: None }), idle }
    }

    pub(crate) fn request_begins(&self) {
        self.state().phase = Phase::Answering;
    }

    pub(crate) fn request_ends(&self) {
        let mut state = self.state();
        state.phase = Phase::Idle { until: Instant::now() + self.idle };
        if let Some(reader) = state.reader.take() {
            drop(state);
            reader.wake();
        }
    }

    /// Bytes have come.
    fn has_read(&self) {
        let mut state = self.state();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Head { until: Instant::now() + HEAD_TIME_OUT };
        }
    }

    /// Bytes have gone: the end of an answer may still be on its way.
    fn has_written(&self) {
        let mut state = self.state();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Idle { until: Instant::now() + self.idle };
        }
    }

    /// Until when the client has to send something. Whoever reads while a request is answered is woken when that ends.
    fn read_until(&self, reader: &Waker) -> Option<Instant> {
        let mut state = self.state();
        match state.phase {
            Phase::Idle { until } | Phase::Head { until } => Some(until),
            Phase::Answering => {
                state.reader = Some(reader.clone());
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream.
pub(crate) struct TimedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    read_timer: Timer,
    write_timer: Timer,
    /// Since when the client has read nothing that is to be written.
    write_until: Option<Instant>,
}

impl<S> TimedStream<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            write_until: None,
        }
    }

    /// What a write has brought: an error where it waits too long.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.write_until = None;
            self.activity.has_written();
            return wrote;
        }
        let until = *self.write_until.get_or_insert_with(|| Instant::now() + WRITE_TIME_OUT);
        ready!(self.write_timer.poll_at(until, context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            if buffer.filled().len() > before {
                self.activity.has_read();
            }
            return read;
        }
        let Some(until) = self.activity.read_until(context.waker()) else { return Poll::Pending };
        ready!(self.read_timer.poll_at(until, context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A timer that is made when it is first needed.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll_at(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }
}
