//! The program that a package of the MCP registry is started with: `npx`, `uvx`, `docker run`, `dnx`.

use serde_json::{Map, Value};

use super::inputs::{Braces, chosen, get, is_required, list, text_of};
use crate::import::asked::Asked;
use toolfleet_core::redact::quoted;

/// A program and its first arguments.
struct Runner {
    command: &'static str,
    args: Vec<String>,
}

/// The fields of our own form.
pub(super) fn fields(package: &Value, scoped: bool, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let text = |field: &str| get(package, field).and_then(Value::as_str).unwrap_or_default();
    let (kind, identifier) = (text("registryType"), text("identifier"));
    let is_word =
        !identifier.is_empty() && !identifier.starts_with('-') && !identifier.contains(char::is_whitespace);
    if !is_word {
        return Err("has no `identifier`, or none that names a package".to_owned());
    }
    speaks_stdio(package)?;
    let mut env = variables(package, scoped, asked)?;
    let runtime = arguments(package, "runtimeArguments", asked)?;
    let own = arguments(package, "packageArguments", asked)?;
    let hint = text("runtimeHint");
    let mut runner = match kind {
        "npm" => npm(package, hint, runtime),
        "pypi" => runner("uvx", &[], runtime, &versioned(package, "@")),
        "oci" => image(package, hint, runtime, &mut env),
        "nuget" => nuget(package, runtime, !own.is_empty()),
        other => return Err(not_started(other)),
    };
    if !hint.is_empty() && hint != runner.command {
        asked.remark("runtimeHint", format!("is {}; `{}` starts the package", quoted(hint), runner.command));
    }
    runner.args.extend(own);
    let mut fields = Map::new();
    fields.insert("command".to_owned(), Value::from(runner.command));
    fields.insert("args".to_owned(), Value::from(runner.args));
    if !env.is_empty() {
        fields.insert("env".to_owned(), Value::Object(env));
    }
    Ok(fields)
}

fn not_started(kind: &str) -> String {
    match kind {
        "mcpb" => "is an MCPB bundle, a file that has to be unpacked first; unpack it, and register `server.mcp_config` of its \
                   manifest.json as a `command` with `args`"
            .to_owned(),
        "cargo" => "is a Rust crate, which has to be installed first; run `cargo install`, and register its program as a `command`"
            .to_owned(),
        "" => "has no `registryType`; known are npm, pypi, oci and nuget".to_owned(),
        other => format!(
            "is of the registry {}, whose packages are not started here; install it, and register its program as a `command`",
            quoted(other)
        ),
    }
}

/// A package may also be a server that listens: nobody starts it here.
fn speaks_stdio(package: &Value) -> Result<(), String> {
    let transport = get(package, "transport");
    let kind = transport.and_then(|transport| transport.get("type").or(Some(transport))?.as_str());
    match kind {
        None | Some("stdio" | "") => Ok(()),
        Some(other) => Err(format!(
            "is a program that listens for {}, and not one on stdin and stdout; start it, and register its address as `url`",
            quoted(other)
        )),
    }
}

/// The identifier with its version, if it has one.
fn versioned(package: &Value, sign: &str) -> String {
    let text = |field: &str| get(package, field).and_then(Value::as_str).unwrap_or_default();
    match text("version") {
        "" | "latest" => text("identifier").to_owned(),
        version => format!("{}{sign}{version}", text("identifier")),
    }
}

/// The program with its first arguments, those of the description, and what it is to run, unless they name that themselves.
fn runner(command: &'static str, first: &[&str], described: Vec<String>, what: &str) -> Runner {
    let named = what.rsplit_once('@').map_or(what, |(name, _)| if name.is_empty() { what } else { name });
    let names_it = described.iter().any(|arg| arg.starts_with(named));
    let mut args: Vec<String> =
        first.iter().map(|arg| (*arg).to_owned()).filter(|arg| !described.contains(arg)).collect();
    args.extend(described);
    if !names_it {
        args.push(what.to_owned());
    }
    Runner { command, args }
}

fn npm(package: &Value, hint: &str, described: Vec<String>) -> Runner {
    let what = versioned(package, "@");
    if hint == "bunx" {
        return runner("bunx", &[], described, &what);
    }
    let asks = described.iter().any(|arg| arg == "--yes");
    runner("npx", if asks { &[] } else { &["-y"] }, described, &what)
}

fn nuget(package: &Value, described: Vec<String>, more: bool) -> Runner {
    let mut args = vec![versioned(package, "@")];
    if !described.iter().any(|arg| arg == "--yes" || arg == "-y") {
        args.push("--yes".to_owned());
    }
    args.extend(described);
    if more {
        args.push("--".to_owned());
    }
    Runner { command: "dnx", args }
}

