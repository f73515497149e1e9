//! AWS prices, and the cost of traffic.
//!
//! On demand, us-east-1, from the public price lists of DynamoDB (aws.amazon.com/dynamodb/pricing/on-demand) and SQS
//! (aws.amazon.com/sqs/pricing), standard tables and standard queues, as of November 2026, without free tiers. Storage, logs,
//! compute and data transfer are not included: they do not depend on requests.

use serde::{Deserialize, Serialize};

use crate::traffic::Traffic;

/// USD for a million write request units.
pub const WRITE_UNITS: f64 = 0.625;
/// USD for a million read request units.
pub const READ_UNITS: f64 = 0.125;
/// USD for a million requests to SQS, each of up to 64 KiB.
pub const SQS_REQUESTS: f64 = 0.40;

/// The units of one call that AWS bills. The price of a million units times the units of one call is the price of a million calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Write request units for a call.
    pub write_units: f64,
    /// Read request units for a call.
    pub read_units: f64,
    /// Billed SQS requests for a call.
    pub sqs_requests: f64,
}

impl Bill {
    /// The bill of one call, from the traffic of that many calls.
    pub fn of(traffic: &Traffic, calls: u32) -> Self {
        let (all, calls) = (traffic.total(), f64::from(calls.max(1)));
        Self {
            write_units: all.write_units / calls,
            read_units: all.read_units / calls,
            sqs_requests: all.billed as f64 / calls,
        }
    }

    /// USD for a million calls.
    pub fn usd_per_million(&self) -> f64 {
        self.write_units * WRITE_UNITS + self.read_units * READ_UNITS + self.sqs_requests * SQS_REQUESTS
    }

    /// The bill of the kind that is `share` of a mix, if each of the other calls has the bill `rest`.
    #[must_use]
    pub fn without(&self, rest: &Self, share: f64) -> Self {
        let own = |mixed: f64, rest: f64| rest + (mixed - rest) / share;
        Self {
            write_units: own(self.write_units, rest.write_units),
            read_units: own(self.read_units, rest.read_units),
            sqs_requests: own(self.sqs_requests, rest.sqs_requests),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Count;

    #[test]
    fn a_bill_is_the_sum_of_units_times_prices() {
        let write = Count { write_units: 4_000.0, ..Count::default() };
        let receive = Count { billed: 300, read_units: 500.0, ..Count::default() };
        let mut traffic = Traffic::default();
        traffic.operations.insert("BatchExecuteStatement".into(), write);
        traffic.operations.insert("ReceiveMessage".into(), receive);
        let bill = Bill::of(&traffic, 1_000);
        assert!((bill.usd_per_million() - (2.5 + 0.0625 + 0.12)).abs() < 1e-9, "{bill:?}");
    }

    #[test]
    fn the_bill_of_a_rare_kind_is_the_mix_without_the_rest() {
        let rest = Bill { write_units: 4.0, read_units: 0.0, sqs_requests: 0.3 };
        let mixed = Bill { write_units: 4.2, read_units: 0.1, sqs_requests: 0.4 };
        let own = mixed.without(&rest, 0.1);
        assert!((own.write_units - 6.0).abs() < 1e-9 && (own.read_units - 1.0).abs() < 1e-9, "{own:?}");
    }
}
