//! What a gateway keeps in the bucket between a question and the call that brings its answers. The bucket's lifecycle rule deletes it.

use serde_json::value::RawValue;
use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::ids::Tenant;
use toolfleet_core::payload::ArgumentsRef;

use crate::client::Client;

impl Client {
    /// Stores arguments in the bucket; [`Client::arguments`] reads them again.
    ///
    /// # Errors
    /// There is no bucket, or it failed.
    pub async fn store_arguments(
        &self,
        arguments: &RawValue,
        tenant: &Tenant,
    ) -> Result<ArgumentsRef, AwsError> {
        self.payloads.store_arguments(arguments, tenant, (self.now)()).await
    }

    /// The arguments of such a reference.
    ///
    /// # Errors
    /// They are gone or altered, or the bucket failed.
    pub async fn arguments(&self, stored: &ArgumentsRef) -> Result<Box<RawValue>, PayloadError> {
        self.payloads.arguments(stored).await
    }

    /// Stores an answer under a name of letters, digits and dots, unless there is one already: the first one stands. The text is stored as it
    /// is; whoever stores personal data encrypts it.
    ///
    /// # Errors
    /// There is no bucket, or it failed.
    pub async fn store_answer(&self, tenant: &Tenant, name: &str, text: String) -> Result<(), AwsError> {
        self.payloads.store_answer(tenant, name, text).await
    }

    /// The answer of that name, if there is one.
    ///
    /// # Errors
    /// The bucket failed.
    pub async fn answer(&self, tenant: &Tenant, name: &str) -> Result<Option<String>, PayloadError> {
        self.payloads.answer(tenant, name).await
    }
}
