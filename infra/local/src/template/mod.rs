//! Reads a CloudFormation template: the queues, tables and buckets that the endpoints create at start.
//!
//! **Invariant:** this crate describes no queue, table or bucket of the product itself.

pub(crate) mod error;
mod resolve;
mod sections;
pub(crate) mod spec;

use std::collections::BTreeMap;

use serde_json::Value;

use error::TemplateError;
use resolve::Resolver;
use spec::{BucketSpec, QueueSpec, TableSpec};

/// `infra/cloudformation/data.yaml` as it was when this crate was built.
pub const DATA_YAML: &str = include_str!("../../../cloudformation/data.yaml");

/// The queues and tables of a CloudFormation template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Template {
    /// In an order in which they can be created: dead-letter queues before those that point to them.
    pub queues: Vec<QueueSpec>,
    /// In the order of their logical names.
    pub tables: Vec<TableSpec>,
    /// In the order of their logical names.
    pub buckets: Vec<BucketSpec>,
}

impl Template {
    /// The product's own queues and tables, their names starting with `prefix`.
    ///
    /// # Errors
    /// Only if the built-in template is broken, which a test of this crate excludes.
    pub fn builtin(prefix: &str) -> Result<Self, TemplateError> {
        let parameters = BTreeMap::from([("Prefix".to_owned(), prefix.to_owned())]);
        Self::parse(DATA_YAML, &parameters)
    }

