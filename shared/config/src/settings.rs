//! Reads settings that are declared with clap: from the command line, else from variables, which are injected as strings.
//!
//! The declarations are the one source of names, defaults and help; [`reference()`] prints them as the table of docs/reference/settings.md.
//! An error names the variable, its value and what is accepted.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};

/// Gives the value of a variable, if it is set.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Settings for which an empty variable is a value. Every other setting without a default takes an empty variable as unset.
const EMPTY_IS_A_VALUE: [&str; 3] = ["TOOLFLEET_WORKER_ID", "TOOLFLEET_TENANTS", "NO_PROXY"];

/// Variables that are also read in lower case, as most programs do.
const ALSO_LOWER_CASE: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// A variable is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    variable: String,
    problem: String,
}

impl ConfigError {
    /// An error of that variable. `problem` says what is wrong and what to do.
    pub fn new(variable: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { variable: variable.into(), problem: problem.into() }
    }
}

/// Why a command line and its variables make no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value is wrong.
    #[error(transparent)]
    Value(#[from] ConfigError),
    /// Help or the version was asked for, or an argument does not exist.
    #[error(transparent)]
    CommandLine(Box<clap::Error>),
}

/// Reads a group of settings from variables alone.
///
/// # Errors
/// The first variable that is wrong.
pub fn read<T: Args>(variables: Variables<'_>) -> Result<T, ConfigError> {
    let command = T::augment_args(Command::new("settings").no_binary_name(true));
    let internal = |error: clap::Error| ConfigError::new("settings", error.to_string());
    let matches = match parse(command, &[], variables) {
        Ok(matches) => matches,
        Err(SettingsError::Value(error)) => return Err(error),
        Err(SettingsError::CommandLine(error)) => return Err(internal(*error)),
    };
    T::from_arg_matches(&matches).map_err(internal)
}

/// Reads the settings of a command: what the arguments do not give is taken from the variables. A subcommand is returned without its
/// variables.
///
/// # Errors
/// See [`SettingsError`].
pub fn parse(
    command: Command,
    arguments: &[OsString],
    variables: Variables<'_>,
) -> Result<ArgMatches, SettingsError> {
    let mut built = command.clone();
    built.build();
    let settings: Vec<Setting> = built.get_arguments().filter_map(Setting::of).collect();
    // clap would read the process's own environment.
    let command = command.no_binary_name(true).mut_args(|arg| arg.env(Resettable::Reset));
    let matches = |arguments: &[OsString], found: &BTreeMap<&str, String>| {
        let matches = command.clone().try_get_matches_from(arguments);
        matches.map_err(|error| match wrong_value(&settings, found, &error) {
            Some(wrong) => SettingsError::Value(wrong),
            None => SettingsError::CommandLine(Box::new(error)),
        })
    };
    let given = matches(arguments, &BTreeMap::new())?;
    if given.subcommand_name().is_some() {
        return Ok(given);
    }
    let mut arguments = arguments.to_vec();
    let mut found = BTreeMap::new();
    for setting in &settings {
        if given.value_source(&setting.id) == Some(ValueSource::CommandLine) {
            continue;
        }
        if let Some((name, value)) = setting.variable(variables) {
            arguments.push(format!("--{}={value}", setting.long).into());
            found.insert(setting.long.as_str(), name);
        }
    }
    matches(&arguments, &found)
}

/// A setting that has a variable.
struct Setting {
    id: String,
    long: String,
    variable: String,
    /// As clap writes it in errors.
    shown: String,
    default: Option<String>,
}

impl Setting {
    fn of(arg: &Arg) -> Option<Self> {
        let default = arg.get_default_values().first();
        Some(Self {
            id: arg.get_id().to_string(),
            long: arg.get_long()?.to_owned(),
            variable: arg.get_env()?.to_str()?.to_owned(),
            shown: arg.to_string(),
            default: default.map(|value| value.to_string_lossy().into_owned()),
        })
    }

    /// The variable that is set, and its value.
    fn variable(&self, variables: Variables<'_>) -> Option<(String, String)> {
        let empty_is_unset = self.default.is_none() && !EMPTY_IS_A_VALUE.contains(&self.variable.as_str());
        let read = |name: String| {
            let value = variables(&name).filter(|value| !(empty_is_unset && value.trim().is_empty()))?;
            Some((name, value))
        };
        let lower =
            || ALSO_LOWER_CASE.contains(&self.variable.as_str()).then(|| self.variable.to_lowercase());
        read(self.variable.clone()).or_else(|| read(lower()?))
    }
}

/// The error of a value, without the value unless the parser repeats it: it may be a secret.
fn wrong_value(
    settings: &[Setting],
    found: &BTreeMap<&str, String>,
    error: &clap::Error,
) -> Option<ConfigError> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let setting = settings.iter().find(|setting| setting.shown == *shown)?;
    let variable = found.get(setting.long.as_str()).unwrap_or(&setting.variable);
    let problem = error.source().map_or_else(|| "is not accepted".to_owned(), ToString::to_string);
    let unset = setting.default.as_ref().map(|default| format!(" (unset: {default})"));
    Some(ConfigError::new(variable.clone(), problem + &unset.unwrap_or_default()))
}

