//! Counts the work of a schema before it is done: of compiling it, and of checking given arguments.
//!
//! References make a tree of a schema: two to the same part, in each of 34 parts that refer to the next, are 2^34 visits of a text of
//! 3 KB. The count follows them with a limit, so it costs no more than that itself.
//!
//! **Invariant:** what is counted is never less than what the validator does, up to a constant factor.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::pattern::{MOST_STATES, goes_back, states};
use super::reference::{Names, Part};

/// Values within one schema, and parts of it that are told apart.
const MOST_NODES: u64 = 20_000;
/// How deep a schema may lead through its parts and references: the validator calls itself at each step.
const MOST_DEPTH: usize = 128;
/// How deep schema and arguments may lead together.
const MOST_STEPS: usize = 256;
/// How many parts an embedded schema may be compiled into: its parts are compiled anew for each way that leads to it.
const MOST_EXPANDED: u64 = 20_000;
/// What a match that may go back counts for.
const GOES_BACK: u64 = 2_000;
/// States that one step of a match can follow at once.
const STATES_AT_ONCE: u64 = 32;
/// What a byte of a schema's text, and a state of its regular expressions, take once they are compiled: an assumption, which was not measured.
const TEXT_BYTES: usize = 10;
const STATE_BYTES: usize = 100;
/// What equal items are looked for with: pairs of up to 15, hashes of more.
const PAIRS: u64 = 16;

/// What judging by one schema costs.
#[derive(Debug)]
pub(super) struct Plan {
    schema: Value,
    names: Names,
    cost: Cost,
    /// States of all regular expressions together.
    states: u64,
}

/// The work of one part with all that it leads to.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// For each value of the arguments, at most.
    visits: u64,
    /// For each byte of a string, at most.
    per_byte: u64,
    /// Parts, each counted at every place that leads to it.
    expanded: u64,
    depth: usize,
}

