//! The examples of the help pages, and the exit codes of those that end in more than one way. A test parses each example.

use clap::Command;

/// The columns within which an example stays; a longer one is continued on the next line.
const COLUMNS: usize = 76;
/// What a line of an example begins with.
const BEGIN: &str = "  ";
/// The most examples of a verb that has verbs of its own.
const MOST_OF_NODE: usize = 5;

/// Where to begin.
const FIRST: &[&str] = &[
    "toolfleet dev",
    r#"toolfleet call --tenant demo --tool echo --arguments '{"text": "hello"}'"#,
    "toolfleet why acme 0199c3",
    "toolfleet doctor",
    "toolfleet history acme --since 1d --failed",
];

/// The verbs whose exit code says more than that they worked.
const EXIT_CODES: &[(&str, &str)] = &[
    ("call", "0 the call succeeded; 1 it ended otherwise; 3 no result yet"),
    ("result", "0 the call succeeded; 1 it ended otherwise; 3 no such call, or no result yet"),
    ("why", "0 the call is known; 3 no worker has received it"),
    ("history", "3 nothing was found of the CALL_ID that is given"),
    ("group show", "0 the group succeeded; 1 it was decided otherwise; 3 it is open, or not known"),
    ("group wait", "0 the group succeeded; 1 it was decided otherwise; 3 it is open, or not known"),
    ("doctor", "0 nothing failed; 1 something failed"),
    ("catalog check", "0 nothing failed; 1 something failed"),
    ("tools diff", "0 all tools are as pinned; 1 one differs"),
    ("tools list", "0 all are listed; 1 with --live, a server did not answer"),
    ("dlq redrive", "0 all was moved; 1 something failed, or it was interrupted; 3 there is nothing to move"),
    ("resume", "0 it is resumed; 3 it was not paused"),
];

