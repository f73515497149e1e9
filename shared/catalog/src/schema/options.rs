//! How schemas are compiled: the dialect, the formats, and the limits of their regular expressions.

use jsonschema::{FancyRegex, PatternOptions};

/// A schema that needs backtracking is checked with at most this many steps for one match.
const BACKTRACK_STEPS: usize = 10_000;
/// The most bytes that one regular expression may compile to. One that needs more is left to the server.
const PATTERN_BYTES: usize = 1024 * 1024;
/// The most bytes of states that matching keeps for one regular expression.
const MATCHING_BYTES: usize = 128 * 1024;

/// How every schema is compiled.
pub(super) fn options() -> jsonschema::ValidationOptions<'static> {
    // An argument that is a regular expression itself would be compiled at each call.
    jsonschema::options().with_format("regex", |_| true)
}

/// How regular expressions are compiled.
pub(super) fn patterns() -> PatternOptions<FancyRegex> {
    PatternOptions::fancy_regex()
        .backtrack_limit(BACKTRACK_STEPS)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(MATCHING_BYTES)
}
