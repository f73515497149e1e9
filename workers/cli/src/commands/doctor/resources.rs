//! The resources of a fleet on which its workers need rights, by ARN.

use toolfleet_client::{Client, Tables};
use toolfleet_config::catalog::Place as CatalogPlace;
use toolfleet_core::request::Priority;

use crate::commands::program::Call;
use crate::exit::CommandError;

/// Where the fleet is: what its ARNs begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    partition: &'static str,
    region: String,
    account: String,
}

impl Place {
    /// By the URL of a queue: `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`.
    pub(super) fn of_queue(url: &str) -> Option<Self> {
        let url = url::Url::parse(url).ok()?;
        let region = url.host_str()?.strip_prefix("sqs.")?.split_once(".amazonaws.com")?.0.to_owned();
        let account = url.path_segments()?.next().filter(|account| !account.is_empty())?.to_owned();
        let partition = match region.split('-').next() {
            Some("cn") => "aws-cn",
            Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
            Some(_) | None => "aws",
        };
        Some(Self { partition, region, account })
    }

    fn arn(&self, service: &str, name: &str) -> String {
        let Self { partition, region, account } = self;
        format!("arn:{partition}:{service}:{region}:{account}:{name}")
    }
}

/// What the fleet's resources are called.
#[derive(Debug)]
pub(super) struct Names {
    tables: Tables,
    /// Those of calls and the dead-letter queue.
    queues: Vec<String>,
    bucket: Option<String>,
    /// The ARN of the catalog's secret. Its last six characters are known to Secrets Manager alone.
    catalog_secret: Option<String>,
    /// What could not be found out, and why.
    pub(super) unknown: Vec<String>,
}

impl Names {
    /// Asks for what no setting says: the dead-letter queue, and the ARN of the catalog's secret.
    pub(super) async fn of(client: &Client, catalog: Option<&str>) -> Self {
        let queues = [Priority::Normal, Priority::High, Priority::Low];
        let queues = queues.into_iter().filter_map(|priority| client.queue_of(priority));
        let mut names = Self {
            tables: client.tables().clone(),
            queues: queues.map(|queue| queue.name().to_owned()).collect(),
            bucket: client.payload_bucket().map(str::to_owned),
            catalog_secret: None,
            unknown: Vec::new(),
        };
        match client.dead_letters().await {
            Ok(dead) => names.queues.extend(dead.map(|dead| dead.queue().name().to_owned())),
            Err(error) => names.unknown.push(format!("the dead-letter queue ({error})")),
        }
        if let Some(CatalogPlace::Secret(name)) = catalog.map(CatalogPlace::of) {
            match secret_arn(&name).await {
                Ok(arn) => names.catalog_secret = Some(arn),
                Err(error) => names.unknown.push(format!("the secret `{name}` ({})", error.message())),
            }
        }
        names
    }

    /// The ARNs of that kind of resource.
    pub(super) fn arns(&self, place: &Place, kind: &str) -> Vec<String> {
        let Tables { calls, sessions, history, fleet, catalogs, .. } = &self.tables;
        let prefix = calls.strip_suffix("-calls").unwrap_or(calls);
        let table = |name: &str| vec![place.arn("dynamodb", &format!("table/{name}"))];
        let bucket = |ending: &str| {
            let arn = |bucket: &String| format!("arn:{}:s3:::{bucket}{ending}", place.partition);
            self.bucket.iter().map(arn).collect()
        };
        match kind {
            "CallsTable" => table(calls),
            "SessionsTable" => table(sessions),
            "HistoryTable" => table(history),
            "FleetTable" => table(fleet),
            "CatalogsTable" => table(catalogs),
            "queues" => self.queues.iter().map(|queue| place.arn("sqs", queue)).collect(),
            "replies" => vec![place.arn("sqs", &format!("{prefix}-replies"))],
            "objects" => bucket("/doctor"),
            "PayloadsBucket" => bucket(""),
            // The catalog's secrets of servers are below the fleet's prefix.
            "secrets" => {
                let of_server =
                    place.arn("secretsmanager", &format!("secret:{prefix}/servers/doctor-AAAAAA"));
                std::iter::once(of_server).chain(self.catalog_secret.clone()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The ARN of a secret. Its text is not asked for: the aws command prints the ARN alone.
async fn secret_arn(name: &str) -> Result<String, CommandError> {
    let words =
        ["secretsmanager", "get-secret-value", "--secret-id", name, "--query", "ARN", "--output", "json"];
    let call = Call::new("aws", &words);
    let printed = call.json().await?;
    let none = || CommandError::Unavailable(anyhow::anyhow!("`{}` printed no ARN", call.line()));
    printed.as_str().map(str::to_owned).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_says_where_the_fleet_is() {
        let of = |url: &str| Place::of_queue(url).map(|place| place.arn("sqs", "q"));
        let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/toolfleet-calls";
        assert_eq!(of(url).as_deref(), Some("arn:aws:sqs:eu-central-1:123456789012:q"));
        assert_eq!(
            of("https://sqs.cn-north-1.amazonaws.com.cn/1/q").as_deref(),
            Some("arn:aws-cn:sqs:cn-north-1:1:q")
        );
        assert_eq!(
            of("https://sqs.us-gov-west-1.amazonaws.com/1/q").as_deref(),
            Some("arn:aws-us-gov:sqs:us-gov-west-1:1:q")
        );
        for other in ["http://127.0.0.1:1/1/q", "https://sqs.eu-west-1.amazonaws.com/", "q"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn dead_letters_notices_and_the_catalog_are_among_the_resources() {
        let place = Place::of_queue("https://sqs.eu-west-1.amazonaws.com/1/prod-calls").unwrap();
        let secret = "arn:aws:secretsmanager:eu-west-1:1:secret:prod/catalog-a1B2c3";
        let names = Names {
            tables: Tables::with_prefix("prod"),
            queues: vec!["prod-calls".into(), "prod-calls-dlq".into()],
            bucket: Some("payloads".into()),
            catalog_secret: Some(secret.into()),
            unknown: Vec::new(),
        };
        let sqs = |name: &str| format!("arn:aws:sqs:eu-west-1:1:{name}");
        assert_eq!(names.arns(&place, "queues"), [sqs("prod-calls"), sqs("prod-calls-dlq")]);
        assert_eq!(names.arns(&place, "replies"), [sqs("prod-replies")]);
        let of_server = "arn:aws:secretsmanager:eu-west-1:1:secret:prod/servers/doctor-AAAAAA";
        assert_eq!(names.arns(&place, "secrets"), [of_server, secret]);
        let kinds: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(include_str!("worker_rights.json")).unwrap();
        for kind in kinds.keys() {
            assert!(!names.arns(&place, kind).is_empty(), "{kind}");
        }
    }
}
