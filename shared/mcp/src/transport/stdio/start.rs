//! Starts a child process: process, pipes, handshake, supervisor.
//!
//! **Invariant:** a failed start leaves no process; its failure is known before any tool was called.

use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::fault::{Fault, NotSentCause};
use crate::protocol::revision::ProtocolRevision;
use crate::transport::request_error::before_call;
use crate::transport::stdio::child::{Child, Handshake, Lease};
use crate::transport::stdio::child_errors::with_words;
use crate::transport::stdio::children::Children;
use crate::transport::stdio::key::Key;
use crate::transport::stdio::pipes;
use crate::transport::stdio::program::{Program, Ready};
use crate::transport::stdio::supervise;

/// How long what a program wrote on stderr before it refused its handshake may take to arrive.
const WORDS_WITHIN: Duration = Duration::from_millis(100);

/// What is to be started, and for whom.
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) program: Arc<Program>,
    pub(crate) ready: Ready,
    pub(crate) known: Option<ProtocolRevision>,
}

/// A start that failed.
pub(crate) struct NotUp {
    pub(crate) fault: Fault,
    /// Whether the program was asked with `server/discover` first and may speak to one that is greeted with `initialize`.
    pub(crate) may_be_legacy: bool,
}

impl Children {
    /// A greeted child.
    pub(crate) async fn start(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<Arc<Child>, NotUp> {
        // Held while it is greeted, so that it is not stopped as unused meanwhile.
        let (child, _held) =
            self.spawn(wanted, place).map_err(|fault| NotUp { fault, may_be_legacy: false })?;
        let may_be_legacy = wanted.known.is_none();
        let within = wanted.program.start_within(self.limits.start_within);
        match timeout(within, self.greeter.greet(&child, wanted.known)).await {
            Ok(Ok(handshake)) => {
                let _first = child.handshake.set(handshake);
                tracing::info!(server = %child.server, child = child.serial, version = child.version(), "a program is up");
                Ok(child)
            }
            Ok(Err(trouble)) => {
                let mut fault = before_call(trouble.fault, "the handshake with the program");
                if !child.quit.is_cancelled() {
                    let _ended = timeout(WORDS_WITHIN, child.quit.cancelled()).await;
                    fault = with_words(fault, &child.said_to(None));
                }
                child.end(fault.clone());
                Err(NotUp { fault, may_be_legacy })
            }
            Err(_) => {
                let detail = format!("the program was not up within {within:?}");
                let fault = Fault::NotSent { detail, cause: NotSentCause::Answer };
                let fault = with_words(fault, &child.said_to(None));
                child.end(fault.clone());
                Err(NotUp { fault, may_be_legacy })
            }
        }
    }

    /// What it speaks, once it is up.
    pub(crate) fn era_of(child: &Child) -> Option<ProtocolRevision> {
        child.handshake.get().map(|handshake| match handshake {
            Handshake::Modern => ProtocolRevision::Modern,
            Handshake::Legacy(_) => ProtocolRevision::Legacy,
        })
    }

    fn spawn(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<(Arc<Child>, Option<Lease>), Fault> {
        let program = &wanted.program;
        if let Some(why) = program.unstartable(&wanted.ready) {
            return Err(unstartable(program, &why));
        }
        let cannot = |error: std::io::Error| {
            if lasts(error.kind()) {
                return unstartable(program, &error.to_string());
            }
            let detail = format!("the program `{}` cannot be started: {error}", program.command());
            Fault::NotSent { detail, cause: NotSentCause::Answer }
        };
        let mut command = program.to_command(&wanted.ready);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that whatever it starts ends with it.
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn().map_err(cannot)?;
        let group = supervise::Group::of(&process).map_err(cannot)?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(cannot(std::io::Error::other("it has no pipes")));
        };
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let (child, lines) = Child::new(wanted.key.clone(), serial, Arc::clone(program));
        self.enlist(&child)?;
        let held = child.hold();
        tokio::spawn(pipes::write(Arc::clone(&child), stdin, lines));
        let hearing = tokio::spawn(pipes::hear(Arc::clone(&child), stdout, self.limits.max_line_bytes));
        let logging = tokio::spawn(pipes::log(Arc::clone(&child), stderr));
        let running = supervise::Running { process, group, hearing, logging };
        let (children, key, of) = (Arc::clone(self), wanted.key.clone(), Arc::clone(&child));
        tokio::spawn(async move {
            let by_itself = supervise::watch(&of, running, children.limits.idle).await;
            children.strike_off(&key, &of, by_itself);
            drop(place);
            of.gone.cancel();
        });
        Ok((child, held))
    }
}

/// A command that cannot be started here as it is registered: no time mends that.
fn unstartable(program: &Program, why: &str) -> Fault {
    let detail = format!(
        "the program `{}` cannot be started: {why}; correct the server in the catalog, or install what is missing on the workers",
        program.command()
    );
    Fault::NotSent { detail, cause: NotSentCause::Command }
}

/// Whether such an error comes back at each start. Others mean that the machine is out of something for the moment.
const fn lasts(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::NotADirectory
            | ErrorKind::ArgumentListTooLong
    )
}
