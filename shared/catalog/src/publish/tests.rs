//! What is published, and under which names.

use proptest::prelude::*;
use serde_json::json;
use toolfleet_core::ids::ServerId;
use url::Url;

use super::{PublishedName, PublishedResources};
use crate::Catalog;

fn catalog(publish: &serde_json::Value) -> Result<Catalog, String> {
    let catalog = json!({
        "servers": [
            {"id": "crm", "url": "https://crm.example.com/mcp"},
            {"id": "files", "url": "https://files.example.com/mcp", "discover": true},
            {"id": "mail", "url": "https://mail.example.com/mcp", "discover": true},
        ],
        "tools": [
            {"id": "orders/list", "server": "crm", "name": "orders"},
            {"id": "weather", "server": "crm"},
            {"id": "geo", "server": "crm", "functions": [{"name": "find"}, {"name": "name"}]},
        ],
        "tenants": {"queue": ["*"]},
        "publish": publish,
    });
    Catalog::parse(&catalog.to_string()).map_err(|error| error.to_string())
}

fn names(publish: &serde_json::Value) -> Vec<String> {
    let catalog = catalog(publish).unwrap();
    catalog.published().tools().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn nothing_is_published_unless_the_catalog_says_so() {
    assert!(catalog(&json!(null)).unwrap().published().is_empty());
    assert!(catalog(&json!({})).unwrap().published().is_empty());
    assert!(names(&json!({"tools": {"weather": false}})).is_empty());
}

#[test]
fn a_tool_has_its_id_or_the_name_it_is_given() {
    let published = json!({"tools": {"weather": true, "orders/list": "list_orders", "geo": "geo"}});
    assert_eq!(names(&published), ["geo__find", "geo__name", "list_orders", "weather"]);
}

#[test]
fn a_name_of_a_server_leads_to_what_it_lists() {
    let catalog = catalog(&json!({"servers": {"files": "fs"}})).unwrap();
    match catalog.published().find("fs__read_file") {
        Some(PublishedName::OnServer { server, name }) => {
            assert_eq!((server.id.as_str(), name.as_str()), ("files", "read_file"));
        }
        other => panic!("{other:?}"),
    }
    for name in ["fs", "fs__", "files__read_file", "read_file"] {
        assert!(catalog.published().find(name).is_none(), "{name}");
    }
}

#[test]
fn a_name_of_an_interface_is_found_without_writing_its_list() {
    let long = "x".repeat(60);
    let document = json!({"openapi": "3.0.3", "servers": [{"url": "https://h.example"}],
        "paths": {"/a": {"get": {"operationId": "short"}}, "/b": {"get": {"operationId": long}}}});
    let catalog = json!({"servers": [{"id": "interface", "openapi": document, "discover": true}],
        "tenants": {"queue": ["*"]}, "publish": {"servers": {"interface": true}}});
    let catalog = Catalog::parse(&catalog.to_string()).unwrap();
    let published = catalog.published();
    let server = published.servers().next().unwrap().1;
    let cut = published.name_of("interface", server, &long).unwrap();
    for (name, own) in [("interface__short", "short"), (cut.as_str(), long.as_str())] {
        match published.find(name) {
            Some(PublishedName::OnServer { name, .. }) => assert_eq!(name, own),
            other => panic!("{other:?}"),
        }
    }
    assert!(!server.openapi().unwrap().interface.has_listed());
}

#[test]
fn a_long_name_is_cut_and_leads_back() {
    let catalog = catalog(&json!({"servers": {"files": "fs", "mail": "m"}})).unwrap();
    let published = catalog.published();
    let server = |prefix: &str| published.servers().find(|(one, _)| *one == prefix).unwrap().1;
    let fits = "x".repeat(60);
    assert_eq!(published.name_of("fs", server("fs"), &fits).unwrap(), format!("fs__{fits}"));
    let (one, other) = (format!("{}1", "x".repeat(60)), format!("{}2", "x".repeat(60)));
    let name = |prefix: &str, listed: &str| published.name_of(prefix, server(prefix), listed).unwrap();
    let cut = name("fs", &one);
    assert_eq!((cut.len(), cut.starts_with("fs__xxx")), (64, true));
    assert_ne!(cut, name("fs", &other));
    let listed = [fits.as_str(), one.as_str(), other.as_str()];
    assert_eq!(published.uncut(&cut, listed.into_iter()), Some(one.as_str()));
    assert_eq!(published.uncut(&format!("fs__{fits}"), listed.into_iter()), None);
    assert!(
        matches!(published.find(&cut), Some(PublishedName::OnServer { server, .. }) if server.id.as_str() == "files")
    );
    assert_eq!(
        published.name_of("fs", server("fs"), &format!("{} {}", "x".repeat(50), "y".repeat(50))),
        None
    );
    let long = "p".repeat(60);
    assert_eq!(published.name_of(&long, server("m"), "abcd"), None, "nothing would be left of the name");
}

#[test]
fn a_cut_operation_of_an_interface_is_found() {
    let id = "i".repeat(64);
    let get = json!({"get": {"operationId": id, "responses": {}}});
    let document = json!({"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://h.example"}], "paths": {"/x": get}});
    let catalog = json!({
        "servers": [{"id": "api", "openapi": document, "discover": true}], "tenants": {"queue": ["*"]}, "publish": "*",
    });
    let catalog = Catalog::parse(&catalog.to_string()).unwrap();
    let server = catalog.published().servers().next().unwrap().1;
    let name = catalog.published().name_of("api", server, &id).unwrap();
    match catalog.published().find(&name) {
        Some(PublishedName::OnServer { name, .. }) => assert_eq!(name, id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_is_published_by_a_star() {
    assert_eq!(names(&json!("*")), ["geo__find", "geo__name", "weather"]);
}

#[test]
fn an_error_names_the_place_and_the_remedy() {
    let refused = |publish: serde_json::Value, parts: &[&str]| {
        let error = catalog(&publish).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(json!({"tools": {"nothing": true}}), &["publish.tools.nothing", "no tool"]);
    refused(json!({"tools": {"orders/list": true}}), &["publish.tools.orders/list", "A-Z a-z 0-9 _ . -"]);
    refused(json!({"tools": {"weather": "get_result"}}), &["the gateway itself"]);
    refused(json!({"tools": {"weather": "x", "orders/list": "x"}}), &["`x`", "already"]);
    refused(json!({"servers": {"crm": true}}), &["publish.servers.crm", "discover"]);
    refused(json!({"servers": {"files": true}, "tools": {"weather": "files__x"}}), &["prefix `files`"]);
    refused(json!({"servers": {"files": "a", "mail": "a__b"}}), &["`a__b__`", "prefix `a`"]);
    refused(json!({"servers": {"files": "a", "mail": "a_"}}), &["`a___`", "prefix `a`"]);
    refused(json!({"servers": {"files": "geo"}, "tools": {"geo": true}}), &["`geo__find`", "prefix `geo`"]);
    refused(json!({"tool": {}}), &["publish.tool", "accepted are `tools`"]);
    refused(json!({"subscriptions": ["files"]}), &["publish.subscriptions[0]", "publish.resources"]);
    refused(json!({"subscriptions": {"files": true}}), &["publish.subscriptions", "a list of ids"]);
    refused(json!({"prompts": {"crm": true}}), &["publish.prompts.crm", "discover"]);
    refused(json!({"resources": {"nothing": true}}), &["publish.resources.nothing", "no server"]);
    refused(json!({"resources": {"files": "x", "mail": "X"}}), &["`X`", "already"]);
    refused(json!({"prompts": {"files": "", "mail": ""}}), &["publish.prompts.mail", "already"]);
    refused(json!({"prompts": {"files": "a", "mail": "a__b"}}), &["publish.prompts", "`a__b`"]);
    refused(json!({"resources": {"files": "a~"}}), &["publish.resources.files", "A-Z a-z 0-9 _ . -"]);
    refused(json!(["weather"]), &["publish: is an array"]);
    refused(json!({"tools": {"weather": 1}}), &["accepted are true, false and a name"]);
}

/// The address that the gateway gives to what a server names so.
fn uri(catalog: &Catalog, server: &str, uri: &str) -> Option<String> {
    let server = catalog.server(&ServerId::parse(server).unwrap()).unwrap();
    catalog.published().resources().uri_of(server, uri).map(std::borrow::Cow::into_owned)
}

fn found(catalog: &Catalog, uri: &str) -> Option<(String, String)> {
    let (server, uri) = catalog.published().resources().find(uri)?;
    Some((server.id.to_string(), uri.into_owned()))
}

const URIS: [&str; 22] = [
    "https://example.com/x",
    "http:x",
    "file://host/x",
    "file://",
    "a://~/x",
    "a://:80/x",
    "a://../x",
    "toolfleet:files~/x",
    "file:///etc/hosts",
    "file:/etc/hosts",
    "file:///{+path}",
    "ui://app/view.html",
    "note:1",
    "note:~/1",
    "urn:isbn:1",
    "a://b~/c",
    "x",
    "{+uri}",
    "{scheme}://{host}",
    "data:text/plain,a~/b",
    "a:b~/c://d",
    "1x:y",
];

#[test]
fn addresses_of_the_only_server_stay_as_they_are() {
    let catalog = catalog(&json!({"resources": {"files": true}})).unwrap();
    for one in URIS.into_iter().chain(["https://example.com/x"]) {
        assert_eq!(uri(&catalog, "files", one).as_deref(), Some(one));
        assert_eq!(found(&catalog, one), Some(("files".to_owned(), one.to_owned())));
    }
    assert_eq!(uri(&catalog, "mail", "note:1"), None);
}

#[test]
fn an_address_leads_back_to_its_server() {
    let catalog = catalog(&json!({"resources": {"files": true, "mail": "Post.box"}})).unwrap();
    for one in URIS {
        for server in ["files", "mail"] {
            let published = uri(&catalog, server, one).unwrap();
            assert_eq!(found(&catalog, &published), Some((server.to_owned(), one.to_owned())), "{published}");
        }
    }
    let published = |one| uri(&catalog, "mail", one).unwrap();
    assert_eq!(published("ui://app/view.html"), "ui://Post.box~/app/view.html");
    assert_eq!(published("file:///x"), "file://Post.box~/~/x");
    assert_eq!(published("file:/x"), "file://Post.box~/:/x");
    assert_eq!(published("{+uri}"), "toolfleet:Post.box~/{+uri}");
    assert_eq!(published("note:1"), "note:Post.box~/1");
    // What normalises an address may have written its host in lower case.
    assert_eq!(found(&catalog, "file://post.box~//x"), Some(("mail".to_owned(), "file:///x".to_owned())));
    assert_eq!(found(&catalog, "file://post.box~/~/x"), Some(("mail".to_owned(), "file:///x".to_owned())));
    // What a client makes of the template.
    let expanded = found(&catalog, "toolfleet:Post.box~/file:///x");
    assert_eq!(expanded, Some(("mail".to_owned(), "file:///x".to_owned())));
    for nobody in ["https://example.com/x", "note:1", "ui://other~/app", "ui://~/x", ""] {
        assert_eq!(found(&catalog, nobody), None, "{nobody}");
    }
}

#[test]
fn a_link_that_clients_fetch_stays_and_leads_to_no_other_server() {
    let link = |catalog: &Catalog, server: &str, uri: &str| {
        let server = catalog.server(&ServerId::parse(server).unwrap()).map(AsRef::as_ref);
        catalog.published().resources().link_of(server, uri).map(std::borrow::Cow::into_owned)
    };
    let both = catalog(&json!({"resources": {"files": true, "mail": true}})).unwrap();
    assert_eq!(link(&both, "files", "https://example.com/x").as_deref(), Some("https://example.com/x"));
    assert_eq!(link(&both, "files", "note:1").as_deref(), Some("note:files~/1"));
    assert_eq!(link(&both, "files", "https://mail~/example.com/x"), None);
    let plain = catalog(&json!({"resources": {"files": "", "mail": true}})).unwrap();
    for (catalog, server) in [(&both, "crm"), (&plain, "files"), (&plain, "mail"), (&plain, "nobody")] {
        let fetched = "https://example.com/x";
        assert_eq!(link(catalog, server, fetched).as_deref(), Some(fetched), "{server}");
    }
    for nobodys in ["note:1", "https://mail~/example.com/x", "ui://mail~/app"] {
        assert_eq!(link(&both, "crm", nobodys), None, "its resources are not published");
        assert_eq!(link(&plain, "nobody", nobodys), None);
    }
    assert_eq!(link(&plain, "files", "ui://mail~/app"), None, "it leads to `mail`");
}

#[test]
fn an_address_can_lead_nowhere() {
    for resources in
        [json!({"files": true}), json!({"files": "", "mail": true}), json!({"files": true, "mail": true})]
    {
        let catalog = catalog(&json!({"resources": resources})).unwrap();
        for one in URIS {
            let nowhere = PublishedResources::nowhere(one);
            assert_eq!(found(&catalog, &nowhere), None, "{nowhere}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_published_address_leads_back_and_url_parsers_leave_it(
        address in prop_oneof![
            "(file|FILE|https|ws|ui|note|toolfleet):(//|/)?[a-c~:./?#%2e{}@\\[\\]_-]{0,10}",
            "(file|https|ui)://[a-c~:.]{0,3}(/[a-c~:.]{0,3}){0,4}",
            ".{0,12}",
        ],
    ) {
        let catalog = catalog(&json!({"resources": {"files": true, "mail": true}})).unwrap();
        let published = uri(&catalog, "mail", &address).unwrap();
        prop_assert_eq!(found(&catalog, &published), Some(("mail".to_owned(), address.clone())), "{}", published);
        // Of addresses that are URIs, and that parsers leave as they are at the server.
        let is_uri = address.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c));
        let parsed = |text: &str| Url::parse(text).is_ok_and(|url| url.as_str() == text);
        if is_uri && parsed(&address) {
            prop_assert!(parsed(&published), "{} is {:?}", published, Url::parse(&published));
        }
    }
}

#[test]
fn a_server_without_a_prefix_takes_no_address_of_another() {
    let catalog = catalog(&json!({"resources": {"files": "", "mail": true}})).unwrap();
    assert_eq!(uri(&catalog, "files", "ui://mail~/app"), None);
    assert_eq!(uri(&catalog, "files", "ui://app").as_deref(), Some("ui://app"));
    assert_eq!(found(&catalog, "ui://mail~/app"), Some(("mail".to_owned(), "ui://app".to_owned())));
    assert_eq!(found(&catalog, "ui://app"), Some(("files".to_owned(), "ui://app".to_owned())));
}

#[test]
fn a_prompt_has_one_name_and_leads_back() {
    let catalog = catalog(&json!({"prompts": {"files": "", "mail": true}})).unwrap();
    let prompts = catalog.published().prompts();
    let name = |server: &str, listed: &str| {
        prompts.name_of(catalog.server(&ServerId::parse(server).unwrap()).unwrap(), listed)
    };
    assert_eq!(name("mail", "write a letter").as_deref(), Some("mail__write a letter"));
    assert_eq!(name("files", "sort").as_deref(), Some("sort"));
    assert_eq!((name("files", "mail__x"), name("files", ""), name("crm", "x")), (None, None, None));
    assert_eq!(name("mail", &"x".repeat(257)), None);
    let found = |name: &str| prompts.find(name).map(|(server, own)| (server.id.to_string(), own.to_owned()));
    assert_eq!(found("mail__write a letter"), Some(("mail".to_owned(), "write a letter".to_owned())));
    assert_eq!(found("sort"), Some(("files".to_owned(), "sort".to_owned())));
    assert_eq!(found("mail__"), None);
}

#[test]
fn a_star_publishes_prompts_and_resources_of_open_servers() {
    let all = catalog(&json!("*")).unwrap();
    let servers = |all: Vec<String>| assert_eq!(all, ["files", "mail"]);
    servers(all.published().prompts().servers().map(|one| one.id.to_string()).collect());
    servers(all.published().resources().servers().map(|one| one.id.to_string()).collect());
    let tools = catalog(&json!({"servers": {"files": true}})).unwrap();
    assert!(tools.published().prompts().is_empty() && tools.published().resources().is_empty());
}
