//! The tool `search_tools`: finds published tools by words (BM25 over name, description and parameter names).

use std::collections::HashMap;

/// How fast the weight of a repeated word is used up (k1), and how much a long text counts against it (b): the usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// How many words of a query are looked for: each one costs a look at all tools.
const MAX_WORDS: usize = 32;
/// A word of the name counts as often as this.
const NAME_WEIGHT: usize = 3;

/// A tool as it is searched.
pub(crate) struct Searched {
    words: HashMap<String, usize>,
    count: usize,
}

impl Searched {
    /// What is searched of a tool.
    pub(crate) fn of<'a>(name: &str, description: &str, parameters: impl Iterator<Item = &'a str>) -> Self {
        let name: Vec<String> = words(name).collect();
        let rest =
            words(description).chain(parameters.flat_map(|parameter| words(parameter).collect::<Vec<_>>()));
        let mut counted = HashMap::new();
        let mut count = 0;
        for word in std::iter::repeat_n(name, NAME_WEIGHT).flatten().chain(rest) {
            *counted.entry(word).or_default() += 1;
            count += 1;
        }
        Self { words: counted, count }
    }
}

/// The words of a text in lower case; `getWeather` and `get_weather` have two.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in text.chars() {
        let begins = c.is_uppercase() && after_lower;
        if !c.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words.into_iter().map(stem)
}

/// Without the ending of a plural.
fn stem(word: String) -> String {
    match word.strip_suffix('s') {
        Some(one) if one.len() > 2 && !one.ends_with('s') => one.to_owned(),
        Some(_) | None => word,
    }
}

/// The places of the tools that fit, the best first; equal ones in their order.
#[expect(clippy::cast_precision_loss, reason = "counts of words")]
pub(crate) fn search(query: &str, tools: &[Searched], most: usize) -> Vec<usize> {
    let total = tools.len() as f64;
    let average = (tools.iter().map(|tool| tool.count).sum::<usize>() as f64 / total.max(1.0)).max(1.0);
    let mut query: Vec<String> = words(query).collect();
    query.sort_unstable();
    query.dedup();
    query.truncate(MAX_WORDS);
    let mut scores = vec![0.0; tools.len()];
    for word in &query {
        let having = tools.iter().filter(|tool| tool.words.contains_key(word)).count() as f64;
        let rarity = (1.0 + (total - having + 0.5) / (having + 0.5)).ln();
        for (score, tool) in scores.iter_mut().zip(tools) {
            let times = tool.words.get(word).copied().unwrap_or_default() as f64;
            *score +=
                rarity * times * (K1 + 1.0) / (times + K1 * (1.0 - B + B * tool.count as f64 / average));
        }
    }
    let mut found: Vec<(usize, f64)> =
        scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0).collect();
    found.sort_by(|(a, one), (b, other)| other.total_cmp(one).then(a.cmp(b)));
    found.into_iter().take(most).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Searched> {
        let of = |name: &str, description: &str, parameters: &[&str]| {
            Searched::of(name, description, parameters.iter().copied())
        };
        vec![
            of("list_orders", "Lists the orders of a customer.", &["customerId"]),
            of("getWeather", "The weather of a city today.", &["city"]),
            of("crm__find", "Finds a customer by name.", &["name"]),
        ]
    }

    #[test]
    fn the_best_tool_is_first() {
        assert_eq!(search("weather in a city", &tools(), 10).first(), Some(&1));
        assert_eq!(search("ORDER", &tools(), 10), [0]);
        assert_eq!(search("customer orders", &tools(), 10), [0, 2]);
        assert_eq!(search("customer id", &tools(), 1), [0]);
    }

    #[test]
    fn what_does_not_fit_is_not_found() {
        assert!(search("translate", &tools(), 10).is_empty());
        assert!(search("", &tools(), 10).is_empty());
        assert!(search("weather", &[], 10).is_empty());
    }
}
