//! Estimates what a regular expression costs: how many states it has, and whether matching it may go back.

/// A class of characters counts for several states.
const CLASS: u64 = 8;
/// Beyond this many it is not compiled.
pub(super) const MOST_STATES: u64 = 50_000;

/// About how many states the expression has once its counted repetitions are written out.
pub(super) fn states(pattern: &str) -> u64 {
    // The sum of each open group, and the cost of what stands before the current place.
    let mut sums: Vec<u64> = Vec::new();
    let (mut sum, mut last) = (0_u64, 0_u64);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let simple = chars.next().is_none_or(|c| !c.is_ascii_alphabetic());
                if !in_class {
                    last = if simple { 1 } else { CLASS };
                    sum = sum.saturating_add(last);
                }
            }
            ']' if in_class => in_class = false,
            _ if in_class => {}
            '[' => {
                in_class = true;
                last = CLASS;
                sum = sum.saturating_add(last);
            }
            '(' => {
                sums.push(sum);
                (sum, last) = (0, 0);
            }
            ')' => {
                last = sum.max(1);
                sum = sums.pop().unwrap_or(0).saturating_add(last);
            }
            '{' => {
                let mut most = 0_u64;
                let mut number = 0_u64;
                while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == ',') {
                    number = c
                        .to_digit(10)
                        .map_or(0, |digit| number.saturating_mul(10).saturating_add(u64::from(digit)));
                    most = most.max(number);
                }
                let more = last.saturating_mul(most.max(1).saturating_sub(1));
                last = last.saturating_add(more);
                sum = sum.saturating_add(more);
            }
            '.' => {
                last = CLASS;
                sum = sum.saturating_add(last);
            }
            _ => {
                last = 1;
                sum = sum.saturating_add(1);
            }
        }
    }
    sums.into_iter().fold(sum, u64::saturating_add)
}

/// Whether it looks around or back, so that matching it may try many ways.
pub(super) fn goes_back(pattern: &str) -> bool {
    let back = |pair: &[u8]| matches!(pair, [b'\\', b'1'..=b'9' | b'k']);
    ["(?=", "(?!", "(?<=", "(?<!", "(?>"].iter().any(|sign| pattern.contains(sign))
        || pattern.as_bytes().windows(2).any(back)
}