/// A parser of whole numbers from `min` to `max`.
pub fn number<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy + Send + Sync + 'static,
{
    move |text| match text.trim().parse::<T>() {
        Ok(n) if n >= min && n <= max => Ok(n),
        Ok(_) | Err(_) => Err(format!("is `{text}`; accepted is a whole number from {min} to {max}")),
    }
}

/// The units of a duration, in milliseconds; a longer name before one that it ends in.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A parser of durations from `min` to `max` milliseconds: a whole number and ms, s, m, h or d, or of milliseconds alone.
pub fn milliseconds(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let trimmed = text.trim();
        let unit = UNITS.iter().find_map(|(unit, ms)| Some((trimmed.strip_suffix(unit)?, *ms)));
        let (count, ms) = unit.unwrap_or((trimmed, 1));
        let found = count.parse::<u64>().ok().and_then(|count| count.checked_mul(ms));
        found.filter(|ms| (min..=max).contains(ms)).map(Duration::from_millis).ok_or_else(|| {
            format!("is `{text}`; accepted is a whole number from {min} to {max}, of milliseconds, or with its unit, for example 30s")
        })
    }
}

/// Whether what goes there has colours: to a terminal, unless NO_COLOR is set (no-color.org).
pub fn is_coloured(is_terminal: bool) -> bool {
    has_colours(is_terminal, std::env::var_os("NO_COLOR").as_deref())
}

fn has_colours(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Parses `true` or `false`.
///
/// # Errors
/// What is accepted.
pub fn true_or_false(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(format!("is `{other}`; accepted are true and false")),
    }
}

/// The settings of a command as Markdown tables, one for each heading.
pub fn reference(command: &Command) -> String {
    let mut headings: Vec<(&str, Vec<&Arg>)> = Vec::new();
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let heading = arg.get_help_heading().unwrap_or("Other");
        match headings.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, args)) => args.push(arg),
            None => headings.push((heading, vec![arg])),
        }
    }
    let mut text = String::new();
    for (heading, args) in headings {
        // Writing to a string cannot fail.
        let _written = write!(
            text,
            "\n## {heading}\n\n| variable | argument | default | meaning |\n|---|---|---|---|\n"
        );
        for arg in args {
            let variable = arg.get_env().map(|name| name.to_string_lossy()).unwrap_or_default();
            let default = arg.get_default_values().first();
            let default = default.map_or_else(String::new, |value| format!("`{}`", value.to_string_lossy()));
            let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
            let help = help.replace('\n', " ").replace('|', "\\|");
            let long = arg.get_long().unwrap_or_default();
            let _written = writeln!(text, "| `{variable}` | `--{long}` | {default} | {help} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Args)]
    struct Example {
        #[arg(long, env = "EXAMPLE_COUNT", default_value = "3", value_parser = number(1_u32, 9))]
        count: u32,
        #[arg(long, env = "HTTPS_PROXY", value_parser = refuse)]
        proxy: Option<String>,
        #[arg(long, env = "EXAMPLE_WAIT_MS", default_value = "1000", value_parser = milliseconds(0, 5_000))]
        wait: Duration,
    }

    fn refuse(_: &str) -> Result<String, String> {
        Err("is no proxy".to_owned())
    }

    fn of<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    #[test]
    fn a_terminal_has_colours_unless_no_color_is_set() {
        assert!(has_colours(true, None) && has_colours(true, Some(OsStr::new(""))));
        assert!(!has_colours(true, Some(OsStr::new("1"))) && !has_colours(false, None));
    }

    #[test]
    fn a_duration_has_a_unit_or_is_in_milliseconds() {
        let read = milliseconds(100, 600_000);
        for (text, ms) in [("55000", 55_000), ("250ms", 250), (" 55s ", 55_000), ("10m", 600_000)] {
            assert_eq!(read(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "s", "1", "11m", "1.5s", "-1s", "1w", "18446744073709551615d"] {
            assert!(read(wrong).unwrap_err().contains("for example 30s"), "{wrong}");
        }
    }

    #[test]
    fn a_variable_sets_what_is_not_an_argument() {
        let command = Example::augment_args(Command::new("example"));
        let variables = of(&[("EXAMPLE_COUNT", "5"), ("EXAMPLE_WAIT_MS", "7")]);
        let matches = parse(command, &["--count=4".into()], &variables).unwrap();
        assert_eq!(matches.get_one::<u32>("count"), Some(&4));
        assert_eq!(matches.get_one::<Duration>("wait"), Some(&Duration::from_millis(7)));
        let example: Example = read(&of(&[("EXAMPLE_WAIT_MS", " 8 ")])).unwrap();
        assert_eq!((example.count, example.wait, example.proxy), (3, Duration::from_millis(8), None));
    }

    #[test]
    fn an_error_names_variable_value_range_and_default() {
        let error = read::<Example>(&of(&[("EXAMPLE_COUNT", "many")])).unwrap_err().to_string();
        assert_eq!(error, "EXAMPLE_COUNT: is `many`; accepted is a whole number from 1 to 9 (unset: 3)");
    }

    #[test]
    fn a_value_that_its_parser_does_not_repeat_is_not_printed() {
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let error = read::<Example>(&of(&[(name, "http://u:hunter2@p")])).unwrap_err().to_string();
            assert_eq!(error, format!("{name}: is no proxy"));
        }
        let command = Example::augment_args(Command::new("example"));
        let error = parse(command, &["--proxy=hunter2".into()], &|_| None).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
