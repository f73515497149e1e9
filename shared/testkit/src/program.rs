//! A scripted MCP server that is a program on stdio, and the files in which it records what it did.
//!
//! **Invariant:** it writes to its folder only.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SCRIPT: &str = include_str!("child.sh");

/// How long a test waits for something to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A scripted program with a folder of its own, which is removed with it.
#[derive(Debug)]
pub struct ScriptedProgram {
    folder: PathBuf,
    traits: Vec<String>,
}

impl ScriptedProgram {
    /// A program that behaves well but for these traits; `child.sh` lists them.
    ///
    /// # Panics
    /// Where no folder can be made.
    pub fn new(traits: &[&str]) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("toolfleet-child-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for a scripted program");
        Self { folder, traits: traits.iter().map(|t| (*t).to_owned()).collect() }
    }

    /// What starts it: `sh`, which is where every test runs.
    pub fn command(&self) -> String {
        "sh".to_owned()
    }

    /// The arguments that make `sh` play it.
    pub fn args(&self) -> Vec<String> {
        let folder = self.folder.display().to_string();
        let mut args = vec!["-c".to_owned(), SCRIPT.to_owned(), "child".to_owned(), folder];
        args.extend(self.traits.iter().cloned());
        args
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it wrote down, line by line, from all its starts.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How many lines begin so.
    pub fn count(&self, beginning: &str) -> usize {
        self.log().iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// The numbers of the processes that were started.
    pub fn pids(&self) -> Vec<u32> {
        self.log().iter().filter_map(|line| line.strip_prefix("start ")?.parse().ok()).collect()
    }

    /// Lets a slow one go on.
    ///
    /// # Panics
    /// Where its folder is gone.
    pub fn go(&self) {
        std::fs::write(self.folder.join("go"), "").expect("the folder of a scripted program");
    }

    /// The next so many calls have that trait, and no other calls from now on.
    ///
    /// # Panics
    /// Where its folder is gone.
    pub fn next(&self, name: &str, times: usize) {
        let lines = format!("{name}\n").repeat(times);
        std::fs::write(self.folder.join("next"), lines).expect("the folder of a scripted program");
    }

    /// The number of the process that it left behind.
    pub fn grandchild(&self) -> Option<u32> {
        std::fs::read_to_string(self.folder.join("grandchild")).ok()?.trim().parse().ok()
    }

    /// Waits until it has written so many lines that begin so.
    ///
    /// # Panics
    /// After 20 seconds.
    pub async fn wrote(&self, beginning: &str, times: usize) {
        self.seen(&format!("{times} times `{beginning}`"), || self.count(beginning) >= times).await;
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// After 20 seconds.
    pub async fn seen(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} was not seen; it wrote {:?}", self.log());
    }
}

impl Drop for ScriptedProgram {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether a process is there, zombies included.
pub fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
