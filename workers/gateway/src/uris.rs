//! Addresses of resources in what servers answer: each becomes the published one, by which the client can read it here.
//!
//! What cannot be read here is not passed on as if it could: a link becomes a text that names it, and an embedded resource is marked in its
//! `_meta`. Where the catalog publishes no resources, clients know that nothing can be read, and answers stay as they are.
//!
//! **Invariant:** no address leads to another server than the one that named it, and what holds no address that changes is passed on byte for
//! byte.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use toolfleet_catalog::{Catalog, PublishedName, PublishedResources, Server};

use crate::caller::Caller;
use crate::may_read::may_list;
use crate::message::{Members, raw};

/// What is marked so in its `_meta` cannot be read by its address here.
const UNREADABLE: &str = "toolfleet/unreadable";

/// The published addresses of a server's resources; none where all addresses stay as they are.
pub(crate) struct PublishedUris<'a>(Option<Of<'a>>);

struct Of<'a> {
    resources: &'a PublishedResources,
    /// Whose addresses they are; none if the caller may not read there, or the server is not known any more.
    server: Option<Arc<Server>>,
}

impl<'a> PublishedUris<'a> {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn of_server(catalog: &'a Catalog, caller: &Caller, server: &Arc<Server>) -> Self {
        Self::of(catalog, Some(server).filter(|server| may_list(catalog, caller, server)))
    }

    /// Those of the server of a published tool.
    pub(crate) fn of_tool(catalog: &'a Catalog, caller: &Caller, tool: &str) -> Self {
        match catalog.published().find(tool) {
            Some(PublishedName::Tool(published)) => Self::of_server(catalog, caller, &published.tool.server),
            Some(PublishedName::OnServer { server, .. }) => Self::of_server(catalog, caller, &server),
            None => Self::of(catalog, None),
        }
    }

    fn of(catalog: &'a Catalog, server: Option<&Arc<Server>>) -> Self {
        let resources = catalog.published().resources();
        Self((!resources.is_empty()).then(|| Of { resources, server: server.cloned() }))
    }

    /// The address under which it is published; none where it stays as it is.
    fn changed(&self, uri: &RawValue) -> Option<Box<RawValue>> {
        let Of { resources, server } = self.0.as_ref()?;
        let uri: String = serde_json::from_str(uri.get()).ok()?;
        match resources.uri_of(server.as_deref()?, &uri)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(published) => Some(raw(&published)),
        }
    }

    /// Changes the addresses in a result: in the blocks of a tool's `content` and of a prompt's `messages`, and in `contents`.
    pub(crate) fn publish_in(&self, members: &mut Members) {
        if self.0.is_none() {
            return;
        }
        change(members, "content", &|list| each(list, &|block| self.block(block)));
        change(members, "messages", &|list| {
            each(list, &|message| {
                within(message, "content", &|content| match content.get().starts_with('[') {
                    true => each(content, &|block| self.block(block)),
                    false => self.block(content),
                })
            })
        });
        change(members, "contents", &|list| each(list, &|one| within(one, "uri", &|uri| self.changed(uri))));
    }

    /// Changes the address of the page that a tool's definition names for its results (MCP Apps). A page that cannot be read here is not
    /// named: clients would show that of another server, or none.
    pub(crate) fn publish_in_definition(&self, members: &mut Members) {
        let Some(Of { resources, server }) = &self.0 else { return };
        let meta = members.get("_meta").and_then(|meta| serde_json::from_str::<Members>(meta.get()).ok());
        let Some(mut meta) = meta else { return };
        let publish = |members: &mut Members, name: &str| {
            let named = members.get(name).and_then(|uri| serde_json::from_str::<String>(uri.get()).ok());
            let Some(uri) = named else { return false };
            match server.as_deref().and_then(|server| resources.uri_of(server, &uri)) {
                None => members.remove(name).is_some(),
                Some(Cow::Borrowed(_)) => false,
                Some(Cow::Owned(published)) => members.insert(name.to_owned(), raw(&published)).is_some(),
            }
        };
        let ui = meta.get("ui").and_then(|ui| serde_json::from_str::<Members>(ui.get()).ok());
        let nested = ui.map(|mut ui| (publish(&mut ui, "resourceUri"), ui));
        let mut is_changed = publish(&mut meta, "ui/resourceUri");
        if let Some((true, ui)) = nested {
            meta.insert("ui".to_owned(), raw(&ui));
            is_changed = true;
        }
        if is_changed {
            members.insert("_meta".to_owned(), raw(&meta));
        }
    }

    /// A block of content that links to a resource, or has one in it.
    fn block(&self, block: &RawValue) -> Option<Box<RawValue>> {
        let members: Members = serde_json::from_str(block.get()).ok()?;
        let kind: String = serde_json::from_str(members.get("type")?.get()).ok()?;
        match kind.as_str() {
            "resource_link" => self.link(members),
            "resource" => self.embedded(members),
            _ => None,
        }
    }

    /// A link: to its published address, or a text where that cannot be read.
    fn link(&self, mut members: Members) -> Option<Box<RawValue>> {
        let Of { resources, server } = self.0.as_ref()?;
        let uri: String = serde_json::from_str(members.get("uri")?.get()).ok()?;
        match resources.link_of(server.as_deref(), &uri) {
            Some(Cow::Borrowed(_)) => return None,
            Some(Cow::Owned(published)) => members.insert("uri".to_owned(), raw(&published)),
            None => return Some(as_text(&members, &uri)),
        };
        Some(raw(&members))
    }

    /// A resource that is in the block: its contents stay, also where its address cannot be read.
    fn embedded(&self, mut members: Members) -> Option<Box<RawValue>> {
        let Of { resources, server } = self.0.as_ref()?;
        let mut resource: Members = serde_json::from_str(members.get("resource")?.get()).ok()?;
        let uri: String = serde_json::from_str(resource.get("uri")?.get()).ok()?;
        let published = match resources.link_of(server.as_deref(), &uri) {
            Some(Cow::Borrowed(_)) => return None,
            Some(Cow::Owned(published)) => Some(published),
            None => None,
        };
        if published.is_none() {
            let meta = members.get("_meta").and_then(|meta| serde_json::from_str(meta.get()).ok());
            let mut meta: Members = meta.unwrap_or_default();
            meta.insert(UNREADABLE.to_owned(), raw(&true));
            members.insert("_meta".to_owned(), raw(&meta));
        }
        let address = published.unwrap_or_else(|| match resources.find(&uri) {
            Some(_) => PublishedResources::nowhere(&uri),
            None => uri.clone(),
        });
        resource.insert("uri".to_owned(), raw(&address));
        members.insert("resource".to_owned(), raw(&resource));
        Some(raw(&members))
    }
}

