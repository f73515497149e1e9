//! What all pages have: the head, the ways to other pages, what could not be read, and the commands that show the same.

use toolfleet_core::time::Timestamp;

use crate::assets;
use crate::command::Command;
use crate::console::Visit;
use crate::link::Link;
use crate::numbers::When;
use crate::reading::Problems;
use crate::visitor::Scope;

/// How often a page loads itself again, where its address asks for it, in seconds.
const REFRESH_S: &str = "10";

/// The frame of a page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) style: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) nav: Vec<NavItem>,
    /// Who is logged in, and what they see.
    pub(crate) visitor: Option<(String, String)>,
    pub(crate) refresh: Option<&'static str>,
    /// The address that turns the refresh on or off.
    pub(crate) refresh_link: Option<String>,
    pub(crate) problems: Vec<String>,
    pub(crate) commands: Vec<String>,
    pub(crate) read_at: When,
}

/// A way to a page.
#[derive(Debug, Clone)]
pub(crate) struct NavItem {
    pub(crate) text: &'static str,
    pub(crate) href: String,
    pub(crate) is_current: bool,
}

/// The pages that the head leads to, and whether they are about the whole fleet.
const PAGES: [(&str, &str, bool); 6] = [
    ("Now", "/", false),
    ("Servers", "/servers", true),
    ("Tools", "/tools", true),
    ("History", "/history", false),
    ("Groups", "/group", false),
    ("Dead letters", "/dead-letters", false),
];

/// The page of the head that a page belongs to.
const fn section(path: &str) -> &str {
    match path.as_bytes() {
        b"/server" => "/servers",
        b"/tool" => "/tools",
        b"/call" => "/history",
        _ => path,
    }
}

impl Frame {
    /// The frame of a page without a visitor: the login, an error.
    pub(crate) fn bare(title: &str, now: Timestamp) -> Self {
        Self {
            title: title.to_owned(),
            style: assets::style(),
            icon: assets::icon(),
            nav: Vec::new(),
            visitor: None,
            refresh: None,
            refresh_link: None,
            problems: Vec::new(),
            commands: Vec::new(),
            read_at: When::clock(now, now),
        }
    }

    /// The frame of a page.
    pub(crate) fn of(visit: &Visit<'_>, title: &str, problems: Problems<'_>, commands: Vec<Command>) -> Self {
        // A look into the dead-letter queue hides messages: it is not repeated by itself.
        let looks = visit.query.is_set("look");
        let refresh = visit.query.get("refresh").filter(|seconds| *seconds == REFRESH_S && !looks);
        let refresh = refresh.map(|_| REFRESH_S);
        let rest = visit.query.without(&["refresh", "look", "token"]);
        let rest = if refresh.is_some() { rest } else { format!("refresh={REFRESH_S}&{rest}") };
        let rest = rest.trim_end_matches('&');
        let question = if rest.is_empty() { "" } else { "?" };
        Self {
            nav: Self::nav(visit.path, visit.scope()),
            visitor: Some((visit.visitor.name.clone(), visit.scope().to_string())),
            refresh,
            refresh_link: Some(format!("{}{question}{rest}", visit.path)),
            problems: problems.into_texts(),
            commands: commands.into_iter().map(Command::text).collect(),
            ..Self::bare(title, visit.now)
        }
    }

    /// The same frame for a page that is no fresh look at something, such as an error.
    pub(crate) fn of_failure(visit: &Visit<'_>, title: &str) -> Self {
        let problems = Problems::of(visit.scope());
        Self { refresh: None, refresh_link: None, ..Self::of(visit, title, problems, Vec::new()) }
    }

    fn nav(path: &str, scope: &Scope) -> Vec<NavItem> {
        let seen = |(_, _, whole): &(&str, &str, bool)| !whole || *scope == Scope::All;
        let item = |(text, href, _): (&'static str, &'static str, bool)| NavItem {
            text,
            href: Link::to(href).text(),
            is_current: section(path) == href,
        };
        PAGES.into_iter().filter(seen).map(item).collect()
    }
}
