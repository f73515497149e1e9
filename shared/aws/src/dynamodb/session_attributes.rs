//! The rows of a session that hold what a server's functions returned for the session's next call (`sessionAttributes`).
//!
//! The last call that returns attributes replaces them: calls of one session that run at the same time have no order.

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
    /// What a session's functions on that server returned last, as a JSON text.
    pub async fn attributes(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        server: &ServerId,
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

    /// Replaces what a session's functions on that server returned last.
    pub async fn set_attributes(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        server: &ServerId,
        attributes: &str,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        let (partition, sort) = (keys::session(tenant, session), keys::session_attributes(server));
        let key = format!("{partition}|{sort}");
        let expires = number(now.plus_ms(RETENTION_MS).as_s());
        let update = || {
            let statement = format!(
                r#"UPDATE "{}" SET "{ATTRIBUTES}"=? SET "{EXPIRES_AT}"=? WHERE "{PK}"=? AND "{SK}"=?"#,
                self.table
            );
            let parameters = [text(attributes), expires.clone(), text(&partition), text(&sort)];
            Statement::new(&self.table, &key, statement, parameters.into_iter().flatten().collect())
        };
        let insert = item([
            (PK, text(&partition)),
            (SK, text(&sort)),
            (ATTRIBUTES, text(attributes)),
            (EXPIRES_AT, expires.clone()),
        ]);
        let insert = Statement::insert(&self.table, &key, insert);
        let statements = [update(), insert, update()];
        for statement in statements {
            if matches!(self.writer.write(statement).await?, Written::Done) {
                return Ok(());
            }
        }
        Err(AwsError::passing(format!("Update on {}: the row comes and goes", self.table)))
    }
}
