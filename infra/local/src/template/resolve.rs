//! Resolves the parameters of a template, its intrinsic functions `Ref`, `Fn::Sub`, `Fn::GetAtt` and `Fn::If`, and conditions of
//! `Fn::Equals` and `Fn::Not`.
//!
//! **Invariant:** an unknown function is an error, never text.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::TemplateError;
use crate::names::{ACCOUNT_ID, REGION, queue_arn, table_arn};

pub(super) struct Resolver<'a> {
    parameters: BTreeMap<String, Value>,
    resources: &'a Map<String, Value>,
    conditions: Option<&'a Map<String, Value>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(document: &'a Value, given: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let resources = document.get("Resources").and_then(Value::as_object).ok_or_else(|| {
            TemplateError::Section { section: "Resources", problem: "is missing or no mapping".to_owned() }
        })?;
        let mut parameters = BTreeMap::new();
        let declared = document.get("Parameters").and_then(Value::as_object);
        for (name, declaration) in declared.into_iter().flatten() {
            let default = declaration.get("Default").cloned();
            match given.get(name).map(|text| Value::String(text.clone())).or(default) {
                Some(value) => {
                    parameters.insert(name.clone(), value);
                }
                None => {
                    return Err(parameter_problem(format!(
                        "gives {name} no default, and no value was given"
                    )));
                }
            }
        }
        match given.keys().find(|name| !parameters.contains_key(*name)) {
            Some(name) => Err(parameter_problem(format!("has no {name}"))),
            None => {
                let conditions = document.get("Conditions").and_then(Value::as_object);
                Ok(Self { parameters, resources, conditions })
            }
        }
    }

    pub(super) fn resources(&self) -> &'a Map<String, Value> {
        self.resources
    }

    /// Whether a resource's condition holds; one without a condition is always created.
    pub(super) fn is_created(&self, logical: &str, resource: &Value) -> Result<bool, TemplateError> {
        match resource.get("Condition").and_then(Value::as_str) {
            Some(name) => self.named_condition(logical, "Condition", name),
            None => Ok(true),
        }
    }

    fn named_condition(&self, logical: &str, property: &str, name: &str) -> Result<bool, TemplateError> {
        match self.conditions.and_then(|conditions| conditions.get(name)) {
            Some(condition) => self.holds(logical, condition),
            None => {
                let problem = format!("names {name}, which the section Conditions has not");
                Err(problem_of(logical, property, problem))
            }
        }
    }

    fn holds(&self, logical: &str, condition: &Value) -> Result<bool, TemplateError> {
        const PROPERTY: &str = "Condition";
        let function = condition.as_object().and_then(single_function);
        match function.map(|(name, argument)| (name, argument.as_array().map(Vec::as_slice))) {
            Some(("Fn::Equals", Some([one, other]))) => {
                let one = self.value(logical, PROPERTY, one)?;
                Ok(plain_text(&one) == plain_text(&self.value(logical, PROPERTY, other)?))
            }
            Some(("Fn::Not", Some([inner]))) => self.holds(logical, inner).map(|holds| !holds),
            Some(_) | None => {
                let problem = "needs a condition of Fn::Equals or Fn::Not; others are not read";
                Err(problem_of(logical, PROPERTY, problem.to_owned()))
            }
        }
    }

    /// The resolved properties of a resource.
    pub(super) fn properties(&self, logical: &str) -> Result<Map<String, Value>, TemplateError> {
        let mut resolved = Map::new();
        let properties = self.raw_properties(logical);
        for (name, value) in properties.into_iter().flatten() {
            if let Some(value) = self.member(logical, name, value)? {
                resolved.insert(name.clone(), value);
            }
        }
        Ok(resolved)
    }

    fn raw_properties(&self, logical: &str) -> Option<&'a Map<String, Value>> {
        self.resources.get(logical)?.get("Properties")?.as_object()
    }

    /// A value inside a mapping or a list; `None` if it resolves to `AWS::NoValue`, which removes it.
    fn member(&self, resource: &str, property: &str, value: &Value) -> Result<Option<Value>, TemplateError> {
        let resolved = self.value(resource, property, value)?;
        Ok((!resolved.is_null() || value.is_null()).then_some(resolved))
    }

    fn value(&self, resource: &str, property: &str, value: &Value) -> Result<Value, TemplateError> {
        match value {
            Value::Object(map) => match single_function(map) {
                Some((function, argument)) => self.call(resource, property, function, argument),
                None => {
                    let mut resolved = Map::new();
                    for (key, inner) in map {
                        let path = format!("{property}.{key}");
                        if let Some(value) = self.member(resource, &path, inner)? {
                            resolved.insert(key.clone(), value);
                        }
                    }
                    Ok(Value::Object(resolved))
                }
            },
            Value::Array(items) => {
                let resolve =
                    |(at, item)| self.member(resource, &format!("{property}[{at}]"), item).transpose();
                items.iter().enumerate().filter_map(resolve).collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
        }
    }

    fn call(
        &self,
        resource: &str,
        property: &str,
        name: &str,
        argument: &Value,
    ) -> Result<Value, TemplateError> {
        let fail = |problem: String| Err(problem_of(resource, property, problem));
        match (name, argument) {
            ("Ref", Value::String(target)) => self.reference(resource, property, target),
            ("Fn::GetAtt", Value::String(dotted)) => match dotted.split_once('.') {
                Some((target, attribute)) => self.attribute(resource, property, target, attribute),
                None => fail(format!("Fn::GetAtt names no attribute of {dotted}")),
            },
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(target), Value::String(attribute)] => {
                    self.attribute(resource, property, target, attribute)
                }
                _ => fail("Fn::GetAtt takes a resource and an attribute".to_owned()),
            },
            ("Fn::Sub", Value::String(pattern)) => self.substitute(resource, property, pattern),
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), then, otherwise] => {
                    let holds = self.named_condition(resource, property, condition)?;
                    self.value(resource, property, if holds { then } else { otherwise })
                }
                _ => fail("Fn::If takes a condition and two values".to_owned()),
            },
            ("Ref" | "Fn::Sub", _) => fail(format!("{name} takes one text")),
            _ => fail(format!("the function {name} is not read (Ref, Fn::Sub, Fn::GetAtt and Fn::If are)")),
        }
    }

    fn reference(&self, resource: &str, property: &str, target: &str) -> Result<Value, TemplateError> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        match target {
            "AWS::AccountId" => return Ok(ACCOUNT_ID.into()),
            "AWS::Region" => return Ok(REGION.into()),
            "AWS::Partition" => return Ok("aws".into()),
            "AWS::NoValue" => return Ok(Value::Null),
            _ => {}
        }
        if self.resources.contains_key(target) {
            return self.physical_name(target).map(Value::String);
        }
        let problem = format!("Ref names {target}, which is neither a parameter nor a resource");
        Err(problem_of(resource, property, problem))
    }

    fn attribute(
        &self,
        resource: &str,
        property: &str,
        target: &str,
        attribute: &str,
    ) -> Result<Value, TemplateError> {
        let kind = self.resources.get(target).and_then(|found| found.get("Type")).and_then(Value::as_str);
        match (kind, attribute) {
            (Some("AWS::SQS::Queue"), "Arn") => Ok(queue_arn(&self.physical_name(target)?).into()),
            (Some("AWS::SQS::Queue"), "QueueName") => self.physical_name(target).map(Value::String),
            (Some("AWS::S3::Bucket"), "Arn") => {
                Ok(format!("arn:aws:s3:::{}", self.physical_name(target)?).into())
            }
            (Some("AWS::DynamoDB::Table"), "Arn") => Ok(table_arn(&self.physical_name(target)?).into()),
            (Some(kind), _) => {
                let problem =
                    format!("Fn::GetAtt asks for {attribute} of {target} ({kind}), which is not known here");
                Err(problem_of(resource, property, problem))
            }
            (None, _) => {
                let problem = format!("Fn::GetAtt names {target}, which is no resource");
                Err(problem_of(resource, property, problem))
            }
        }
    }

    fn substitute(&self, resource: &str, property: &str, pattern: &str) -> Result<Value, TemplateError> {
        let mut text = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else {
                return Err(problem_of(resource, property, "Fn::Sub has a ${ that is not closed".to_owned()));
            };
            text.push_str(before);
            let value = match name.split_once('.') {
                Some((target, attribute)) => self.attribute(resource, property, target, attribute)?,
                None => self.reference(resource, property, name)?,
            };
            text.push_str(&plain_text(&value));
            rest = tail;
        }
        text.push_str(rest);
        Ok(Value::String(text))
    }

    /// The name a queue or table has in the account.
    pub(super) fn physical_name(&self, logical: &str) -> Result<String, TemplateError> {
        let kind = self.resources.get(logical).and_then(|found| found.get("Type")).and_then(Value::as_str);
        let property = match kind {
            Some("AWS::SQS::Queue") => "QueueName",
            Some("AWS::S3::Bucket") => "BucketName",
            Some(_) | None => "TableName",
        };
        match self.raw_properties(logical).and_then(|properties| properties.get(property)) {
            Some(value) => Ok(plain_text(&self.value(logical, property, value)?)),
            None => Err(problem_of(logical, property, "is missing, and a name is needed".to_owned())),
        }
    }
}

/// A scalar as the text that CloudFormation would put in its place.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

pub(super) fn problem_of(resource: &str, property: &str, problem: String) -> TemplateError {
    TemplateError::Property { resource: resource.to_owned(), property: property.to_owned(), problem }
}

fn parameter_problem(problem: String) -> TemplateError {
    TemplateError::Section { section: "Parameters", problem }
}

fn single_function(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut entries = map.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) if name == "Ref" || name.starts_with("Fn::") => Some((name, argument)),
        _ => None,
    }
}
