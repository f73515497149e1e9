//! How waits depend on the number of workers, as numbers and as an SVG picture.

use std::fmt::Write as _;

use super::waiting::{Service, Wait};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 56.0;

/// The waits with a few workers less and more than proposed.
pub(super) fn waits(service: &Service, rate: f64, slots: u32, proposed: u32) -> Vec<(u32, Option<Wait>)> {
    let step = (proposed / 10).max(1);
    let first = proposed.saturating_sub(2 * step).max(1);
    (0..6)
        .map(|n| first.saturating_add(n * step))
        .map(|workers| (workers, service.wait(rate, workers.saturating_mul(slots))))
        .collect()
}

/// A picture of the 95th percentile, with the bound that was asked for.
pub(super) fn svg(waits: &[(u32, Option<Wait>)], proposed: u32, bound_s: f64) -> String {
    let points: Vec<_> =
        waits.iter().filter_map(|(workers, wait)| Some((*workers, (*wait)?.quantile_s(95.0)))).collect();
    let (first, last) = (waits.first().map_or(0, |w| w.0), waits.last().map_or(1, |w| w.0));
    let top = points.iter().map(|point| point.1).fold(bound_s, f64::max).min(bound_s * 4.0).max(0.001);
    let x = |workers: u32| {
        MARGIN + f64::from(workers - first) / f64::from((last - first).max(1)) * (WIDTH - 2.0 * MARGIN)
    };
    let y = |s: f64| HEIGHT - MARGIN - (s.min(top) / top) * (HEIGHT - 2.0 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\">95 of 100 calls wait at most, in seconds, by number of workers</text>\n"
    );
    // A String takes whatever is written.
    let mut add = |line: String| {
        let _written = writeln!(text, "{line}");
    };
    let (left, right, bottom) = (MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN);
    add(format!("<path d=\"M{left} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>"));
    let at = y(bound_s);
    add(format!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#b00\" stroke-dasharray=\"4\"/>"));
    add(format!(
        "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#b00\">asked for: {bound_s} s</text>",
        at - 4.0
    ));
    let line: Vec<_> = points.iter().map(|(workers, s)| format!("{:.1},{:.1}", x(*workers), y(*s))).collect();
    add(format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>",
        line.join(" ")
    ));
    for (workers, s) in &points {
        let (x, y, size) = (x(*workers), y(*s), if *workers == proposed { 6 } else { 3 });
        add(format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size}\" fill=\"#06c\"><title>{workers} workers: {s:.3} s</title></circle>"
        ));
    }
    for (workers, _) in waits {
        add(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{workers}</text>",
            x(*workers),
            bottom + 18.0
        ));
    }
    add(format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{top:.2}</text>",
        left - 6.0,
        MARGIN + 4.0
    ));
    text.push_str("</svg>\n");
    text
}
