//! The stylesheet: each colour of a text has enough contrast with what it stands on, in light and in dark (WCAG 2.2, 1.4.3 and 1.4.11).

use std::collections::{BTreeMap, BTreeSet};

const STYLE: &str = include_str!("../../assets/console.css");

/// Text on what it stands on: 4.5 to 1.
const TEXTS: [(&str, &str); 10] = [
    ("text", "page"),
    ("text", "panel"),
    ("soft", "page"),
    ("soft", "panel"),
    ("link", "page"),
    ("link", "panel"),
    ("bad", "page"),
    ("bad", "panel"),
    ("warn", "page"),
    ("warn", "panel"),
];
/// Borders of fields, bars, plots and the focus on what they stand on: 3 to 1.
const SHAPES: [(&str, &str); 9] = [
    ("edge", "page"),
    ("edge", "panel"),
    ("plot-good", "page"),
    ("plot-tool", "page"),
    ("plot-bad", "page"),
    ("plot-bad", "panel"),
    ("focus", "page"),
    ("focus", "panel"),
    ("bar", "panel"),
];
/// Lines that only part what is apart anyway.
const DECORATION: [&str; 1] = ["line"];

fn colours(block: &str) -> BTreeMap<&str, [f64; 3]> {
    let declared = block.lines().filter_map(|line| {
        let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
        let value = value.strip_suffix(';').unwrap();
        assert_eq!(value.len(), 6, "{name}: {value}");
        let part = |at: usize| f64::from(u8::from_str_radix(&value[at..at + 2], 16).unwrap()) / 255.0;
        Some((name, [part(0), part(2), part(4)]))
    });
    declared.collect()
}

/// The colours of light, and of dark.
fn themes() -> [BTreeMap<&'static str, [f64; 3]>; 2] {
    let mut blocks = STYLE.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap());
    [colours(blocks.next().unwrap()), colours(blocks.next().unwrap())]
}

fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn each_pair_of_colours_has_enough_contrast() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    for (theme, colours) in ["light", "dark"].into_iter().zip(themes()) {
        for (pairs, least) in [(&TEXTS[..], 4.5), (&SHAPES[..], 3.0)] {
            for (above, below) in pairs {
                let found = contrast(colours[above], colours[below]);
                assert!(found >= least, "{theme}: {above} on {below} has {found:.2}, needs {least}");
            }
        }
    }
}

#[test]
fn no_colour_is_left_out() {
    let named: BTreeSet<_> =
        TEXTS.iter().chain(&SHAPES).flat_map(|(above, below)| [*above, *below]).chain(DECORATION).collect();
    for colours in themes() {
        assert_eq!(colours.keys().copied().collect::<BTreeSet<_>>(), named);
    }
    // Colours are named at the top and nowhere else, and each that is used is named.
    let rest = STYLE.split("* { box-sizing").nth(1).unwrap();
    assert!(!rest.contains('#') && !rest.contains("rgb"), "a colour stands in a rule");
    for used in rest.split("var(--").skip(1) {
        let name = used.split(')').next().unwrap();
        assert!(named.contains(name), "{name} is not declared");
    }
}
