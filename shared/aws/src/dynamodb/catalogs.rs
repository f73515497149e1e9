//! The catalogs table: whole catalogs as texts, by name. Workers only read it, because its writers decide who may call what.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::error::AwsError;
use crate::keys::PK;

/// The catalog table.
#[derive(Debug, Clone)]
pub struct Catalogs {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Catalogs {
    /// The text of that name.
    pub async fn read(&self, name: &str) -> Result<String, AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(name.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        let text = got.item.as_ref().and_then(|item| item.get("text")).and_then(|text| text.as_s().ok());
        text.cloned().ok_or_else(|| {
            let text = format!("table {} has no row `{name}` with an attribute `text` of type S", self.table);
            AwsError::configuration(text)
        })
    }

    /// Stores `text` under that name and replaces an earlier one.
    pub async fn write(&self, name: &str, text: &str) -> Result<(), AwsError> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item(PK, AttributeValue::S(name.to_owned()))
            .item("text", AttributeValue::S(text.to_owned()))
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("PutItem", &self.table, &e))?;
        Ok(())
    }
}
