//! The rows of a session that name its MCP session with each server, so that every worker continues the same one.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::server_session::{Register, ServerSession, ServerSessionTable};
use toolfleet_core::time::Timestamp;

use super::attributes::{Item, item, number, text};
use super::sessions::Sessions;
use super::statement::{Statement, Written};
use crate::compare_and_swap::{Applied, Store, Swap, apply};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, MCP_SESSION_PREFIX, PK, SK};

impl Sessions {
    /// The MCP sessions of a session, by server.
    pub async fn mcp_sessions(
        &self,
        tenant: &Tenant,
        session: &SessionId,
    ) -> Result<Vec<ServerSession>, AwsError> {
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(format!("{PK} = :pk AND begins_with({SK}, :prefix)"))
            .expression_attribute_values(":pk", AttributeValue::S(keys::session(tenant, session)))
            .expression_attribute_values(":prefix", AttributeValue::S(MCP_SESSION_PREFIX.into()))
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

    /// The MCP session of a session with that server.
    pub async fn mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        server: &ServerId,
    ) -> Result<Option<ServerSession>, AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(keys::session(tenant, session)))
            .key(SK, AttributeValue::S(keys::mcp_session(server)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        Ok(got.item.as_ref().and_then(parse))
    }

    /// Registers `opened`, unless another one is registered that is neither `lost` nor of another address; the one that is
    /// registered then.
    pub async fn register_mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        opened: &ServerSession,
        lost: Option<&str>,
    ) -> Result<ServerSession, AwsError> {
        let event = Register { opened: opened.clone(), lost: lost.map(str::to_owned) };
        let seen = self.mcp_session(tenant, session, &opened.server).await?;
        let store = McpSessionStore { sessions: self, tenant, session };
        Ok(match apply(&store, seen.as_ref(), &event).await? {
            Applied::Stored { row, then: () } => *row,
            Applied::Rejected { row, .. } => row.map_or(event.opened, |row| *row),
        })
    }

    /// Removes an MCP session, unless another one is registered by now.
    pub async fn forget_mcp_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        ended: &ServerSession,
    ) -> Result<(), AwsError> {
        let partition = keys::session(tenant, session);
        let delete =
            format!(r#"DELETE FROM "{}" WHERE "{PK}"=? AND "{SK}"=? AND "mcp_session"=?"#, self.table);
        let parameters = [text(&partition), text(keys::mcp_session(&ended.server)), text(&ended.id)];
        let parameters = parameters.into_iter().flatten().collect();
        let key = format!("{partition}|{}", ended.server);
        self.writer.write(Statement::new(&self.table, &key, delete, parameters)).await.map(|_| ())
    }
}

/// The rows of one session's MCP sessions.
struct McpSessionStore<'a> {
    sessions: &'a Sessions,
    tenant: &'a Tenant,
    session: &'a SessionId,
}

impl Store for McpSessionStore<'_> {
    type Table = ServerSessionTable;

    /// The condition is on the id of the MCP session that was seen.
    async fn swap(
        &self,
        seen: Option<&ServerSession>,
        new: &ServerSession,
    ) -> Result<Swap<ServerSession>, AwsError> {
        let Self { sessions, tenant, session } = *self;
        let partition = keys::session(tenant, session);
        let write = match seen {
            None => inserting(&sessions.table, &partition, new),
            Some(seen) => replacing(&sessions.table, &partition, seen, new),
        };
        Ok(match sessions.writer.write(write).await? {
            Written::Done => Swap::Stored,
            Written::Exists => {
                Swap::Found(sessions.mcp_session(tenant, session, &new.server).await?.map(Box::new))
            }
            Written::ConditionFailed(found) => Swap::Found(found.as_ref().and_then(parse).map(Box::new)),
        })
    }
}

fn inserting(table: &str, partition: &str, opened: &ServerSession) -> Statement {
    let mut all = item([(PK, text(partition)), (SK, text(keys::mcp_session(&opened.server)))]);
    all.extend(item(attributes(opened)));
    Statement::insert(table, &format!("{partition}|{}", opened.server), all)
}

fn replacing(table: &str, partition: &str, seen: &ServerSession, opened: &ServerSession) -> Statement {
    let mut update = format!(r#"UPDATE "{table}""#);
    let mut parameters = Vec::new();
    for (name, value) in attributes(opened) {
        update.push_str(&format!(r#" SET "{name}"=?"#));
        parameters.push(value);
    }
    update.push_str(&format!(r#" WHERE "{PK}"=? AND "{SK}"=? AND "mcp_session"=?"#));
    parameters.extend([text(partition), text(keys::mcp_session(&opened.server)), text(&seen.id)]);
    let key = format!("{partition}|{}", opened.server);
    Statement::new(table, &key, update, parameters.into_iter().flatten().collect())
}

fn attributes(opened: &ServerSession) -> [(&'static str, Option<AttributeValue>); 6] {
    [
        ("mcp_session", text(&opened.id)),
        ("protocol", text(&opened.version)),
        ("address", text(&opened.address)),
        ("cookies", text(&opened.cookies)),
        ("opened_at_ms", number(opened.opened_at.as_ms())),
        (EXPIRES_AT, number(opened.opened_at.plus_ms(RETENTION_MS).as_s())),
    ]
}

/// The MCP session of an item. A row that cannot be read counts as none.
fn parse(item: &Item) -> Option<ServerSession> {
    let get = |name: &str| item.get(name).and_then(|v| v.as_s().ok()).cloned();
    let opened_at_ms = item.get("opened_at_ms")?.as_n().ok()?.parse().ok()?;
    Some(ServerSession {
        server: keys::server_of(&get(SK)?)?,
        id: get("mcp_session")?,
        version: get("protocol")?,
        address: get("address")?,
        cookies: get("cookies").unwrap_or_default(),
        opened_at: Timestamp::from_ms(opened_at_ms),
    })
}