/// What a link says, where it leads to nothing that can be read here.
fn as_text(link: &Members, uri: &str) -> Box<RawValue> {
    let said = |name: &str| link.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let name = said("title").or_else(|| said("name")).filter(|name| !name.is_empty());
    let name = name.map_or_else(String::new, |name| format!("{name}: "));
    let about = said("description").map_or_else(String::new, |about| format!(". {about}"));
    let text = format!("A resource that cannot be read here: {name}{uri}{about}");
    let mut members: Members = [("type".to_owned(), raw(&"text")), ("text".to_owned(), raw(&text))].into();
    for kept in ["annotations", "_meta"] {
        if let Some(value) = link.get(kept) {
            members.insert(kept.to_owned(), value.clone());
        }
    }
    raw(&members)
}

/// What makes another value of one; none where it stays as it is.
type Change<'a> = &'a dyn Fn(&RawValue) -> Option<Box<RawValue>>;

fn change(members: &mut Members, name: &str, by: Change<'_>) {
    if let Some(changed) = members.get(name).and_then(|value| by(value)) {
        members.insert(name.to_owned(), changed);
    }
}

/// The object with that member changed.
fn within(object: &RawValue, name: &str, by: Change<'_>) -> Option<Box<RawValue>> {
    let mut members: Members = serde_json::from_str(object.get()).ok()?;
    let changed = by(members.get(name)?)?;
    members.insert(name.to_owned(), changed);
    Some(raw(&members))
}

