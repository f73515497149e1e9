//! The prices that a plan reckons with: those of us-east-1, or those of a file.
//!
//! On demand, from the public price lists of AWS as of November 2026, without free tiers, data transfer, logs and metrics.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exit::CommandError;

/// USD, or a number that an instance has. A file may leave out what is as here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Prices {
    /// A million requests of 64 KiB at most.
    pub(super) sqs_million_requests: f64,
    pub(super) dynamodb_million_write_units: f64,
    pub(super) dynamodb_million_read_units: f64,
    pub(super) dynamodb_gb_month: f64,
    pub(super) s3_million_puts: f64,
    pub(super) s3_million_gets: f64,
    pub(super) s3_gb_month: f64,
    pub(super) fargate_arm_vcpu_hour: f64,
    pub(super) fargate_arm_gb_hour: f64,
    pub(super) fargate_x86_vcpu_hour: f64,
    pub(super) fargate_x86_gb_hour: f64,
    /// Which part of the price of Fargate on ARM the same costs on Spot. It changes from day to day.
    pub(super) fargate_spot_part: f64,
    /// An instance: `c7g.large` with its disk.
    pub(super) ec2_instance_hour: f64,
    pub(super) ec2_disk_month: f64,
    pub(super) ec2_instance_vcpu: f64,
    pub(super) ec2_instance_gb: f64,
    /// Lambda on ARM.
    pub(super) lambda_gb_second: f64,
    pub(super) lambda_million_requests: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            sqs_million_requests: 0.40,
            dynamodb_million_write_units: 0.625,
            dynamodb_million_read_units: 0.125,
            dynamodb_gb_month: 0.25,
            s3_million_puts: 5.0,
            s3_million_gets: 0.40,
            s3_gb_month: 0.023,
            fargate_arm_vcpu_hour: 0.032_38,
            fargate_arm_gb_hour: 0.003_56,
            fargate_x86_vcpu_hour: 0.040_48,
            fargate_x86_gb_hour: 0.004_445,
            fargate_spot_part: 0.3,
            ec2_instance_hour: 0.072_5,
            ec2_disk_month: 0.64,
            ec2_instance_vcpu: 2.0,
            ec2_instance_gb: 4.0,
            lambda_gb_second: 0.000_013_333_4,
            lambda_million_requests: 0.20,
        }
    }
}

impl Prices {
    /// Those of the file, a JSON object as `plan --print-prices` prints it.
    ///
    /// # Errors
    /// It cannot be read, names something else, or has a number that is no price.
    pub(super) fn of(path: &Path) -> Result<Self, CommandError> {
        let wrong = |why: String| {
            let wanted = "give a JSON object as `toolfleet plan --print-prices` prints it";
            CommandError::usage(format!("--prices: {}: {why}; {wanted}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::read(&text).map_err(wrong)
    }

    fn read(text: &str) -> Result<Self, String> {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let prices: Self = serde_json::from_value(object.into()).map_err(|error| error.to_string())?;
        let members = serde_json::to_value(prices).map_err(|error| error.to_string())?;
        for (name, price) in members.as_object().into_iter().flatten() {
            let price = price.as_f64().unwrap_or(f64::NAN);
            let is_divisor = matches!(name.as_str(), "ec2_instance_vcpu" | "ec2_instance_gb");
            if !(price.is_finite() && price >= 0.0 && (price > 0.0 || !is_divisor)) {
                return Err(format!("{name}: is {price}; accepted is a number from 0, of instances above 0"));
            }
        }
        Ok(prices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let prices = Prices::read(r#"{"sqs_million_requests": 0.5}"#).unwrap();
        assert_eq!(prices, Prices { sqs_million_requests: 0.5, ..Prices::default() });
        let printed = serde_json::to_string(&Prices::default()).unwrap();
        assert_eq!(Prices::read(&printed), Ok(Prices::default()), "what is printed is read");
    }

    #[test]
    fn a_wrong_price_is_named_with_what_is_accepted() {
        let error = Prices::read(r#"{"sqs": 1}"#).unwrap_err();
        assert!(error.contains("unknown field `sqs`") && error.contains("sqs_million_requests"), "{error}");
        for wrong in [r#"{"s3_gb_month": -1}"#, r#"{"ec2_instance_vcpu": 0}"#] {
            assert!(Prices::read(wrong).unwrap_err().contains("accepted is a number from 0"), "{wrong}");
        }
        assert!(Prices::read("[]").is_err() && Prices::read(r#"{"s3_gb_month": "1"}"#).is_err());
    }
}
