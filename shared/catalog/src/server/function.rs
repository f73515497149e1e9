//! Checks the entry of a server that is a Lambda function.

use super::entry::ServerEntry;
use super::lambda::{LambdaArn, LambdaPayload, LambdaTransport, NO_FUNCTION, is_word};
use crate::error::CatalogError;
use crate::error::invalid;
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
        if transport.target_name.as_deref().is_some_and(|name| !is_target_name(name)) {
            return Err(invalid(&at("target_name"), "is not 1 to 100 of A-Z, a-z, 0-9, `-`, `_` and `.`"));
        }
        if transport.role_arn.as_deref().is_some_and(|arn| !is_role(arn)) {
            return Err(invalid(&at("role_arn"), "is no ARN of a role: arn:aws:iam::{account}:role/{name}"));
        }
        let Some(id) = &transport.external_id else {
            return Ok(());
        };
        if transport.role_arn.is_none() {
            return Err(invalid(&at("external_id"), "is given without the `role_arn` that asks for it"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c);
        if !(2..=1224).contains(&id.len()) || !id.chars().all(fits) {
            return Err(invalid(&at("external_id"), "is not 2 to 1224 of the characters that STS accepts"));
        }
        Ok(())
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

fn is_role(arn: &str) -> bool {
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "iam", "", account, role] => {
            is_word(partition, "-")
                && is_word(account, "")
                && role.strip_prefix("role/").is_some_and(|name| is_word(name, "/+=,.@_-"))
        }
        _ => false,
    }
}