/// The list with its entries changed.
fn each(list: &RawValue, by: Change<'_>) -> Option<Box<RawValue>> {
    let entries: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    let changed: Vec<Option<Box<RawValue>>> = entries.iter().map(|entry| by(entry)).collect();
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let written: Vec<&RawValue> =
        entries.iter().zip(&changed).map(|(entry, changed)| changed.as_deref().unwrap_or(entry)).collect();
    Some(raw(&written))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn catalog(resources: &Value) -> Catalog {
        let catalog = json!({
            "servers": [
                {"id": "files", "url": "https://files.example.com/mcp", "discover": true},
                {"id": "mail", "url": "https://mail.example.com/mcp", "discover": true},
            ],
            "tenants": {"queue": ["*"]},
            "publish": {"servers": {"files": true}, "resources": resources},
        });
        Catalog::parse(&catalog.to_string()).unwrap()
    }

    fn published(catalog: &Catalog, result: &str) -> String {
        let mut members: Members = serde_json::from_str(result).unwrap();
        PublishedUris::of_tool(catalog, &caller(), "files__read").publish_in(&mut members);
        serde_json::to_string(&members).unwrap()
    }

    fn caller() -> Caller {
        crate::tests::request("2026-07-28").caller
    }

    #[test]
    fn links_and_embedded_resources_stay_readable() {
        let catalog = catalog(&json!({"files": true, "mail": true}));
        let result = r#"{"content":[{"type":"text","text":"file:///x"},{"n":1.50,"type":"resource_link","uri":"file:///x"},
            {"type":"resource","resource":{"blob":"AA==","uri":"ui://app"}},{"type":"resource_link","uri":"https://example.com"},7]}"#;
        let changed = published(&catalog, result);
        for part in [
            r#""text":"file:///x""#,
            r#"{"n":1.50,"type":"resource_link","uri":"file://files~/~/x"}"#,
            r#"{"blob":"AA==","uri":"ui://files~/app"}"#,
            r#""uri":"https://example.com""#,
            ",7]",
        ] {
            assert!(changed.contains(part), "{part}: {changed}");
        }
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:b"}}},{"content":[{"type":"resource_link","uri":"a:c"}]}]}"#;
        let changed = published(&catalog, prompt);
        assert!(
            changed.contains(r#""uri":"a:files~/b""#) && changed.contains(r#""uri":"a:files~/c""#),
            "{changed}"
        );
        let read = published(&catalog, r#"{"contents":[{"text":"x","uri":"a:b"}]}"#);
        assert_eq!(read, r#"{"contents":[{"text":"x","uri":"a:files~/b"}]}"#);
    }

    #[test]
    fn addresses_that_stay_leave_the_result_as_it_is() {
        let result = r#"{"content":[ {"uri":"file:///x", "type":"resource_link"} ]}"#;
        assert_eq!(published(&catalog(&json!({"files": true})), result), result);
        assert_eq!(
            published(&catalog(&json!({})), result),
            result,
            "nothing can be read here, and clients know it"
        );
        assert_eq!(
            published(&catalog(&json!({"files": true, "mail": true})), r#"{"content":7}"#),
            r#"{"content":7}"#
        );
    }

    #[test]
    fn the_page_of_a_tool_is_named_by_its_published_address() {
        let catalog = catalog(&json!({"files": true, "mail": true}));
        let server = catalog.servers().into_iter().find(|one| one.id.as_str() == "mail").unwrap();
        let text =
            r#"{"_meta":{"ui":{"resourceUri":"ui://app","visibility":["app"]},"ui/resourceUri":"ui://app"}}"#;
        let mut members: Members = serde_json::from_str(text).unwrap();
        PublishedUris::of_server(&catalog, &caller(), server).publish_in_definition(&mut members);
        let meta: Value = serde_json::from_str(members["_meta"].get()).unwrap();
        assert_eq!(
            meta,
            json!({"ui": {"resourceUri": "ui://mail~/app", "visibility": ["app"]}, "ui/resourceUri": "ui://mail~/app"})
        );
    }

    #[test]
    fn what_cannot_be_read_here_is_named_and_leads_nowhere() {
        // The resources of `files` are not published; those of `mail` are, and keep their addresses.
        let catalog = catalog(&json!({"mail": true}));
        let links = r#"{"content":[{"type":"resource_link","uri":"file:///x","name":"x","description":"A file.","annotations":{"priority":1.0}},
            {"type":"resource_link","uri":"https://example.com"},{"type":"resource","resource":{"uri":"file:///x","blob":"AA==","n":1.50},"_meta":{"a":1}}]}"#;
        let changed: Value = serde_json::from_str(&published(&catalog, links)).unwrap();
        assert_eq!(
            changed["content"][0],
            json!({"type": "text", "text": "A resource that cannot be read here: x: file:///x. A file.", "annotations": {"priority": 1.0}})
        );
        assert_eq!(changed["content"][1], json!({"type": "resource_link", "uri": "https://example.com"}));
        let embedded = &changed["content"][2];
        assert_eq!(embedded["_meta"], json!({"a": 1, "toolfleet/unreadable": true}));
        assert_eq!(embedded["resource"], json!({"uri": "toolfleet:~/file:///x", "blob": "AA==", "n": 1.50}));
        assert!(catalog.published().resources().find("toolfleet:~/file:///x").is_none());
    }

    #[test]
    fn a_server_cannot_link_to_what_another_one_has() {
        let catalog = catalog(&json!({"files": "", "mail": true}));
        let links = r#"{"content":[{"type":"resource_link","uri":"ui://mail~/app"},{"type":"resource","resource":{"uri":"ui://mail~/app"}}]}"#;
        let changed: Value = serde_json::from_str(&published(&catalog, links)).unwrap();
        assert_eq!(changed["content"][0]["type"], "text");
        assert_eq!(changed["content"][1]["resource"]["uri"], "toolfleet:~/ui://mail~/app");
    }

    #[test]
    fn a_page_that_cannot_be_read_is_not_named() {
        let catalog = catalog(&json!({"mail": true}));
        let server = catalog.servers().into_iter().find(|one| one.id.as_str() == "files").unwrap();
        let text = r#"{"_meta":{"ui":{"resourceUri":"ui://app","visibility":["app"]},"ui/resourceUri":"ui://app","n":1.50}}"#;
        let mut members: Members = serde_json::from_str(text).unwrap();
        PublishedUris::of_server(&catalog, &caller(), server).publish_in_definition(&mut members);
        assert_eq!(members["_meta"].get(), r#"{"n":1.50,"ui":{"visibility":["app"]}}"#);
    }
}
