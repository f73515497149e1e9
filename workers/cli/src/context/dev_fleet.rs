//! The fleet of a `toolfleet dev` that runs on this machine: `dev` says in a file how to join it, and takes the file away when it ends.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{folder, replace};
use super::variables::Variables;

/// How long a running `dev` may take to accept a connection.
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);

/// A running `dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevFleet {
    /// Its process.
    pub(crate) pid: u32,
    /// The variables with which programs use it.
    pub(crate) env: Variables,
}

/// The file of a `dev`, taken away when it is dropped.
#[derive(Debug)]
pub(crate) struct Announced {
    path: PathBuf,
    pid: u32,
}

impl Drop for Announced {
    fn drop(&mut self) {
        // The file of a `dev` that was started later stays.
        if read(&self.path).is_some_and(|dev| dev.pid == self.pid) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Says that a `dev` with those variables runs.
///
/// # Errors
/// The file cannot be written: other terminals need the variables then.
pub(crate) fn announce(env: Variables) -> std::io::Result<Announced> {
    let path = path().ok_or_else(|| std::io::Error::other("HOME is not set"))?;
    let dev = DevFleet { pid: std::process::id(), env };
    replace(&path, &format!("{}\n", serde_json::to_string(&dev)?))?;
    Ok(Announced { path, pid: dev.pid })
}

/// The `dev` that runs and accepts connections, if one does.
pub(crate) fn running() -> Option<DevFleet> {
    let dev = read(&path()?)?;
    let sqs = url::Url::parse(dev.env.get("AWS_ENDPOINT_URL_SQS")?).ok()?;
    let address = (sqs.host_str()?, sqs.port_or_known_default()?).to_socket_addrs().ok()?.next()?;
    TcpStream::connect_timeout(&address, ANSWERS_WITHIN).ok()?;
    Some(dev)
}

fn read(path: &PathBuf) -> Option<DevFleet> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn path() -> Option<PathBuf> {
    Some(folder("XDG_STATE_HOME", ".local/state")?.join("dev.json"))
}
