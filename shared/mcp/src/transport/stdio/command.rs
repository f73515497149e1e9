//! Checks whether a command can be started and says why not: `exec` reports a missing program, a missing folder and a missing interpreter
//! all as "No such file". A command that passes the check may still fail to start.

use std::ffi::OsStr;
use std::fs::{File, metadata};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// How much of a script is read for its interpreter.
const FIRST_LINE_BYTES: u64 = 256;

enum Found {
    Program(PathBuf),
    NotExecutable(PathBuf),
    Nowhere,
}

/// Why `command` cannot be started in `cwd` with that search path, as a part of a sentence; nothing where it seems that it can.
pub(crate) fn why_not(command: &str, cwd: Option<&Path>, path: Option<&OsStr>) -> Option<String> {
    if let Some(cwd) = cwd {
        match metadata(cwd) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Some(format!("its `cwd` `{}` is no folder", cwd.display())),
            Err(error) => return Some(format!("its `cwd` `{}` cannot be entered: {error}", cwd.display())),
        }
    }
    match find(command, cwd, path) {
        Found::Program(file) => interpreter_missing(&file, cwd, path),
        Found::NotExecutable(file) if file.is_dir() => Some(format!("`{}` is a folder", file.display())),
        Found::NotExecutable(file) => Some(format!("`{}` is not executable", file.display())),
        Found::Nowhere if command.contains('/') => Some("No such file".to_owned()),
        Found::Nowhere => Some("No such file in the worker's PATH".to_owned()),
    }
}

/// Looks as `execvp` does.
fn find(command: &str, cwd: Option<&Path>, path: Option<&OsStr>) -> Found {
    let in_cwd = |file: PathBuf| match cwd {
        Some(cwd) => cwd.join(file),
        None => file,
    };
    if command.contains('/') {
        let file = in_cwd(PathBuf::from(command));
        return match metadata(&file) {
            Err(_) => Found::Nowhere,
            Ok(_) if is_executable(&file) => Found::Program(file),
            Ok(_) => Found::NotExecutable(file),
        };
    }
    let path = path.unwrap_or_else(|| OsStr::new("/bin:/usr/bin"));
    let mut unfit = None;
    for folder in std::env::split_paths(path) {
        let file = in_cwd(folder.join(command));
        if is_executable(&file) {
            return Found::Program(file);
        }
        if file.is_file() {
            unfit.get_or_insert(file);
        }
    }
    unfit.map_or(Found::Nowhere, Found::NotExecutable)
}

fn is_executable(file: &Path) -> bool {
    metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// What a script's first line names and is not there.
fn interpreter_missing(file: &Path, cwd: Option<&Path>, path: Option<&OsStr>) -> Option<String> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next()?;
    let missing = |name: &str| matches!(find(name, cwd, path), Found::Nowhere);
    if missing(interpreter) {
        let windows = if line.ends_with('\r') { "; its lines end as on Windows" } else { "" };
        return Some(format!("its interpreter `{}` does not exist{windows}", interpreter.trim_end()));
    }
    if !interpreter.ends_with("/env") {
        return None;
    }
    // Options other than -S may take a word of their own.
    let by_env =
        words.find(|word| *word != "-S").filter(|word| !word.starts_with('-') && !word.contains('='))?;
    missing(by_env.trim_end()).then(|| format!("its interpreter `{by_env}` is not in the worker's PATH"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    #[test]
    fn each_reason_why_a_command_cannot_be_started_is_told_apart() {
        let folder = std::env::temp_dir().join(format!("toolfleet-command-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, mode: u32, text: &str| {
            let mut options = File::options();
            let mut file =
                options.create(true).write(true).truncate(true).mode(mode).open(folder.join(name)).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        write("plain", 0o644, "x");
        write("good", 0o755, "#!/bin/sh\n");
        write("orphan", 0o755, "#!/no/such/python\nprint()");
        write("by-env", 0o755, "#!/usr/bin/env -S no-such-node --x\n");
        write("windows", 0o755, "#!/bin/sh\r\n");
        let path =
            std::env::join_paths([folder.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let why = |command: &str, cwd: Option<&str>| why_not(command, cwd.map(Path::new), Some(&path));
        assert_eq!(why("good", Some("/")), None);
        assert_eq!(why("sh", None), None);
        assert_eq!(why("/bin/sh", Some("/tmp")), None);
        for (command, cwd, words) in [
            ("no-such-program", None, "in the worker's PATH"),
            ("/no/such/program", None, "No such file"),
            ("plain", None, "is not executable"),
            ("/tmp", None, "is a folder"),
            ("sh", Some("/no/such/folder"), "`cwd` `/no/such/folder` cannot be entered"),
            ("sh", Some("/etc/passwd"), "is no folder"),
            ("orphan", None, "its interpreter `/no/such/python` does not exist"),
            ("by-env", None, "its interpreter `no-such-node` is not in the worker's PATH"),
            ("windows", None, "as on Windows"),
        ] {
            let found = why(command, cwd).unwrap_or_default();
            assert!(found.contains(words), "{command}: {found}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