/// The verb, and its examples.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "dev",
        &["toolfleet dev", "toolfleet dev --demo", "toolfleet dev --catalog catalog.json --data-dir ./fleet"],
    ),
    (
        "gateway",
        &[
            "toolfleet gateway --catalog catalog.json --tenant acme",
            "toolfleet gateway --listen 0.0.0.0:8080 --public-url https://tools.example.com/mcp \
             --oauth-issuer https://login.example.com --oauth-tenant-claim tenant",
        ],
    ),
    (
        "console",
        &[
            "toolfleet console",
            "toolfleet console --listen 0.0.0.0:8080 --public-url https://console.example.com \
             --tokens secret://toolfleet/console-tokens --key secret://toolfleet/console-key",
        ],
    ),
    (
        "send",
        &[
            r#"toolfleet send --tenant acme --tool weather --arguments '{"city": "Ulm"}'"#,
            "toolfleet send --body request.json",
        ],
    ),
    (
        "call",
        &[
            r#"toolfleet call --tenant acme --tool weather --arguments '{"city": "Ulm"}'"#,
            "toolfleet call --tenant acme --server files --name read_file --arguments @arguments.json --wait 2m",
            "toolfleet call --tenant acme --tool report --in 20m --timeout 1h --wait 2h",
        ],
    ),
    ("result", &["toolfleet result acme 0199c3", "TOOLFLEET_TENANT=acme toolfleet result 0199c3 --json"]),
    ("why", &["toolfleet why acme 0199c3"]),
    (
        "cancel",
        &[
            "toolfleet cancel acme 0199c3",
            "toolfleet cancel --tool weather --older-than 10m --why 'the server is gone'",
            "toolfleet cancel --tenant acme --session s1 --why 'user left' --apply",
        ],
    ),
    (
        "plan",
        &[
            "toolfleet plan --rate 200/s --calls 60:300ms:1s --calls 40:2s:8s",
            "toolfleet plan --from-history 7d --peak 3 --wait 5s",
            "toolfleet plan --rate 20/s --calls 1:2s:8s --deadline 30s --late 0.005 --prices prices.json",
            "toolfleet plan --print-prices > prices.json",
            "toolfleet plan --rate 20/s --calls 1:800ms --slots 32 --svg waits.svg --json",
            "toolfleet plan --check plan.json --from-history 7d",
        ],
    ),
    (
        "scale show",
        &["toolfleet scale show", "toolfleet scale show --at ecs:toolfleet/toolfleet-worker --json"],
    ),
    ("scale set", &["toolfleet scale set 4", "toolfleet scale set 8 --dry-run"]),
    (
        "scale limits",
        &[
            "toolfleet scale limits --min 4 --max 40",
            "toolfleet scale limits --max 60 --at kubernetes:toolfleet/toolfleet-worker",
        ],
    ),
    ("status", &["toolfleet status", "toolfleet status --json"]),
    (
        "doctor",
        &[
            "toolfleet doctor",
            "toolfleet doctor --pre --catalog catalog.json",
            "toolfleet doctor --worker-function toolfleet-worker",
            "toolfleet doctor --json",
        ],
    ),
    (
        "catalog check",
        &["toolfleet catalog check catalog.json", "toolfleet catalog check secret://toolfleet/catalog"],
    ),
    ("top", &["toolfleet top", "toolfleet top --once --json"]),
    ("workers", &["toolfleet workers"]),
    ("servers", &["toolfleet servers"]),
    ("stats", &["toolfleet stats --last 1d", "toolfleet stats --tool weather --last 1h --json"]),
    (
        "pause",
        &[
            "toolfleet pause tool weather --why 'INC-42: wrong answers' --for 2h",
            "toolfleet pause tool:weather --why 'the same, in one word'",
            "toolfleet pause server maps --tenant acme --why 'over quota'",
        ],
    ),
    ("resume", &["toolfleet resume tool weather --why 'INC-42 is closed'"]),
    ("limit set", &["toolfleet limit set server:maps --rate 20/s --concurrency 5 --why 'their quota'"]),
    ("limit clear", &["toolfleet limit clear server:maps --why 'the quota was raised'"]),
    ("limit list", &["toolfleet limit list"]),
    ("strike", &["toolfleet strike --like acme 0199c3 --why 'it breaks the server' --for 1d"]),
    ("drain", &["toolfleet drain ip-10-0-1-7-1 --why 'the host is replaced'"]),
    ("weight", &["toolfleet weight acme 4 --why 'their contract'"]),
    ("switches", &["toolfleet switches"]),
    (
        "history",
        &[
            "toolfleet history acme --since 1d --failed",
            "toolfleet history acme 0199c3",
            "toolfleet history acme --tool crm.find --since 60d --read-at-most 10000",
            "toolfleet history acme --session s1 --since 2d --until 1d --jsonl > records.jsonl",
        ],
    ),
    (
        "sessions create",
        &["toolfleet sessions create acme s1 --grant weather --grant 'files/*' --ends-in 8h --apply"],
    ),
    ("sessions show", &["toolfleet sessions show acme s1"]),
    ("sessions grant", &["toolfleet sessions grant acme s1 --grant calendar --apply"]),
    ("sessions expire", &["toolfleet sessions expire acme s1 --ends-in 5m --apply"]),
    ("sessions revoke", &["toolfleet sessions revoke acme s1 --apply"]),
    (
        "tools list",
        &[
            "toolfleet tools list",
            "toolfleet tools list --catalog catalog.json --live",
            "toolfleet tools list --url http://127.0.0.1:8931/mcp",
        ],
    ),
    ("tools diff", &["toolfleet tools diff --catalog catalog.json"]),
    ("tools approve", &["toolfleet tools approve --catalog catalog.json maps/geocode --apply"]),
    (
        "tools import",
        &[
            "toolfleet tools import claude_desktop_config.json --out catalog.json",
            "toolfleet tools import openapi petstore.yaml",
        ],
    ),
    ("resources list", &["toolfleet resources list files --tenant acme"]),
    ("resources templates", &["toolfleet resources templates files --tenant acme"]),
    ("resources read", &["toolfleet resources read files file:///srv/notes.txt --tenant acme"]),
    ("prompts list", &["toolfleet prompts list crm --tenant acme"]),
    ("prompts get", &[r#"toolfleet prompts get crm greet --arguments '{"who": "Ann"}' --tenant acme"#]),
    ("queue status", &["toolfleet queue status"]),
    ("group show", &["toolfleet group show acme turn-7"]),
    ("group wait", &["toolfleet group wait acme turn-7 --wait 5m"]),
    ("group cancel", &["toolfleet group cancel acme turn-7"]),
    ("group redrive", &["toolfleet group redrive acme turn-7 --requests turn-7.jsonl"]),
    ("dlq list", &["toolfleet dlq list --older-than 1h", "toolfleet dlq list --tool weather --json"]),
    (
        "dlq show",
        &["toolfleet dlq show acme 0199c3", "toolfleet dlq show 7d3c2f9e-0c1b-4a55-8f6a-1c2d3e4f5a6b"],
    ),
    (
        "dlq redrive",
        &["toolfleet dlq redrive --tool weather", "toolfleet dlq redrive --tool weather --apply"],
    ),
    ("context list", &["toolfleet context list"]),
    ("context show", &["toolfleet context show", "eval \"$(toolfleet context show prod)\""]),
    ("context use", &["toolfleet context use prod", "toolfleet context use"]),
    (
        "context set",
        &[
            "toolfleet context set prod TOOLFLEET_QUEUE_URL=https://sqs.us-east-1.amazonaws.com/123456789012/toolfleet-calls \
             AWS_PROFILE=prod AWS_REGION=us-east-1",
        ],
    ),
    ("context save", &["toolfleet context save staging"]),
    ("context remove", &["toolfleet context remove staging"]),
    ("completions", &["toolfleet completions bash > /etc/bash_completion.d/toolfleet"]),
];

/// The command with the examples on its help pages.
pub(crate) fn with_examples(command: Command) -> Command {
    let rest = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = command.after_help(format!("{}\n\n{rest}", text(FIRST)));
    nodes(&command, "").into_iter().chain(EXAMPLES.iter().map(|(verb, _)| (*verb).to_owned())).fold(
        command,
        |command, verb| {
            let codes = EXIT_CODES.iter().find(|(of, _)| *of == verb);
            let codes = codes.map_or_else(String::new, |(_, codes)| format!("\n\nExit codes: {codes}."));
            let path: Vec<_> = verb.split(' ').collect();
            with_text(command, &path, format!("{}{codes}", text(&examples(&verb))))
        },
    )
}

/// The verbs that have verbs of their own.
fn nodes(command: &Command, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for verb in command.get_subcommands().filter(|verb| verb.has_subcommands()) {
        let path = format!("{path} {}", verb.get_name()).trim().to_owned();
        found.extend(nodes(verb, &path));
        found.push(path);
    }
    found
}

/// The examples of a verb; of one that has verbs of its own, the first one of each of these.
fn examples(verb: &str) -> Vec<&'static str> {
    let own = EXAMPLES.iter().find(|(of, _)| *of == verb);
    own.map_or_else(
        || {
            let below = format!("{verb} ");
            let of_verbs = EXAMPLES.iter().filter(|(of, _)| of.starts_with(&below));
            of_verbs.filter_map(|(_, examples)| examples.first().copied()).take(MOST_OF_NODE).collect()
        },
        |(_, examples)| examples.to_vec(),
    )
}

