//! What the command line says about the fleet.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Options that name a fleet, or a part of one.
const FLEET_OPTIONS: [&str; 6] =
    ["queue_url", "queue_url_high", "queue_url_low", "table_prefix", "history_shards", "payload_bucket"];

/// What the command line says about the fleet, as far as it must be known before it is parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The value of `--context`.
    pub(super) named: Option<String>,
    /// Whether an option names a fleet, or a part of one.
    pub(super) has_fleet: bool,
    /// Whether the verb needs no fleet, or starts one.
    pub(super) is_local: bool,
}

impl Wish {
    /// Reads the arguments of the command, the program's name first. What is wrong in them is said later.
    pub(crate) fn of(command: Command, arguments: impl IntoIterator<Item = OsString>) -> Self {
        let parsed = command.ignore_errors(true).try_get_matches_from(arguments);
        // It asks for help or for the version.
        let Ok(matches) = parsed else { return Self { is_local: true, ..Self::default() } };
        let given = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        Self {
            named: matches.get_one::<String>("context").cloned(),
            has_fleet: FLEET_OPTIONS.iter().any(given),
            is_local: is_local(&matches),
        }
    }
}

fn is_local(matches: &ArgMatches) -> bool {
    let Some((verb, of_verb)) = matches.subcommand() else { return true };
    match verb {
        "dev" | "context" | "completions" | "help" => true,
        "tools" => of_verb.subcommand_name() == Some("import"),
        "plan" => of_verb.value_source("from_history").is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn wish(line: &str) -> Wish {
        Wish::of(
            Cli::command(),
            std::iter::once("toolfleet").chain(line.split_whitespace()).map(OsString::from),
        )
    }

    #[test]
    fn a_context_is_read_wherever_it_stands() {
        for line in [
            "--context prod status",
            "status --context prod",
            "status --context=prod --json",
            "--table-prefix dev --context prod queue status",
            "--log help --context prod status --nope",
            "sessions --context prod show acme",
        ] {
            assert_eq!(wish(line).named.as_deref(), Some("prod"), "{line}");
            assert!(!wish(line).is_local, "{line}");
        }
        assert_eq!(wish("call -- --context prod").named, None, "it is an argument");
        for line in
            ["status --queue-url https://q", "--table-prefix other status", "status --payload-bucket b"]
        {
            assert!(wish(line).has_fleet, "{line}");
        }
        assert!(!wish("status --json").has_fleet);
    }

    #[test]
    fn verbs_without_a_fleet_have_no_context() {
        for line in [
            "",
            "dev --demo",
            "--log debug dev",
            "context list",
            "completions bash",
            "status --help",
            "--version",
            "tools import x.json",
            "plan --rate 1/s --calls 1:1s",
        ] {
            assert!(wish(line).is_local, "{line}");
        }
        for line in ["status", "tools list", "catalog check x.json", "plan --from-history 7d"] {
            assert!(!wish(line).is_local, "{line}");
        }
    }
}
