//! Queries of the history table and its indexes: one partition, optionally between two instants and of one call or tool.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::keys::{self, BY_FAILURE, BY_SESSION, FAILURE_PK, PK, SESSION_PK, SK};

/// The items of one partition of the table or of an index.
pub(crate) struct Partition {
    index: Option<&'static str>,
    attribute: &'static str,
    value: String,
    /// The first and the last sort key.
    sorts: Option<(String, String)>,
    /// The attribute of the records that are wanted, and its value. The table leaves the others out, after it has read them.
    only: Option<(&'static str, String)>,
}

impl Partition {
    /// The records of a tenant in the hour of `at`.
    pub(crate) fn of_hour(tenant: &Tenant, at: Timestamp, shard: u32) -> Self {
        Self::new(None, PK, keys::history(tenant, at, shard))
    }

    /// The failures of a tenant on the day of `at`.
    pub(crate) fn of_failures(tenant: &Tenant, at: Timestamp, shard: u32) -> Self {
        Self::new(Some(BY_FAILURE), FAILURE_PK, keys::failures(tenant, at, shard))
    }

    /// The records of a session.
    pub(crate) fn of_session(tenant: &Tenant, session: &SessionId) -> Self {
        Self::new(Some(BY_SESSION), SESSION_PK, keys::session(tenant, session))
    }

    const fn new(index: Option<&'static str>, attribute: &'static str, value: String) -> Self {
        Self { index, attribute, value, sorts: None, only: None }
    }

    /// Those between two instants, both included.
    pub(crate) fn between(self, from: Timestamp, to: Timestamp) -> Self {
        let (first, last) = keys::record_sorts(from, to);
        self.between_sorts(first, last)
    }

    /// Those between two sort keys, both included.
    pub(crate) fn between_sorts(self, first: String, last: String) -> Self {
        Self { sorts: Some((first, last)), ..self }
    }

    /// Those of one call.
    pub(crate) fn of_call(self, call: &CallId) -> Self {
        Self { only: Some(("call_id", call.to_string())), ..self }
    }

    /// Those of one tool, as records name it.
    pub(crate) fn of_tool(self, tool: &str) -> Self {
        Self { only: Some(("tool", tool.to_owned())), ..self }
    }

    /// Adds the conditions to a query.
    pub(crate) fn query(&self, query: QueryFluentBuilder) -> QueryFluentBuilder {
        let condition = match &self.sorts {
            Some(_) => format!("#k = :v AND {SK} BETWEEN :from AND :to"),
            None => "#k = :v".to_owned(),
        };
        let mut query = query
            .set_index_name(self.index.map(str::to_owned))
            .key_condition_expression(condition)
            .expression_attribute_names("#k", self.attribute)
            .expression_attribute_values(":v", AttributeValue::S(self.value.clone()));
        if let Some((first, last)) = &self.sorts {
            query = query
                .expression_attribute_values(":from", AttributeValue::S(first.clone()))
                .expression_attribute_values(":to", AttributeValue::S(last.clone()));
        }
        if let Some((name, value)) = &self.only {
            query = query
                .filter_expression("#only = :only")
                .expression_attribute_names("#only", *name)
                .expression_attribute_values(":only", AttributeValue::S(value.clone()));
        }
        query
    }
}