fn text(examples: &[&str]) -> String {
    let lines = examples.iter().map(|example| continued(example));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The lines of an example: where it is long, it is continued before an option or a setting, as a shell reads it.
fn continued(example: &str) -> String {
    let mut lines = String::from(BEGIN);
    let mut used = BEGIN.len();
    for (n, part) in parts(example).into_iter().enumerate() {
        let gap = usize::from(n > 0);
        if n > 0 && used + gap + part.len() > COLUMNS {
            lines.push_str(" \\\n      ");
            used = BEGIN.len() + 4;
        } else if n > 0 {
            lines.push(' ');
        }
        lines.push_str(part);
        used += gap + part.len();
    }
    lines
}

/// The parts of an example between which a line may end: before options and NAME=VALUE words outside of quotes.
fn parts(example: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quote) = (Vec::new(), 0, None);
    for (at, c) in example.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if may_begin_a_line(example.get(at + 1..).unwrap_or_default()) => {
                parts.push(example.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            (Some(_) | None, _) => {}
        }
    }
    parts.push(example.get(begin..).unwrap_or_default());
    parts
}

fn may_begin_a_line(rest: &str) -> bool {
    let word = rest.split(' ').next().unwrap_or_default();
    rest.starts_with("--") || word.contains('=') && word.starts_with(|c: char| c.is_ascii_uppercase())
}

