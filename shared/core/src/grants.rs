//! What a session's grants open: `*` for all, a tool, a tool's function, a server's tool by name, or a whole server.
//!
//! What is asked of a server itself (its resources, prompts and lists) is open to `*` and `server/*` only: a grant of a tool
//! does not open the rest of its server. A text that can open nothing is refused before it is stored.

use crate::ids::ServerId;
use crate::request::Target;

/// The longest grant, in characters: a server, a slash, and a tool's name there.
const LONGEST: usize = 256;

/// Why a grant was refused: what was found and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a grant: accepted are `*` (all), a tool id, tool.function, server/name, or server/* (all of a server)"
)]
pub struct GrantError {
    found: String,
}

/// Whether a text can be a grant.
pub fn check(grant: &str) -> Result<(), GrantError> {
    let named = match grant.strip_suffix("/*") {
        Some(server) => ServerId::parse(server).is_ok(),
        None => {
            let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '*' && c != '#';
            !grant.is_empty() && grant.chars().count() <= LONGEST && grant.chars().all(plain)
        }
    };
    if grant == "*" || named {
        return Ok(());
    }
    Err(GrantError { found: grant.chars().take(80).collect() })
}

/// Whether one of the grants opens `target`, which runs on `server`.
pub fn open(grants: &[String], target: &Target, server: &ServerId) -> bool {
    let wanted = target.to_string();
    grants.iter().any(|grant| {
        let of_server = || grant.strip_suffix("/*").is_some_and(|id| id == server.as_str());
        grant == "*"
            || of_server()
            || match target {
                // A tool's id may look like another tool's function: only the very call is meant by its whole name.
                Target::Tool { id, .. } => {
                    grant == id.as_str() || (*grant == wanted && wanted != id.as_str())
                }
                Target::OnServer { .. } => *grant == wanted,
                Target::Server { .. } => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ToolId;

    fn opens(grant: &str, target: &Target) -> bool {
        open(&[grant.to_owned()], target, &ServerId::parse("crm").unwrap())
    }

    #[test]
    fn a_grant_opens_what_it_names_and_nothing_else() {
        let tool = |function: Option<&str>| Target::Tool {
            id: ToolId::parse("notes").unwrap(),
            function: function.map(str::to_owned),
        };
        let by_name = Target::OnServer { server: ServerId::parse("crm").unwrap(), name: "find".into() };
        let server = Target::Server { server: ServerId::parse("crm").unwrap() };
        let cases = [
            ("*", [true, true, true, true]),
            ("notes", [true, true, false, false]),
            ("notes.read", [false, true, false, false]),
            ("notes.write", [false, false, false, false]),
            ("crm/find", [false, false, true, false]),
            ("crm/*", [true, true, true, true]),
            ("cr/*", [false, false, false, false]),
            ("crm", [false, false, false, false]),
            ("crm/", [false, false, false, false]),
        ];
        for (grant, expected) in cases {
            let targets = [&tool(None), &tool(Some("read")), &by_name, &server];
            let found = targets.map(|target| opens(grant, target));
            assert_eq!(found, expected, "{grant}");
        }
    }

    #[test]
    fn a_grant_that_can_open_nothing_is_refused() {
        for grant in ["*", "notes", "notes.read", "crm/find", "crm/*", "a:b/c"] {
            assert!(check(grant).is_ok(), "{grant}");
        }
        for grant in ["", "no*", "a b", "/*", "*/x", "x\n", &"x".repeat(257)] {
            assert!(check(grant).unwrap_err().to_string().contains("server/*"), "{grant}");
        }
    }
}
