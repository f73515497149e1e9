//! The settings in docs/guides/console.md are those that are declared.

use std::path::Path;

use clap::{Args as _, Command};
use toolfleet_config::settings::reference;
use toolfleet_console::ConsoleArgs;

#[test]
fn the_page_has_the_settings_that_are_declared() {
    let declared = reference(&ConsoleArgs::augment_args(Command::new("console")));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/console.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let found = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-settings.md");
    std::fs::write(&found, declared.trim_start()).unwrap();
    assert!(text.ends_with(&declared), "put {} at the end of {}", found.display(), page.display());
}
