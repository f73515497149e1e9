//! Checks the entry of a server that is a Lambda function.

use super::entry::ServerEntry;
use super::lambda::{LambdaArn, LambdaPayload, LambdaTransport, NO_FUNCTION, is_word};
use crate::error::CatalogError;
use crate::error::invalid;
use toolfleet_core::credential::check_role;
use toolfleet_core::redact::quoted;

impl ServerEntry {
    /// Checks the fields of a Lambda function; `entry` is the place to name in an error.
    pub(super) fn check_lambda_parts(&self, entry: &str) -> Result<(), CatalogError> {
        let at = |field: &str| format!("{entry}.{field}");
        let transport = self.lambda_transport(entry)?;
        if self.discover && !transport.payload.speaks_mcp() {
            let text = format!(
                "needs a list of tools, which a function with the payload {} has not; register its tools in `tools` (`mcp` and \
                 `api-gateway` have one)",
                transport.payload.as_str()
            );
            return Err(invalid(&at("discover"), text));
        }
        if transport.durable && !transport.function.is_qualified() {
            let text = "names no version or alias, which Lambda asks for to invoke a durable function; add one, for example `:live` or `:$LATEST`";
            return Err(invalid(&at("lambda"), text));
        }
        let of_attributes = [("attributes", self.attributes.is_some()), ("tell_user", self.tell_user)];
        let misplaced = of_attributes.iter().find(|(_, is_given)| *is_given);
        if let (Some((field, _)), true) = (misplaced, transport.payload != LambdaPayload::Bedrock) {
            let text = "belongs to the payload `bedrock`, which has attributes; leave it out";
            return Err(invalid(&at(field), text));
        }
        if transport.target_name.as_deref().is_some_and(|name| !is_target_name(name)) {
            return Err(invalid(&at("target_name"), "is not 1 to 100 of A-Z, a-z, 0-9, `-`, `_` and `.`"));
        }
        check_role(transport.role_arn.as_deref(), transport.external_id.as_deref())
            .map_err(|(field, problem)| invalid(&at(field), problem))
    }

    /// The function that the entry names.
    pub(super) fn lambda_transport(&self, entry: &str) -> Result<LambdaTransport, CatalogError> {
        let arn = self.lambda.as_deref().unwrap_or_default();
        let function =
            LambdaArn::parse(arn).ok_or_else(|| invalid(&format!("{entry}.lambda"), NO_FUNCTION))?;
        Ok(LambdaTransport {
            function,
            payload: payload(entry, self.payload.as_deref())?,
            target_name: self.target_name.clone(),
            attributes: self.attributes.unwrap_or_default(),
            tell_user: self.tell_user,
            durable: self.durable,
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        })
    }
}

fn payload(entry: &str, word: Option<&str>) -> Result<LambdaPayload, CatalogError> {
    let all =
        [LambdaPayload::Bedrock, LambdaPayload::Arguments, LambdaPayload::Mcp, LambdaPayload::ApiGateway];
    all.into_iter().find(|payload| Some(payload.as_str()) == word).ok_or_else(|| {
        let found = word.map_or("missing".to_owned(), quoted);
        let text = format!("is {found}; accepted are bedrock, arguments, mcp and api-gateway");
        invalid(&format!("{entry}.payload"), text)
    })
}

fn is_target_name(name: &str) -> bool {
    name.len() <= 100 && is_word(name, "-_.")
}
