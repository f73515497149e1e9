//! How many workers a `toolfleet dev` runs: the socket on which it is asked, and what is said there. Each connection is one line of JSON in
//! each direction.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// The most workers of one machine.
pub(crate) const MOST_WORKERS: u64 = 32;
/// What a `dev` that ends says to its workers: end within seconds.
pub(super) const STOP: &[u8] = b"stop\n";
/// How long one side waits for the other's line.
const TIME_OUT: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// How many workers to run from now on; none to change nothing.
    pub(crate) workers: Option<u64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// How many workers there should be.
    pub(crate) desired: u64,
    /// Those that there are.
    pub(crate) workers: Vec<DevWorker>,
}

/// A worker of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevWorker {
    /// Its name in the rows of workers.
    pub(crate) id: String,
    /// Its process.
    pub(crate) pid: u32,
    /// It takes no more calls, and ends when its calls have ended.
    pub(crate) draining: bool,
}

/// The socket of a `dev`, taken away when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A file that is left in the temporary folder does no harm.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// One that asks.
pub(super) struct Asking {
    pub(super) asked: Asked,
    stream: UnixStream,
}

impl Socket {
    /// A socket that only this user may use.
    pub(super) fn open() -> io::Result<Self> {
        let random: String = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        let name = format!("toolfleet-{}-{random}.sock", std::process::id());
        // The path of a socket has a hundred characters at most, so it is not in the folder of the state.
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, listener })
    }

    /// What [`Place`](crate::commands::scale::Place) it is.
    pub(super) fn place(&self) -> String {
        format!("dev:{}", self.path.display())
    }

    /// The next one that asks for something that can be understood.
    pub(super) async fn next(&self) -> Asking {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Too many open files, for example: it may pass.
                tokio::time::sleep(TIME_OUT).await;
                continue;
            };
            let mut line = String::new();
            let read = timeout(TIME_OUT, BufReader::new(&mut stream).read_line(&mut line)).await;
            if matches!(read, Ok(Ok(_)))
                && let Ok(asked) = serde_json::from_str(&line)
            {
                return Asking { asked, stream };
            }
        }
    }
}

impl Asking {
    /// Tells how it is now.
    pub(super) async fn tell(mut self, told: &Told) {
        if let Ok(text) = serde_json::to_string(told) {
            // Who has gone away does not want to know.
            let _gone = timeout(TIME_OUT, self.stream.write_all(format!("{text}\n").as_bytes())).await;
        }
    }
}

/// Asks the `dev` behind that socket.
pub(crate) async fn ask(socket: &Path, asked: Asked) -> io::Result<Told> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{}\n", serde_json::to_string(&asked)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(serde_json::from_str(&line)?)
    };
    timeout(TIME_OUT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