fn image(package: &Value, hint: &str, described: Vec<String>, env: &mut Map<String, Value>) -> Runner {
    let command = if hint == "podman" { "podman" } else { "docker" };
    let text = |field: &str| get(package, field).and_then(Value::as_str).unwrap_or_default();
    let identifier = text("identifier");
    let tagged =
        identifier.contains('@') || identifier.rsplit('/').next().is_some_and(|name| name.contains(':'));
    let image = if tagged { identifier.to_owned() } else { versioned(package, ":") };
    let host = text("registryBaseUrl").trim_start_matches("https://").trim_end_matches('/');
    let image = match host {
        "" | "docker.io" | "index.docker.io" => image,
        host if image.starts_with(&format!("{host}/")) => image,
        host => format!("{host}/{image}"),
    };
    let mut args = crate::import::docker::run();
    let untagged = identifier.rsplit_once([':', '@']).map_or(identifier, |(name, _)| name);
    // Some describe the whole command line.
    let described = described.into_iter().filter(|arg| arg != identifier && arg != untagged).collect();
    args.extend(without_variables(described, env));
    for name in env.keys() {
        args.extend(["-e".to_owned(), name.clone()]);
    }
    args.push(image);
    Runner { command, args }
}

/// The arguments of `docker run` without variables that they give a value, `-e NAME=VALUE`: those go to `env`, because every process of
/// the machine can read arguments.
fn without_variables(described: Vec<String>, env: &mut Map<String, Value>) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    for arg in described {
        let option = args.last().is_some_and(|last| last == "-e" || last == "--env");
        let given = if option { Some(arg.as_str()) } else { arg.strip_prefix("--env=") };
        match given.and_then(|given| given.split_once('=')) {
            Some((name, value)) => {
                env.entry(name).or_insert_with(|| Value::from(value));
                if option {
                    args.pop();
                }
            }
            None if option || !crate::import::docker::RUN.contains(&arg.as_str()) => args.push(arg),
            None => {}
        }
    }
    args
}

/// The variables of the program. One that is asked for by name is filled in from the variable of that name; in a list of servers its
/// name begins with the server's.
fn variables(package: &Value, scoped: bool, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let mut env = Map::new();
    let mut optional = Vec::new();
    for variable in list(package, "environmentVariables") {
        let Some(name) = variable.get("name").and_then(Value::as_str) else {
            return Err("has an environment variable without a name".to_owned());
        };
        let field = format!("env.{name}");
        let given = get(variable, "value").and_then(text_of);
        let default = || get(variable, "default").and_then(text_of).filter(|text| !text.is_empty());
        let value = match given {
            Some(value) => Some(Braces { input: variable, undeclared: false }.filled(asked, &field, &value)),
            None if default().is_some() => default(),
            None if !is_required(variable) => None,
            None if scoped => Some(asked.scoped(&field, name)),
            None => Some(asked.exact(&field, name)),
        };
        match value {
            Some(value) => {
                env.insert(name.to_owned(), Value::from(value));
            }
            None => optional.push(format!("`{name}`")),
        }
    }
    if !optional.is_empty() {
        asked.remark("env", format!("may also have {}, which are optional", optional.join(", ")));
    }
    Ok(env)
}

/// Arguments as words of a command line.
fn arguments(package: &Value, field: &str, asked: &mut Asked) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (i, argument) in list(package, field).enumerate() {
        // Before 2025-07 they were texts.
        if let Some(word) = argument.as_str() {
            words.push(word.to_owned());
            continue;
        }
        let name = argument.get("name").and_then(Value::as_str).unwrap_or_default();
        let hint = get(argument, "valueHint").and_then(Value::as_str).unwrap_or_default();
        let is_named = argument.get("type").and_then(Value::as_str) == Some("named");
        let given = get(argument, "value").and_then(text_of).map(|value| {
            let variable = value.split_once('=').filter(|_| name == "-e" || name == "--env");
            let field = variable.map_or_else(|| "args".to_owned(), |(variable, _)| format!("env.{variable}"));
            Braces { input: argument, undeclared: false }.filled(asked, &field, &value)
        });
        if is_named && is_switch(argument) {
            let set = given.or_else(|| get(argument, "default").and_then(text_of));
            if set.map_or_else(|| is_required(argument), |set| set == "true") {
                words.push(name.to_owned());
            }
            continue;
        }
        let asks_for = if hint.is_empty() { name } else { hint };
        let value = given.or_else(|| match asks_for {
            "" => get(argument, "default").and_then(text_of),
            asks_for => chosen(argument, asks_for, "args", asked),
        });
        match (is_named, value) {
            (true, Some(value)) => words.extend([name.to_owned(), value]),
            (true, None) if is_flag(argument) => words.push(name.to_owned()),
            (false, Some(value)) => words.push(value),
            (false, None) if is_required(argument) => {
                return Err(format!(
                    "requires an argument without a name and a value (`{field}[{i}]`); write its `value`"
                ));
            }
            (true | false, None) => {}
        }
    }
    Ok(words)
}

/// An option that is given or not: its value is no word of its own.
fn is_switch(argument: &Value) -> bool {
    get(argument, "format").and_then(Value::as_str) == Some("boolean")
}

/// An option that stands for itself, such as `-y`: it has no value and says nothing of one.
fn is_flag(argument: &Value) -> bool {
    let says = ["value", "default", "valueHint", "isRequired", "choices", "placeholder", "format"];
    says.iter().all(|field| get(argument, field).is_none())
}
