//! The functions that a catalog names, as they are invoked.

use toolfleet_aws::lambda::LambdaFunction;
use toolfleet_catalog::LambdaTransport;

/// The function of a server, and as whom it is invoked.
pub fn function_of(lambda: &LambdaTransport) -> LambdaFunction<'_> {
    LambdaFunction {
        arn: lambda.function.as_str(),
        region: lambda.function.region(),
        role: lambda.role_arn.as_deref().map(|role| (role, lambda.external_id.as_deref())),
    }
}
