//! The rows of a session that hold what functions returned for the session's next call (`sessionAttributes`): those of one server, or those
//! that all servers of the session share.
//!
//! A row is replaced only as it was read: calls of one session that run at the same time lose nothing of each other.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use super::attributes::{item, number, text};
use super::sessions::Sessions;
use super::statement::{Statement, Written};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, PK, SK};

const ATTRIBUTES: &str = "attributes";

impl Sessions {
    /// What a session's functions returned last, as a JSON text: those on that server, or all that share their attributes.
    pub async fn attributes(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        server: Option<&ServerId>,
    ) -> Result<Option<String>, AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(keys::session(tenant, session)))
            .key(SK, AttributeValue::S(keys::session_attributes(server)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        Ok(got.item.and_then(|mut item| match item.remove(ATTRIBUTES) {
            Some(AttributeValue::S(text)) => Some(text),
            Some(_) | None => None,
        }))
    }

    /// Replaces what was read before (`known`, nothing where there was none), and says whether it was still so.
    pub async fn replace_attributes(
        &self,
        (tenant, session, server): (&Tenant, &SessionId, Option<&ServerId>),
        known: Option<&str>,
        attributes: &str,
        now: Timestamp,
    ) -> Result<bool, AwsError> {
        let (partition, sort) = (keys::session(tenant, session), keys::session_attributes(server));
        let key = format!("{partition}|{sort}");
        let expires = number(now.plus_ms(RETENTION_MS).as_s());
        let statement = match known {
            Some(known) => {
                let statement = format!(
                    r#"UPDATE "{}" SET "{ATTRIBUTES}"=? SET "{EXPIRES_AT}"=? WHERE "{PK}"=? AND "{SK}"=? AND "{ATTRIBUTES}"=?"#,
                    self.table
                );
                let parameters = [text(attributes), expires, text(&partition), text(&sort), text(known)];
                Statement::new(&self.table, &key, statement, parameters.into_iter().flatten().collect())
            }
            None => {
                let row = item([
                    (PK, text(&partition)),
                    (SK, text(&sort)),
                    (ATTRIBUTES, text(attributes)),
                    (EXPIRES_AT, expires),
                ]);
                Statement::insert(&self.table, &key, row)
            }
        };
        Ok(matches!(self.writer.write(statement).await?, Written::Done))
    }
}
