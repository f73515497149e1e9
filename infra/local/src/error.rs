//! The errors of starting the endpoints.

use std::io;
use std::path::PathBuf;

use dynoxide::DynoxideError;

use crate::journal::JournalError;
use crate::template::error::TemplateError;

/// Why the endpoints did not start. Each message names the port, directory or resource, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A port cannot be bound.
    #[error(
        "port {port} of 127.0.0.1 cannot be used for {service}; stop what uses it or choose another port (0 takes any)"
    )]
    Port {
        /// The endpoint that wanted it.
        service: &'static str,
        /// The port asked for.
        port: u16,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be used; give a directory that this user may create and write to", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Other endpoints run with this directory.
    #[error("the data directory {path} is in use by another process; stop it or give another directory", path = path.display())]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file with queues or secrets cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The database cannot be opened.
    #[error("the database {path} cannot be opened; move the file away to start empty", path = path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What dynoxide says.
        #[source]
        source: DynoxideError,
    },
    /// A table of the template cannot be created.
    #[error("table {table}: {problem}")]
    Table {
        /// Name of the table.
        table: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A queue of the template cannot be created.
    #[error("queue {queue}: {problem}")]
    Queue {
        /// Name of the queue.
        queue: String,
        /// What is wrong.
        problem: String,
    },
    /// The machine gives no more threads.
    #[error("a thread for {service} could not be started")]
    Thread {
        /// The endpoint that wanted it.
        service: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}
