//! Helper processes: this program again with another command, which serves until its stdin closes.
//!
//! **Invariant:** a helper ends when the process that started it ends, because its stdin is closed then.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

/// A running helper. Dropping it kills it.
pub(crate) struct Helper(Child);

impl Helper {
    /// Starts a helper and waits for the line that it prints when it serves.
    pub(crate) fn start<T: DeserializeOwned>(args: &[&OsStr]) -> anyhow::Result<(Self, T)> {
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let what = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new(program);
        command.args(args);
        Self::ready(&what, &mut command)
    }

    /// Starts a program and waits for the line that it prints when it serves.
    pub(crate) fn ready<T: DeserializeOwned>(what: &str, command: &mut Command) -> anyhow::Result<(Self, T)> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("cannot start `{what}`"))?;
        let out = child.stdout.take();
        let mut helper = Self(child);
        let mut line = String::new();
        BufReader::new(out.context("a helper without stdout")?).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(ready) => Ok((helper, ready)),
            Err(_) => {
                // The reason is on its stderr.
                let status = helper.0.wait()?;
                anyhow::bail!("`{what}` did not start: {status}")
            }
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Killing fails if it has ended already.
        let _ignored = self.kill();
    }
}

/// In the helper process: prints what it serves, and waits until stdin closes.
pub(crate) async fn serve_until_stdin_closes(ready: &impl Serialize) -> anyhow::Result<bool> {
    println!("{}", serde_json::to_string(ready)?);
    // Only the end of the input matters, not its content.
    let _ignored = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    Ok(true)
}