    /// Reads a template; `parameters` override the defaults written in it.
    ///
    /// # Errors
    /// Names the resource and the property that cannot be used.
    pub fn parse(text: &str, parameters: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let document: Value =
            serde_saphyr::from_str(text).map_err(|error| TemplateError::Yaml(Box::new(error)))?;
        let resolver = Resolver::new(&document, parameters)?;
        let mut queues = Vec::new();
        let mut tables = Vec::new();
        let mut buckets = Vec::new();
        for (logical, resource) in resolver.resources() {
            if !resolver.is_created(logical, resource)? {
                continue;
            }
            match resource.get("Type").and_then(Value::as_str) {
                Some("AWS::SQS::Queue") => queues.push(sections::queue(&resolver, logical)?),
                Some("AWS::S3::Bucket") => buckets.push(sections::bucket(&resolver, logical)?),
                Some("AWS::DynamoDB::Table") => tables.push(sections::table(&resolver, logical)?),
                Some(_) => {}
                None => {
                    return Err(TemplateError::Property {
                        resource: logical.clone(),
                        property: "Type".to_owned(),
                        problem: "is missing".to_owned(),
                    });
                }
            }
        }
        queues.sort_by_key(|queue: &QueueSpec| queue.attributes.contains_key("RedrivePolicy"));
        Ok(Self { queues, tables, buckets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        Template::parse(text, &BTreeMap::new()).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_template_names_everything_by_its_prefix() {
        let template = Template::builtin("fleet7").unwrap();
        let queues: Vec<_> = template.queues.iter().map(|queue| queue.name.as_str()).collect();
        let tables: Vec<_> = template.tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(queues, ["fleet7-calls-dlq", "fleet7-replies", "fleet7-calls"]);
        assert_eq!(
            tables,
            ["fleet7-calls", "fleet7-catalogs", "fleet7-fleet", "fleet7-history", "fleet7-sessions"]
        );
        // A catalog stays until it is replaced; everything else goes when its time is over.
        let lasting =
            template.tables.iter().filter(|table| table.ttl_attribute.as_deref() != Some("expires_at"));
        assert_eq!(lasting.map(|table| table.name.as_str()).collect::<Vec<_>>(), ["fleet7-catalogs"]);
    }

    #[test]
    fn the_queues_of_high_and_low_priority_exist_where_they_are_asked_for() {
        let parameters = BTreeMap::from([("PriorityQueues".to_owned(), "true".to_owned())]);
        let template = Template::parse(DATA_YAML, &parameters).unwrap();
        let calls: Vec<_> =
            template.queues.iter().filter(|q| q.attributes.contains_key("RedrivePolicy")).collect();
        let names: Vec<_> = calls.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["toolfleet-calls", "toolfleet-calls-high", "toolfleet-calls-low"]);
        assert!(calls.iter().all(|queue| queue.attributes == calls[0].attributes), "{calls:#?}");
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_named() {
        let queue = |condition: &str| {
            format!(
                "Parameters: {{P: {{Default: 'a'}}}}\nConditions: {{C: {condition}}}\n\
                 Resources: {{Q: {{Type: 'AWS::SQS::Queue', Condition: C, Properties: {{QueueName: q}}}}}}"
            )
        };
        let count =
            |condition: &str| Template::parse(&queue(condition), &BTreeMap::new()).map(|t| t.queues.len());
        assert_eq!(count("{'Fn::Equals': [{Ref: P}, 'a']}").unwrap(), 1);
        assert_eq!(count("{'Fn::Equals': [{Ref: P}, 'b']}").unwrap(), 0);
        assert_eq!(count("{'Fn::Not': [{'Fn::Equals': [{Ref: P}, 'b']}]}").unwrap(), 1);
        let error = count("{'Fn::And': []}").unwrap_err().to_string();
        assert!(
            error.starts_with("resource Q, property Condition: ") && error.contains("Fn::Equals"),
            "{error}"
        );
        let unknown = queue("{'Fn::Equals': [1, 1]}").replace("Condition: C", "Condition: D");
        let error = Template::parse(&unknown, &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(error, "resource Q, property Condition: names D, which the section Conditions has not");
    }

    #[test]
    fn a_value_is_chosen_by_its_condition_and_no_value_removes_it() {
        let text = "Parameters: {P: {Default: 'a'}}\nConditions: {C: {'Fn::Equals': [{Ref: P}, 'a']}}\n\
                    Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: q, \
                    DelaySeconds: {'Fn::If': [C, 5, 6]}, KmsMasterKeyId: {'Fn::If': [C, {Ref: 'AWS::NoValue'}, k]}}}}";
        let attributes = |p: &str| {
            let parameters = BTreeMap::from([("P".to_owned(), p.to_owned())]);
            let template = Template::parse(text, &parameters).unwrap();
            template.queues.into_iter().flat_map(|queue| queue.attributes).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(attributes("a"), [pair("DelaySeconds", "5")]);
        assert_eq!(attributes("b"), [pair("DelaySeconds", "6"), pair("KmsMasterKeyId", "k")]);
        let error = failure(&text.replace("[C, 5, 6]", "[D, 5, 6]"));
        assert_eq!(error, "resource Q, property DelaySeconds: names D, which the section Conditions has not");
        let error = failure(&text.replace("[C, 5, 6]", "[C, 5]"));
        assert_eq!(error, "resource Q, property DelaySeconds: Fn::If takes a condition and two values");
    }

    #[test]
    fn the_calls_queue_sends_its_dead_letters_to_the_dead_letter_queue() {
        let template = Template::builtin("toolfleet").unwrap();
        let calls = template.queues.iter().find(|queue| queue.name == "toolfleet-calls").unwrap();
        let policy: Value = serde_json::from_str(&calls.attributes["RedrivePolicy"]).unwrap();
        assert_eq!(policy["deadLetterTargetArn"], "arn:aws:sqs:us-east-1:000000000000:toolfleet-calls-dlq");
        assert_eq!(policy["maxReceiveCount"], 8);
        assert_eq!(calls.attributes["VisibilityTimeout"], "30");
        assert_eq!(calls.attributes["SqsManagedSseEnabled"], "true");
    }

    #[test]
    fn a_fifo_queue_keeps_what_makes_it_one() {
        let text = "Resources: {Q: {Type: AWS::SQS::Queue, Properties: {QueueName: q.fifo, FifoQueue: true, \
                    ContentBasedDeduplication: true, DeduplicationScope: messageGroup}}}";
        let template = Template::parse(text, &BTreeMap::new()).unwrap();
        let queue = template.queues.first().unwrap();
        let shown = |name: &str| queue.attributes.get(name).map(String::as_str);
        assert_eq!((shown("FifoQueue"), shown("ContentBasedDeduplication")), (Some("true"), Some("true")));
        assert_eq!(shown("DeduplicationScope"), Some("messageGroup"));
    }

    #[test]
    fn parameters_override_the_defaults() {
        let parameters = BTreeMap::from([("MaxReceiveCount".to_owned(), "3".to_owned())]);
        let template = Template::parse(DATA_YAML, &parameters).unwrap();
        let calls = template.queues.iter().find(|queue| queue.name == "toolfleet-calls").unwrap();
        assert!(calls.attributes["RedrivePolicy"].contains("\"maxReceiveCount\":3"));
    }

    #[test]
    fn an_error_names_the_resource_and_the_property() {
        let unknown = "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: {Ref: Nobody}}}}";
        assert_eq!(
            failure(unknown),
            "resource Q, property QueueName: Ref names Nobody, which is neither a parameter nor a resource"
        );
        let intrinsic =
            "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: {'Fn::Join': ['', [a]]}}}}";
        assert!(
            failure(intrinsic)
                .starts_with("resource Q, property QueueName: the function Fn::Join is not read")
        );
        let nameless = "Resources: {T: {Type: 'AWS::DynamoDB::Table', Properties: {}}}";
        assert_eq!(failure(nameless), "resource T, property TableName: is missing, and a name is needed");
        let property = "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: q, Colour: red}}}";
        assert_eq!(failure(property), "resource Q, property Colour: is not known to the local endpoints");
    }

    #[test]
    fn a_parameter_that_does_not_exist_is_refused() {
        let parameters = BTreeMap::from([("Prefx".to_owned(), "x".to_owned())]);
        let error = Template::parse(DATA_YAML, &parameters).unwrap_err().to_string();
        assert_eq!(error, "the template's section Parameters has no Prefx");
    }
}