/// Which values a part within a part judges.
#[derive(Clone, Copy)]
enum Judges<'a> {
    /// The same value, so many times over.
    Same,
    Property(&'a str),
    /// Every property but those named here.
    Others(Option<&'a Map<String, Value>>),
    Names,
    Item(usize),
    Items,
}

impl Plan {
    /// `None` where the schema is too large to be compiled, or cannot be counted.
    pub(super) fn of(schema: &Value) -> Option<Self> {
        if count(schema, MOST_NODES) >= MOST_NODES {
            return None;
        }
        let names = Names::of(schema);
        let mut survey = Survey { root: schema, names: &names, known: HashMap::new(), states: 0 };
        let cost = survey.part(Part { schema, base: schema }, 0)?;
        let scopes_multiply = names.has_embedded() && cost.expanded > MOST_EXPANDED;
        let states = survey.states;
        (!scopes_multiply).then(|| Self { schema: schema.clone(), names, cost, states })
    }

    /// About how many bytes the compiled schema takes whose text has so many bytes.
    pub(super) fn bytes(&self, text: usize) -> usize {
        let states = usize::try_from(self.states).unwrap_or(usize::MAX);
        text.saturating_mul(TEXT_BYTES).saturating_add(states.saturating_mul(STATE_BYTES))
    }

    /// Whether judging `arguments`, a text of so many bytes, stays within so many units.
    pub(super) fn allows(&self, arguments: &Value, bytes: usize, budget: u64) -> bool {
        let bytes = bytes as u64;
        // No JSON has more values than one for every two bytes.
        let values = bytes / 2 + 1;
        let most = self.cost.visits.saturating_mul(values);
        if most.saturating_add(self.cost.per_byte.saturating_mul(bytes)) <= budget {
            return true;
        }
        let mut walk = Walk { plan: self, left: budget };
        let root = Part { schema: &self.schema, base: &self.schema };
        walk.part(root, arguments, 1, 0).is_some()
    }
}

/// How many values there are, at most `most`.
fn count(value: &Value, most: u64) -> u64 {
    let inner: &mut dyn Iterator<Item = &Value> = match value {
        Value::Array(items) => &mut items.iter(),
        Value::Object(map) => &mut map.values(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 1,
    };
    let mut sum = 1_u64;
    for value in inner {
        if sum >= most {
            break;
        }
        sum = sum.saturating_add(count(value, most.saturating_sub(sum)));
    }
    sum
}

/// What the keywords of one part cost by themselves.
#[derive(Clone, Copy, Default)]
struct Own {
    visits: u64,
    states: u64,
    goes_back: bool,
    reads_text: bool,
    unique: bool,
}

fn own(schema: &Map<String, Value>) -> Own {
    let mut own = Own { visits: 1, ..Own::default() };
    let expression = |own: &mut Own, pattern: &str| {
        own.states = own.states.saturating_add(states(pattern));
        own.goes_back |= goes_back(pattern);
        own.visits = own.visits.saturating_add(1);
    };
    for (keyword, value) in schema {
        own.visits = own.visits.saturating_add(1);
        match (keyword.as_str(), value) {
            ("pattern", Value::String(pattern)) => expression(&mut own, pattern),
            ("patternProperties", Value::Object(patterns)) => {
                patterns.keys().for_each(|pattern| expression(&mut own, pattern));
            }
            ("enum" | "const", value) => {
                own.visits = own.visits.saturating_add(count(value, MOST_NODES));
            }
            ("required", Value::Array(names)) => {
                own.visits = own.visits.saturating_add(names.len() as u64);
            }
            ("properties" | "dependentRequired" | "dependencies", Value::Object(names)) => {
                own.visits = own.visits.saturating_add(names.len() as u64);
            }
            ("uniqueItems", Value::Bool(true)) => own.unique = true,
            ("format" | "contentMediaType" | "contentEncoding" | "minLength" | "maxLength", _) => {
                own.reads_text = true;
            }
            _ => {}
        }
    }
    own
}

/// How often a keyword visits the parts within it: once to know whether they hold, once more to say why not.
fn times(keyword: &str) -> u64 {
    match keyword {
        "anyOf" | "oneOf" | "not" | "if" | "contains" => 2,
        _ => 1,
    }
}

/// Calls `each` with every part directly within the schema.
fn parts<'a>(
    schema: &'a Map<String, Value>,
    each: &mut dyn FnMut(Judges<'a>, u64, &'a Value) -> Option<()>,
) -> Option<()> {
    let named = schema.get("properties").and_then(Value::as_object);
    // What is still to be judged is found by judging the neighbours again.
    let neighbours =
        ["unevaluatedProperties", "unevaluatedItems"].iter().any(|key| schema.contains_key(*key));
    let again = if neighbours { 3 } else { 1 };
    for (keyword, value) in schema {
        let times = times(keyword).saturating_mul(again);
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => {
                inner.iter().try_for_each(|part| each(Judges::Same, times, part))?;
            }
            ("not" | "if" | "then" | "else", part) => each(Judges::Same, times, part)?,
            ("dependentSchemas" | "dependencies", Value::Object(inner)) => {
                let schemas = inner.values().filter(|part| !part.is_array());
                schemas.into_iter().try_for_each(|part| each(Judges::Same, times, part))?;
            }
            ("properties", Value::Object(inner)) => {
                inner.iter().try_for_each(|(name, part)| each(Judges::Property(name), times, part))?;
            }
            ("patternProperties", Value::Object(inner)) => {
                inner.values().try_for_each(|part| each(Judges::Others(None), times, part))?;
            }
            ("additionalProperties", part) => each(Judges::Others(named), times, part)?,
            ("unevaluatedProperties", part) => each(Judges::Others(None), times, part)?,
            ("propertyNames", part) => each(Judges::Names, times, part)?,
            ("items" | "prefixItems", Value::Array(inner)) => {
                let mut places = inner.iter().enumerate();
                places.try_for_each(|(n, part)| each(Judges::Item(n), times, part))?;
            }
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", part) => {
                each(Judges::Items, times, part)?;
            }
            _ => {}
        }
    }
    Some(())
}

/// The references that stand in the schema.
fn references(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    ["$ref", "$dynamicRef", "$recursiveRef"].into_iter().filter_map(|key| schema.get(key)?.as_str())
}

/// Counts a schema alone.
struct Survey<'a> {
    root: &'a Value,
    names: &'a Names,
    /// `None` while a part is counted: who meets it then is part of a circle.
    known: HashMap<(*const Value, *const Value), Option<Cost>>,
    /// Of all patterns together.
    states: u64,
}

