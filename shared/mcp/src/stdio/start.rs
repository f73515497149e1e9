//! Owns the start of a child: process, pipes, greeting, supervisor.
//!
//! **Invariant:** a start that fails leaves no process; that it failed is known before any tool was called.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use toolfleet_core::fault::{Fault, NotSentCause};

use super::child::{Child, Greeting, Lease};
use super::pool::{Children, Key};
use super::program::{Program, Ready};
use super::{pipes, supervise};
use crate::classify::before_call;
use crate::era::Era;

/// How long a program may take from its start to its first answer: some are downloaded first.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What is to be started, and for whom.
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) program: Arc<Program>,
    pub(super) ready: Ready,
    pub(super) known: Option<Era>,
}

/// A start that failed.
pub(super) struct NotUp {
    pub(super) fault: Fault,
    /// Whether the program ended while it was greeted.
    pub(super) ended: bool,
}

impl Children {
    /// A greeted child.
    pub(super) async fn start(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<Arc<Child>, NotUp> {
        // Held while it is greeted, so that it is not stopped as unused meanwhile.
        let (child, _held) = self.spawn(wanted, place).map_err(|fault| NotUp { fault, ended: false })?;
        match timeout(START_WITHIN, self.greeter.greet(&child, wanted.known)).await {
            Ok(Ok(greeting)) => {
                let _first = child.greeting.set(greeting);
                tracing::info!(server = %child.server, child = child.serial, version = child.version(), "a program is up");
                Ok(child)
            }
            Ok(Err(trouble)) => {
                let ended = child.quit.is_cancelled();
                let fault = before_call(trouble.fault, "greeting the program");
                child.end(fault.clone());
                Err(NotUp { fault, ended })
            }
            Err(_) => {
                let detail = format!("the program said nothing for {} s", START_WITHIN.as_secs());
                let fault = Fault::NotSent { detail, cause: NotSentCause::Answer };
                child.end(fault.clone());
                Err(NotUp { fault, ended: false })
            }
        }
    }

    /// What it speaks, once it is up.
    pub(super) fn era_of(child: &Child) -> Option<Era> {
        child.greeting.get().map(|greeting| match greeting {
            Greeting::Modern => Era::Modern,
            Greeting::Legacy(_) => Era::Legacy,
        })
    }

    fn spawn(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<(Arc<Child>, Option<Lease>), Fault> {
        let program = &wanted.program;
        let cannot = |error: std::io::Error| Fault::NotSent {
            cause: NotSentCause::Answer,
            detail: format!("the program `{}` cannot be started: {error}", program.command()),
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
        let (child, lines) = Child::new(wanted.key.server.clone(), serial, Arc::clone(program));
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
