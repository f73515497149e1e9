//! Addresses of resources in what servers answer: each becomes the published one, by which the client can read it here.
//!
//! **Invariant:** what holds no address that changes is passed on byte for byte.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use toolfleet_catalog::{Catalog, PublishedName, PublishedResources, Server};

use crate::message::{Members, raw};

/// The published addresses of a server's resources.
pub(crate) struct PublishedUris<'a>(Option<(&'a Catalog, Arc<Server>)>);

impl<'a> PublishedUris<'a> {
    /// All addresses stay as they are.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn of_server(catalog: &'a Catalog, server: &Arc<Server>) -> Self {
        Self(Some((catalog, Arc::clone(server))))
    }

    /// Those of the server of a published tool.
    pub(crate) fn of_tool(catalog: &'a Catalog, tool: &str) -> Self {
        match catalog.published().find(tool) {
            Some(PublishedName::Tool(published)) => Self::of_server(catalog, &published.tool.server),
            Some(PublishedName::OnServer { server, .. }) => Self::of_server(catalog, &server),
            None => Self::NONE,
        }
    }

    /// The address under which it is published; none where it stays as it is.
    fn changed(&self, uri: &RawValue) -> Option<Box<RawValue>> {
        self.changed_by(uri, PublishedResources::uri_of)
    }

    /// The same of a link.
    fn changed_link(&self, uri: &RawValue) -> Option<Box<RawValue>> {
        self.changed_by(uri, PublishedResources::link_of)
    }

    fn changed_by(
        &self,
        uri: &RawValue,
        publish: impl for<'u> Fn(&PublishedResources, &Server, &'u str) -> Option<Cow<'u, str>>,
    ) -> Option<Box<RawValue>> {
        let (catalog, server) = self.0.as_ref()?;
        let uri: String = serde_json::from_str(uri.get()).ok()?;
        match publish(catalog.published().resources(), server, &uri)? {
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

    /// Changes the address of the page that a tool's definition names for its results (MCP Apps).
    pub(crate) fn publish_in_definition(&self, members: &mut Members) {
        if self.0.is_none() {
            return;
        }
        change(members, "_meta", &|meta| {
            let nested = within(meta, "ui", &|ui| within(ui, "resourceUri", &|uri| self.changed(uri)));
            let meta = nested.as_deref().unwrap_or(meta);
            let flat = within(meta, "ui/resourceUri", &|uri| self.changed(uri));
            flat.or(nested)
        });
    }

    /// A block of content that links to a resource, or has one in it.
    fn block(&self, block: &RawValue) -> Option<Box<RawValue>> {
        let members: Members = serde_json::from_str(block.get()).ok()?;
        let kind: String = serde_json::from_str(members.get("type")?.get()).ok()?;
        match kind.as_str() {
            "resource_link" => within(block, "uri", &|uri| self.changed_link(uri)),
            "resource" => within(block, "resource", &|one| within(one, "uri", &|uri| self.changed_link(uri))),
            _ => None,
        }
    }
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
        PublishedUris::of_tool(catalog, "files__read").publish_in(&mut members);
        serde_json::to_string(&members).unwrap()
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
        assert_eq!(published(&catalog(&json!({"mail": true})), result), result);
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
        PublishedUris::of_server(&catalog, server).publish_in_definition(&mut members);
        let meta: Value = serde_json::from_str(members["_meta"].get()).unwrap();
        assert_eq!(
            meta,
            json!({"ui": {"resourceUri": "ui://mail~/app", "visibility": ["app"]}, "ui/resourceUri": "ui://mail~/app"})
        );
    }
}
