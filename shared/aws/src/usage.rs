//! Counts what a process uses of AWS: requests by operation, repetitions included, and capacity units of DynamoDB by table.
//!
//! Counting begins when somebody asks for the figures: until then no request asks DynamoDB for its units, which costs about a hundred bytes
//! an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::batch_execute_statement::{
    BatchExecuteStatementInput, BatchExecuteStatementOutput,
};
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItemInput, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::batch_write_item::{BatchWriteItemInput, BatchWriteItemOutput};
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemInput, DeleteItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsInput, TransactWriteItemsOutput};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};

/// What units pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Units {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

impl Units {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What was used so far. Clones are one count.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    on: AtomicBool,
    requests: Mutex<BTreeMap<(&'static str, String), u64>>,
    /// By table, in halves of a unit: DynamoDB counts no smaller parts but in transactions, which are whole.
    half_units: Mutex<BTreeMap<(String, Units), u64>>,
}

impl Usage {
    /// Counts from now on.
    pub fn begin(&self) {
        self.0.on.store(true, Ordering::Relaxed);
    }

    /// The requests that were sent, by service and operation.
    pub fn requests(&self) -> Vec<(String, u64)> {
        let requests = lock(&self.0.requests);
        requests
            .iter()
            .map(|((service, operation), count)| (format!("{service}/{operation}"), *count))
            .collect()
    }

    /// The units that were used, by table.
    pub fn units(&self) -> Vec<(String, Units, f64)> {
        let units = lock(&self.0.half_units);
        units.iter().map(|((table, kind), count)| (table.clone(), *kind, halves(*count))).collect()
    }

    /// The interceptor of a client of that service.
    pub(crate) fn of(&self, service: &'static str) -> Counter {
        Counter { usage: self.clone(), service }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self, service: &'static str, operation: &str) {
        if !self.is_on() {
            return;
        }
        let mut requests = lock(&self.0.requests);
        // A key of the map needs a text of its own; after the first request of an operation it is found without one.
        if let Some((_, count)) =
            requests.iter_mut().find(|((of, name), _)| *of == service && name == operation)
        {
            *count = count.saturating_add(1);
        } else {
            requests.insert((service, operation.to_owned()), 1);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "units are small and not negative"
    )]
    pub(crate) fn used(&self, kind: Units, capacity: &ConsumedCapacity) {
        if let (Some(table), Some(units)) = (&capacity.table_name, capacity.capacity_units) {
            let mut all = lock(&self.0.half_units);
            let count = all.entry((table.clone(), kind)).or_default();
            *count = count.saturating_add((units * 2.0).round() as u64);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a process uses less than 2^52 units")]
fn halves(count: u64) -> f64 {
    count as f64 / 2.0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The capacities of an answer: a batch has one for each table.
trait Several {
    fn each(&self) -> &[ConsumedCapacity];
}

impl Several for ConsumedCapacity {
    fn each(&self) -> &[ConsumedCapacity] {
        std::slice::from_ref(self)
    }
}

impl Several for Vec<ConsumedCapacity> {
    fn each(&self) -> &[ConsumedCapacity] {
        self
    }
}

/// Counts the requests of one client.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    usage: Usage,
    service: &'static str,
}

/// The operation of a request: JSON protocols name it in a header, the others by their method.
fn operation<'a>(service: &str, target: Option<&'a str>, method: &'a str) -> &'a str {
    match (service, method) {
        ("S3", "GET") => "GetObject",
        ("S3", "PUT") => "PutObject",
        ("S3", "HEAD") => "HeadObject",
        ("Lambda", "POST") => "Invoke",
        _ => target.and_then(|target| target.rsplit('.').next()).unwrap_or(method),
    }
}

impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "toolfleet usage"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        macro_rules! asks_in {
            ($($input:ty),*) => {
                $(if let Some(input) = context.input_mut().downcast_mut::<$input>() {
                    input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
                    return Ok(());
                })*
            };
        }
        if self.usage.is_on() && self.service == "DynamoDB" {
            asks_in!(
                BatchExecuteStatementInput,
                PutItemInput,
                UpdateItemInput,
                GetItemInput,
                QueryInput,
                BatchGetItemInput,
                BatchWriteItemInput,
                DeleteItemInput,
                TransactWriteItemsInput
            );
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target");
        self.usage.sent(self.service, operation(self.service, target, request.method()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        macro_rules! counts {
            ($($kind:ident $output:ty),*) => {
                if let Some(Ok(output)) = context.output_or_error() {
                    $(if let Some(output) = output.downcast_ref::<$output>() {
                        output.consumed_capacity.iter().flat_map(Several::each).for_each(|one| self.usage.used(Units::$kind, one));
                        return Ok(());
                    })*
                }
            };
        }
        if self.usage.is_on() && self.service == "DynamoDB" {
            counts!(
                Write BatchExecuteStatementOutput,
                Write PutItemOutput,
                Write UpdateItemOutput,
                Read GetItemOutput,
                Read QueryOutput,
                Read BatchGetItemOutput,
                Write BatchWriteItemOutput,
                Write DeleteItemOutput,
                Write TransactWriteItemsOutput
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_as_in_the_documentation() {
        assert_eq!(operation("DynamoDB", Some("DynamoDB_20120810.PutItem"), "POST"), "PutItem");
        assert_eq!(operation("SQS", Some("AmazonSQS.ReceiveMessage"), "POST"), "ReceiveMessage");
        assert_eq!(
            (operation("S3", None, "PUT"), operation("Lambda", None, "POST")),
            ("PutObject", "Invoke")
        );
        assert_eq!(operation("S3", None, "DELETE"), "DELETE");
    }

    #[test]
    fn units_add_up_by_table_and_kind() {
        let usage = Usage::default();
        let of =
            |table: &str, units| ConsumedCapacity::builder().table_name(table).capacity_units(units).build();
        usage.used(Units::Write, &of("a", 2.0));
        usage.used(Units::Write, &of("b", 1.0));
        usage.used(Units::Read, &of("a", 0.5));
        usage.used(Units::Read, &of("a", 0.5));
        usage.used(Units::Write, &ConsumedCapacity::builder().build());
        let units = usage.units();
        assert_eq!(
            units,
            [
                ("a".into(), Units::Read, 1.0),
                ("a".into(), Units::Write, 2.0),
                ("b".into(), Units::Write, 1.0)
            ]
        );
    }
}
