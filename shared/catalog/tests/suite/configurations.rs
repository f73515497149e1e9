//! docs/guides/configuration.md says of the files in `tests/configurations` what is taken and what is not: this holds it to that.

use std::collections::BTreeMap;
use std::path::Path;

use toolfleet_catalog::{Catalog, CatalogSources, LocalEnvironment, Programs};

const GUIDE: &str = include_str!("../../../../docs/guides/configuration.md");

/// As `toolfleet dev` reads a file on a machine with these variables.
fn read(text: &str) -> Result<Catalog, String> {
    let variables =
        [("TOOLS", "/opt/tools"), ("TRACKER_TOKEN", "tracker-token-1"), ("workspaceFolder", "/work")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let material = CatalogSources {
        programs: Programs::Allowed,
        tenants: Some(vec!["*".to_owned()]),
        local_environment: Some(LocalEnvironment { variables: variables.into() }),
        ..CatalogSources::default()
    };
    Catalog::parse_with(text, &material).map_err(|error| error.to_string())
}

/// The row of a file, as the guide has to have it.
fn row(name: &str, text: &str) -> String {
    let product = text.lines().next().unwrap().trim_start_matches(['/', '#', ' ']);
    let first = |text: &str| text.split(';').next().unwrap().to_owned();
    let (taken, not, unused) = match read(text) {
        Err(error) => {
            let reason = error.trim_start_matches("catalog: the text: ");
            ("refused".to_owned(), first(reason), String::new())
        }
        Ok(catalog) => {
            let tools = catalog
                .tools()
                .into_iter()
                .filter(|tool| catalog.servers().iter().all(|s| s.id.as_str() != tool.id.as_str()));
            let tools =
                tools.map(|tool| format!("`{}`{}", tool.id, if tool.paused { " (paused)" } else { "" }));
            let servers = catalog.servers().into_iter().map(|server| format!("`{}`", server.id));
            let taken: Vec<_> = servers.chain(tools).collect();
            let servers = catalog.not_executable_servers().map(|(id, found)| (id.to_string(), found));
            let tools = catalog.not_executable_tools().map(|(id, found)| (id.to_string(), found));
            let not: BTreeMap<_, _> = servers.chain(tools).collect();
            let not: Vec<_> =
                not.into_iter().map(|(id, found)| format!("`{id}`: {}", first(&found.reason))).collect();
            let field = |entry: &str| match entry.rsplit_once('.') {
                Some((_, field)) => format!("`{field}`"),
                None => entry.to_owned(),
            };
            let unused: Vec<_> = catalog
                .remarks()
                .iter()
                .map(|remark| format!("{} {}", field(&remark.entry), first(&remark.text)))
                .collect();
            (taken.join(", "), not.join("<br>"), unused.join("<br>"))
        }
    };
    format!("| {product} | `{name}` | {taken} | {not} | {unused} |")
}

#[test]
fn the_guide_says_of_every_file_what_is_taken_and_what_is_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations");
    let files: BTreeMap<String, String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(files.len() >= 15, "{files:?}");
    let rows: Vec<_> = files.iter().map(|(name, text)| row(name, text)).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !GUIDE.contains(row.as_str())).cloned().collect();
    assert!(missing.is_empty(), "the guide does not have these rows:\n{}", missing.join("\n"));
    let told = GUIDE
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(".json` |") || line.contains("ml` |"))
        .count();
    assert_eq!(told, rows.len(), "the guide has rows of files that are not there");
}

#[test]
fn no_row_tells_a_secret_of_its_file() {
    for secret in ["ghp_example", "tracker-token-1", "parts-client-secret"] {
        assert!(!GUIDE.contains(secret), "{secret}");
    }
}
