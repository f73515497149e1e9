//! Owns helper processes: this program again, serving something for a load until its stdin closes.
//!
//! **Invariant:** a helper ends with the process that started it, whatever ends that.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

/// A helper that runs; killed when dropped.
pub(crate) struct Helper(Child);

impl Helper {
    /// Starts one and waits for what it says when it serves.
    pub(crate) fn start<T: DeserializeOwned>(args: &[&OsStr]) -> anyhow::Result<(Self, T)> {
        let ours = std::env::current_exe().context("this program does not know where it is")?;
        let what = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut child = Command::new(ours)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{what}`"))?;
        let out = child.stdout.take();
        let mut helper = Self(child);
        let mut said = String::new();
        BufReader::new(out.context("a helper without stdout")?).read_line(&mut said)?;
        match serde_json::from_str(&said) {
            Ok(said) => Ok((helper, said)),
            Err(_) => {
                // It has said on stderr why.
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
        // One that has ended already needs no kill.
        let _ended = self.kill();
    }
}

/// A helper's own side: says what it serves, and lasts until stdin closes.
pub(crate) async fn serving(said: &impl Serialize) -> anyhow::Result<bool> {
    println!("{}", serde_json::to_string(said)?);
    // Whatever comes: only the end counts.
    let _end = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    Ok(true)
}
