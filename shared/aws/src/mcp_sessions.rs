//! Owns the rows below a session that say which MCP session it has with each server, so that every worker continues the same one.
//!
//! **Invariant:** of two workers that open one at the same time, one registers; a row is replaced only by whoever saw it end.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::audit::session_partition;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::calls::{insert, statement};
use crate::error::AwsError;
use crate::item::{number, text};
use crate::sessions::{KEPT_MS, Sessions};
use crate::statements::{Item, Statement, Written};

const PREFIX: &str = "mcp#";

/// The MCP session of a conversation with one server.
#[derive(Clone, PartialEq, Eq)]
pub struct McpSession {
    /// The server.
    pub server: ServerId,
    /// `Mcp-Session-Id`, as the server gave it.
    pub id: String,
    /// The protocol version the server chose.
    pub version: String,
    /// The digest of the address it was opened at: it is never sent to another.
    pub address: String,
    /// The cookies that lead to the replica that opened it, as a `Cookie` header carries them; may be empty.
    pub cookies: String,
    /// When it was opened.
    pub opened_at: Timestamp,
}

impl McpSession {
    /// The beginning of its id: enough to tell sessions apart, too little to speak in one.
    pub fn shortened(&self) -> String {
        let shown = (self.id.chars().count() / 2).min(8);
        format!("{}..", self.id.chars().take(shown).collect::<String>())
    }
}

impl fmt::Debug for McpSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "McpSession({} at {})", self.shortened(), self.server)
    }
}

impl Sessions {
    /// The MCP sessions of a conversation, by server.
    pub async fn mcp_sessions(
        &self,
        tenant: &Tenant,
        session: &SessionId,
    ) -> Result<Vec<McpSession>, AwsError> {
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(session_partition(tenant, session)))
            .expression_attribute_values(":prefix", AttributeValue::S(PREFIX.into()))
            .consistent_read(true);
        let mut found = Vec::new();
        let mut start = None;
        loop {
            let page = request.clone().set_exclusive_start_key(start).send().await;
            let page = page.map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
            found.extend(page.items.iter().flatten().filter_map(parse));
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(found);
            }
        }
    }

    /// The MCP session of a conversation with that server.
    pub async fn mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        server: &ServerId,
    ) -> Result<Option<McpSession>, AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(session_partition(tenant, session)))
            .key("sk", AttributeValue::S(sort(server)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        Ok(got.item.as_ref().and_then(parse))
    }

    /// Registers `opened` unless another one stands that is neither `lost` nor of another address; gives the one that stands then.
    pub async fn register_mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        opened: &McpSession,
        lost: Option<&str>,
    ) -> Result<McpSession, AwsError> {
        let partition = session_partition(tenant, session);
        // Whoever is faster is seen in the next round.
        for _ in 0..8 {
            let write = match self.mcp_session(tenant, session, &opened.server).await? {
                None => self.inserting(partition.clone(), opened),
                Some(stands) if stands == *opened => return Ok(stands),
                Some(stands) if Some(stands.id.as_str()) == lost || stands.address != opened.address => {
                    self.replacing(partition.clone(), &stands, opened)
                }
                Some(stands) => return Ok(stands),
            };
            if matches!(self.statements.write(write).await?, Written::Done) {
                return Ok(opened.clone());
            }
        }
        Err(AwsError::passing(format!(
            "an MCP session in {} changed under every attempt to register it",
            self.table
        )))
    }

    /// Forgets an MCP session, unless another one stands by now.
    pub async fn forget_mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        ended: &McpSession,
    ) -> Result<(), AwsError> {
        let partition = session_partition(tenant, session);
        let text_of = format!(r#"DELETE FROM "{}" WHERE "pk"=? AND "sk"=? AND "mcp_session"=?"#, self.table);
        let parameters = [text(&partition), text(sort(&ended.server)), text(&ended.id)];
        let key = format!("{partition}|{}", ended.server);
        let write = statement(&self.table, key, text_of, parameters.into_iter().flatten().collect());
        self.statements.write(write).await.map(|_| ())
    }

    fn inserting(&self, partition: String, opened: &McpSession) -> Statement {
        let mut item = facts(opened);
        item.extend([("pk", text(&partition)), ("sk", text(sort(&opened.server)))]);
        let item: Item =
            item.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))).collect();
        insert(&self.table, format!("{partition}|{}", opened.server), item)
    }

    fn replacing(&self, partition: String, stands: &McpSession, opened: &McpSession) -> Statement {
        let mut text_of = format!(r#"UPDATE "{}""#, self.table);
        let mut parameters = Vec::new();
        for (name, value) in facts(opened) {
            text_of.push_str(&format!(r#" SET "{name}"=?"#));
            parameters.push(value);
        }
        text_of.push_str(r#" WHERE "pk"=? AND "sk"=? AND "mcp_session"=?"#);
        parameters.extend([text(&partition), text(sort(&opened.server)), text(&stands.id)]);
        let key = format!("{partition}|{}", opened.server);
        statement(&self.table, key, text_of, parameters.into_iter().flatten().collect())
    }
}

fn sort(server: &ServerId) -> String {
    format!("{PREFIX}{server}")
}

fn facts(opened: &McpSession) -> Vec<(&'static str, Option<AttributeValue>)> {
    vec![
        ("mcp_session", text(&opened.id)),
        ("protocol", text(&opened.version)),
        ("address", text(&opened.address)),
        ("cookies", text(&opened.cookies)),
        ("opened_at_ms", number(opened.opened_at.as_ms())),
        ("expires_at", number(opened.opened_at.plus_ms(KEPT_MS).as_s())),
    ]
}

/// A row that cannot be read is as good as none: a new MCP session replaces it.
fn parse(item: &Item) -> Option<McpSession> {
    let get = |name: &str| item.get(name).and_then(|v| v.as_s().ok()).cloned();
    let opened_at_ms = item.get("opened_at_ms")?.as_n().ok()?.parse().ok()?;
    Some(McpSession {
        server: ServerId::parse(get("sk")?.strip_prefix(PREFIX)?).ok()?,
        id: get("mcp_session")?,
        version: get("protocol")?,
        address: get("address")?,
        cookies: get("cookies").unwrap_or_default(),
        opened_at: Timestamp::from_ms(opened_at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_half_of_an_id_is_ever_shown() {
        let session = |id: &str| McpSession {
            server: ServerId::parse("s").unwrap(),
            id: id.to_owned(),
            version: "2025-11-25".into(),
            address: "a".into(),
            cookies: String::new(),
            opened_at: Timestamp::from_ms(0),
        };
        assert_eq!(session("0123456789abcdef0123456789abcdef").shortened(), "01234567..");
        assert_eq!(session("session-1").shortened(), "sess..");
        assert!(!format!("{:?}", session("secret")).contains("secret"));
    }
}
