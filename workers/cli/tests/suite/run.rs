//! Runs the binary with an environment of its own, and `toolfleet dev` on free ports.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_toolfleet");

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one document on one line:\n{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn complains(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in stderr:\n{}", self.stderr);
        }
    }

    #[track_caller]
    pub(crate) fn prints(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stdout.contains(part), "`{part}` is not in stdout:\n{}", self.stdout);
        }
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().env("COLUMNS", "110").env("HOME", home());
    // Whatever this machine is, it has no identity at AWS.
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A home that nothing is in: what commands write there is for the test that gives them one of its own.
fn home() -> &'static str {
    "/proc/nonexistent"
}

/// Runs it to its end in that home, with those variables.
pub(crate) fn toolfleet_at_home(home: &Path, variables: &[(&str, &str)], args: &[&str]) -> Ran {
    finish(command(args).env("HOME", home).envs(variables.iter().copied()).spawn().unwrap())
}

/// Runs it to its end, with no fleet configured.
pub(crate) fn toolfleet(args: &[&str]) -> Ran {
    finish(command(args).spawn().unwrap())
}

/// Runs it to its end, with those variables.
pub(crate) fn toolfleet_within(variables: &[(&str, &str)], args: &[&str]) -> Ran {
    finish(command(args).envs(variables.iter().copied()).spawn().unwrap())
}

/// Runs it to its end, with a last argument that need not be text.
pub(crate) fn toolfleet_of_bytes(args: &[&str], last: &[u8]) -> Ran {
    use std::os::unix::ffi::OsStrExt as _;
    finish(command(args).arg(std::ffi::OsStr::from_bytes(last)).spawn().unwrap())
}

/// Runs it to its end, with that on stdin.
pub(crate) fn toolfleet_with(args: &[&str], stdin: &str) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    finish(child)
}

fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A `toolfleet dev --json` on ports of its own; it is killed if the test does not stop it.
pub(crate) struct Dev {
    child: Child,
    /// The document that says that it runs.
    pub(crate) ready: Value,
    _stdout: BufReader<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Dev {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at_home(Path::new(home()), args)
    }

    /// The same in that home.
    pub(crate) fn start_at_home(home: &Path, args: &[&str]) -> Self {
        let all: Vec<_> = ["dev", "--json", "--port-base", "0"].iter().chain(args).copied().collect();
        let mut child = command(&all).env("HOME", home).env("TOOLFLEET_LOG", "warn").spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str(&line) else {
            let mut said = String::new();
            stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it does not start: {line}{said}");
        };
        Self { child, ready, _stdout: stdout, stderr }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn joined(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        for (name, value) in self.ready["env"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        command
    }

    /// A command with the variables that `dev` gave.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.joined(args)
    }

    /// Runs a command with the variables that `dev` gave.
    pub(crate) fn toolfleet(&self, args: &[&str]) -> Ran {
        finish(self.joined(args).spawn().unwrap())
    }

    pub(crate) fn toolfleet_with(&self, args: &[&str], stdin: &str) -> Ran {
        let mut child = self.joined(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        finish(child)
    }

    /// Runs a command with other variables than `dev` gave; an empty value unsets one.
    pub(crate) fn toolfleet_but(&self, but: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = self.joined(args);
        for (name, value) in but {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        finish(command.spawn().unwrap())
    }

    /// Starts a command, tells it to stop (SIGINT) once `ready` holds, and gives what it left behind.
    pub(crate) fn interrupt(&self, args: &[&str], ready: impl Fn() -> bool) -> Ran {
        let child = self.joined(args).spawn().unwrap();
        assert!((0..1_000).any(|_| ready()), "it never gets that far");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        finish(child)
    }

    /// Waits until the queue is empty: then each call's audit record is stored.
    pub(crate) fn wait_until_empty(&self) {
        loop {
            let status = self.toolfleet(&["queue", "status", "--json"]).exits(0).json();
            let calls = &status["queues"][0];
            if calls["visible"] == 0 && calls["in_flight"] == 0 {
                return;
            }
        }
    }

    /// Asks it to end, and gives its exit code and what it said on stderr.
    pub(crate) fn terminate(mut self) -> (i32, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut said = String::new();
        self.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Compares with a file in `tests/golden`; what differs is left beside the build for a look, and for copying.
#[track_caller]
pub(crate) fn is_golden(name: &str, found: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    if expected == found {
        return;
    }
    let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&actual, found).unwrap();
    let (golden, actual) = (golden.display(), actual.display());
    panic!("{name} differs; compare, and if it is meant so:\n  cp {actual} {golden}\n{found}");
}

/// A file in a directory of its own, for one test.
pub(crate) fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A directory of its own for one test, empty.
pub(crate) fn directory(test: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}-{}", std::process::id()));
    let _absent = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
