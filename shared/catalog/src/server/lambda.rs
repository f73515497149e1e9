//! A server that is an AWS Lambda function: its ARN, the form of its events, and how workers invoke it.

use serde::{Deserialize, Serialize, Serializer};

/// The ARN of a Lambda function, with or without a version or alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaArn {
    text: String,
    region: String,
}

impl LambdaArn {
    /// The ARN, if it is one of a function.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let of = |region: &str| Self { text: text.to_owned(), region: region.to_owned() };
        match parts.as_slice() {
            ["arn", partition, "lambda", region, account, "function", name, qualifier @ ..]
                if is_word(partition, "-")
                    && is_word(region, "-")
                    && account.len() == 12
                    && account.chars().all(|c| c.is_ascii_digit())
                    && is_word(name, "-_")
                    && matches!(qualifier, [] | [_])
                    && qualifier.iter().all(|qualifier| is_word(qualifier, "-_$")) =>
            {
                Some(of(region))
            }
            _ => None,
        }
    }

    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names a version or an alias.
    pub(super) fn is_qualified(&self) -> bool {
        self.text.split(':').count() > 7
    }

    /// The region that the function runs in.
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl Serialize for LambdaArn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

pub(super) fn is_word(text: &str, beside: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || beside.contains(c))
}

/// The form of the event that a function takes, and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaPayload {
    /// The event of a Bedrock agent's action group, as Pika sends it.
    Bedrock,
    /// The arguments by themselves, with the tool's name in the client context, as an AgentCore gateway sends them.
    Arguments,
    /// An MCP request.
    Mcp,
    /// An MCP request as the body of an API Gateway event.
    ApiGateway,
}

impl LambdaPayload {
    /// Its word in catalogs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bedrock => "bedrock",
            Self::Arguments => "arguments",
            Self::Mcp => "mcp",
            Self::ApiGateway => "api-gateway",
        }
    }

    /// Whether the function is an MCP server, which can be asked for its tools.
    pub const fn speaks_mcp(self) -> bool {
        match self {
            Self::Mcp | Self::ApiGateway => true,
            Self::Bedrock | Self::Arguments => false,
        }
    }
}

/// Whose calls are given what a function returns as attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeScope {
    /// The next call of the session on the same server.
    #[default]
    Server,
    /// The next call of the session on any server that says the same, as in Bedrock and Pika.
    Session,
}

impl AttributeScope {
    const fn is_server(&self) -> bool {
        matches!(self, Self::Server)
    }
}

/// A server that is a Lambda function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LambdaTransport {
    /// The function.
    #[serde(rename = "lambda")]
    pub function: LambdaArn,
    /// The form of its events.
    pub payload: LambdaPayload,
    /// What the function is told as its action group (`bedrock`) or as the name of its target (`arguments`); without it the server's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Whose calls are given what it returns as attributes (`bedrock`).
    #[serde(skip_serializing_if = "AttributeScope::is_server")]
    pub attributes: AttributeScope,
    /// Whether it is told who calls, in its attributes of the prompt (`bedrock`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tell_user: bool,
    /// Whether it is a durable function, which runs a call once however often it is invoked for it.
    pub durable: bool,
    /// The role that workers assume to invoke it; without it they invoke it as themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// The error text of a value that is no ARN of a function.
pub(crate) const NO_FUNCTION: &str =
    "is missing or no ARN of a function: arn:aws:lambda:{region}:{account}:function:{name}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_functions_are_told_from_other_texts() {
        for arn in [
            "arn:aws:lambda:us-east-1:123456789012:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f:live",
            "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f_1-2:7",
        ] {
            let read = LambdaArn::parse(arn).unwrap();
            assert_eq!(read.as_str(), arn);
            assert_eq!(read.region(), arn.split(':').nth(3).unwrap());
        }
        for text in [
            "",
            "f",
            "arn:aws:lambda:us-east-1:123456789012:layer:f:1",
            "arn:aws:lambda:us-east-1:123456789012:function:",
            "arn:aws:lambda:us-east-1:123456789012:function:f:",
            "arn:aws:lambda:us-east-1:123456789012:function:f:1:2",
            "arn:aws:lambda::123456789012:function:f",
            "arn:aws:lambda:us-east-1:1234:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f/../g",
        ] {
            assert_eq!(LambdaArn::parse(text), None, "{text}");
        }
    }
}