fn with_text(command: Command, path: &[&str], text: String) -> Command {
    match path.split_first() {
        None => command.after_help(text),
        Some((verb, rest)) => command.mut_subcommand(*verb, |command| with_text(command, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::Cli;

    /// The words of an example, as a shell gives them to the program.
    fn words(example: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in example.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words.push(word);
        let begin = words.iter().position(|word| word == "toolfleet").unwrap_or_default();
        words.split_off(begin).into_iter().take_while(|word| word != ">").collect()
    }

    #[test]
    fn each_example_is_accepted() {
        for (verb, examples) in EXAMPLES {
            for example in *examples {
                let inner = example.strip_prefix("eval \"$(").and_then(|rest| rest.strip_suffix(")\""));
                let words = words(inner.unwrap_or(example));
                assert!(
                    words.join(" ").starts_with(&format!("toolfleet {verb}")),
                    "{example} is no example of {verb}"
                );
                let parsed = with_examples(Cli::command()).try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn each_help_page_has_an_example() {
        fn pages(command: &Command, path: &str, found: &mut Vec<String>) {
            let has = command.get_after_help().is_some_and(|text| text.to_string().contains("Examples:\n  "));
            if !has {
                found.push(path.trim().to_owned());
            }
            for verb in command.get_subcommands() {
                pages(verb, &format!("{path} {}", verb.get_name()), found);
            }
        }
        let mut without = Vec::new();
        pages(&with_examples(Cli::command()), "toolfleet", &mut without);
        assert!(without.is_empty(), "without an example: {without:?}");
        for (verb, _) in EXIT_CODES {
            assert!(EXAMPLES.iter().any(|(of, _)| of == verb), "{verb}");
        }
    }

    #[test]
    fn a_long_example_is_continued_as_a_shell_reads_it() {
        for example in EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
            let shown = continued(example);
            for line in shown.lines() {
                let is_one_word = parts(line.trim()).len() < 3;
                assert!(line.len() <= 78 || is_one_word, "{} columns: {line}", line.len());
            }
            assert_eq!(shown.trim_start().replace(" \\\n      ", " "), *example);
        }
        assert_eq!(parts("a --b 'c --d' E=f g"), ["a", "--b 'c --d'", "E=f g"]);
    }

    /// The commands of a page, with whether they are complete: lines of its blocks of shell, and `toolfleet ...` in its text.
    fn commands_of(page: &str) -> Vec<(bool, String)> {
        let mut commands = Vec::new();
        let mut block = None;
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            match (line.trim_start().strip_prefix("```"), block) {
                (Some(_), Some(_)) => block = None,
                (Some(kind), None) => block = Some(kind == "sh"),
                (None, Some(true)) => {
                    let mut command = line.trim().to_owned();
                    while let Some(begin) = command.strip_suffix('\\') {
                        command = format!("{begin}{}", lines.next().unwrap_or_default().trim());
                    }
                    commands.push((true, command));
                }
                (None, Some(false)) => {}
                (None, None) => {
                    let code = line.split('`').skip(1).step_by(2);
                    commands.extend(code.map(|code| (false, code.replace("\\|", "|"))));
                }
            }
        }
        commands.retain(|(_, command)| command.starts_with("toolfleet "));
        commands
    }

    /// Whether it stands for a command, and is none: it has a part for the reader to fill in, or is the name of several.
    fn is_no_command(command: &str) -> bool {
        ["...", "|", "$", "<", "VERB", "[", "*"].iter().any(|part| command.contains(part))
    }

    /// The documents: the pages of docs and infra, README and CHANGELOG.
    fn pages() -> Vec<std::path::PathBuf> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut folders = vec![root.join("docs"), root.join("infra")];
        let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_own = !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                match path.extension() {
                    _ if path.is_dir() && is_own => folders.push(path),
                    Some(kind) if kind == "md" => pages.push(path),
                    _ => {}
                }
            }
        }
        pages
    }

    /// The commands of a page that come after a context is set, and before any is chosen.
    fn of_another_fleet(page: &str) -> Vec<String> {
        let (mut used, mut is_unused, mut found) = (BTreeSet::new(), false, Vec::new());
        for (_, command) in commands_of(page).into_iter().filter(|(complete, _)| *complete) {
            match words(&command).iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["toolfleet", "context", "set" | "save", name, ..] => is_unused |= !used.contains(name),
                ["toolfleet", "context", "use", name, ..] => {
                    used.insert(name.to_owned());
                    is_unused = false;
                }
                ["toolfleet", "context" | "dev", ..] => {}
                _ if is_unused && !command.contains(" --context ") => found.push(command),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn a_fleet_that_a_page_names_is_chosen_before_it_is_used() {
        let set = "```sh\ntoolfleet context set prod TOOLFLEET_SCALE=ec2:workers\n";
        assert_eq!(of_another_fleet(&format!("{set}toolfleet scale show\n```")), ["toolfleet scale show"]);
        assert!(of_another_fleet(&format!("{set}toolfleet scale show --context prod\n```")).is_empty());
        assert!(
            of_another_fleet(&format!("{set}toolfleet context use prod\ntoolfleet status\n```")).is_empty()
        );
        for page in pages() {
            let found = of_another_fleet(&std::fs::read_to_string(&page).unwrap());
            assert!(found.is_empty(), "{}: {found:?} before `toolfleet context use`", page.display());
        }
    }

    #[test]
    fn each_command_of_the_documents_is_accepted() {
        let mut refused = Vec::new();
        let mut checked = 0;
        for page in pages() {
            for (complete, command) in commands_of(&std::fs::read_to_string(&page).unwrap()) {
                if is_no_command(&command) {
                    continue;
                }
                let command = command
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .split(" &")
                    .next()
                    .unwrap_or_default()
                    .trim();
                checked += 1;
                let words = words(command);
                let Err(error) = Cli::command().try_get_matches_from(&words) else { continue };
                let names_a_verb = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                if error.use_stderr() && (complete || !names_a_verb) {
                    let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                    refused.push(format!("{}: {command}: {why}", page.display()));
                }
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
        assert!(checked > 100, "only {checked} commands were found");
    }
}