impl<'a> Survey<'a> {
    fn part(&mut self, part: Part<'a>, depth: usize) -> Option<Cost> {
        if depth > MOST_DEPTH {
            return None;
        }
        let Some(schema) = part.schema.as_object() else {
            return Some(Cost { visits: 1, per_byte: 0, expanded: 1, depth: 1 });
        };
        let key = (std::ptr::from_ref(part.schema), std::ptr::from_ref(part.base));
        match self.known.get(&key) {
            Some(Some(cost)) => {
                let cost = *cost;
                return (depth.saturating_add(cost.depth) <= MOST_DEPTH).then_some(cost);
            }
            // How often it goes round, only the arguments can tell.
            Some(None) => return Some(Cost { visits: u64::MAX, per_byte: u64::MAX, expanded: 1, depth: 1 }),
            None => {}
        }
        if self.known.len() as u64 >= MOST_NODES {
            return None;
        }
        self.known.insert(key, None);
        let own = own(schema);
        self.states = self.states.saturating_add(own.states);
        if self.states > MOST_STATES {
            return None;
        }
        let mut cost = Cost { visits: own.visits, per_byte: own.per_byte(), expanded: 1, depth: 0 };
        if own.unique {
            cost.visits = cost.visits.saturating_add(PAIRS);
        }
        let mut inner = Vec::new();
        parts(schema, &mut |_, times, schema| {
            inner.push((times, part.inner(schema)));
            Some(())
        })?;
        for reference in references(schema) {
            match self.names.resolve(self.root, part, reference) {
                Some(meant) => inner.push((1, meant)),
                // It leads out of the document: the compiler says whether it leads anywhere, and nothing counts what it costs.
                None => cost.add(1, Cost { visits: u64::MAX, ..Cost::default() }),
            }
        }
        for (times, inner) in inner {
            cost.add(times, self.part(inner, depth.saturating_add(1))?);
        }
        cost.depth = cost.depth.saturating_add(1);
        self.known.insert(key, Some(cost));
        Some(cost)
    }
}

impl Own {
    fn per_byte(&self) -> u64 {
        let matching = if self.states > 0 { self.states / STATES_AT_ONCE + 1 } else { 0 };
        let back = if self.goes_back { GOES_BACK } else { 0 };
        matching.saturating_add(back).saturating_add(u64::from(self.reads_text))
    }

    /// The work with one text.
    fn with_text(&self, text: &str) -> u64 {
        let bytes = text.len() as u64;
        let matching = self.states.saturating_mul(bytes) / STATES_AT_ONCE;
        let back = if self.goes_back { GOES_BACK } else { 0 };
        let reading = if self.reads_text { bytes / 16 } else { 0 };
        matching.saturating_add(back).saturating_add(reading)
    }
}

impl Cost {
    fn add(&mut self, times: u64, inner: Self) {
        self.visits = self.visits.saturating_add(inner.visits.saturating_mul(times));
        self.per_byte = self.per_byte.saturating_add(inner.per_byte.saturating_mul(times));
        self.expanded = self.expanded.saturating_add(inner.expanded);
        self.depth = self.depth.max(inner.depth);
    }
}

/// Counts a schema together with arguments, until the budget is spent.
struct Walk<'p> {
    plan: &'p Plan,
    left: u64,
}

impl<'p> Walk<'p> {
    fn spend(&mut self, units: u64) -> Option<()> {
        self.left = self.left.checked_sub(units)?;
        Some(())
    }

    fn part(&mut self, part: Part<'p>, value: &Value, times: u64, steps: usize) -> Option<()> {
        if steps > MOST_STEPS {
            return None;
        }
        let Some(schema) = part.schema.as_object() else {
            return self.spend(times);
        };
        let own = own(schema);
        let mut units = own.visits;
        match value {
            Value::String(text) => units = units.saturating_add(own.with_text(text)),
            Value::Object(map) if own.states > 0 => {
                let names = map.keys().map(|name| own.with_text(name)).fold(0, u64::saturating_add);
                units = units.saturating_add(names);
            }
            Value::Array(_) if own.unique => {
                units = units.saturating_add(count(value, self.left).saturating_mul(PAIRS));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {}
        }
        self.spend(units.saturating_mul(times))?;
        let steps = steps.saturating_add(1);
        for reference in references(schema) {
            let meant = self.plan.names.resolve(&self.plan.schema, part, reference)?;
            self.part(meant, value, times, steps)?;
        }
        parts(schema, &mut |judges, more, inner| {
            let (inner, times) = (part.inner(inner), times.saturating_mul(more));
            match (judges, value) {
                (Judges::Same, value) => self.part(inner, value, times, steps),
                (Judges::Property(name), Value::Object(map)) => match map.get(name) {
                    Some(value) => self.part(inner, value, times, steps),
                    None => Some(()),
                },
                (Judges::Others(named), Value::Object(map)) => map
                    .iter()
                    .filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)))
                    .try_for_each(|(_, value)| self.part(inner, value, times, steps)),
                (Judges::Names, Value::Object(map)) => map
                    .keys()
                    .try_for_each(|name| self.part(inner, &Value::from(name.as_str()), times, steps)),
                (Judges::Item(n), Value::Array(items)) => match items.get(n) {
                    Some(value) => self.part(inner, value, times, steps),
                    None => Some(()),
                },
                (Judges::Items, Value::Array(items)) => {
                    items.iter().try_for_each(|value| self.part(inner, value, times, steps))
                }
                (
                    Judges::Property(_) | Judges::Others(_) | Judges::Names | Judges::Item(_) | Judges::Items,
                    _,
                ) => Some(()),
            }
        })
    }
}
