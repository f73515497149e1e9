//! The plot of a run as SVG: throughput and latency percentiles over time.

use std::path::Path;

use anyhow::Context as _;
use plotters::prelude::*;

use crate::report::Report;
use crate::time_series::Span;

const SIZE: (u32, u32) = (1000, 700);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Line = (&'static str, RGBColor, fn(&Span) -> f64);

/// Writes the plot.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = paint(report, &root);
    drawn.with_context(|| format!("cannot write the plot to {}", file.display()))
}

fn paint(report: &Report, root: &Area<'_>) -> anyhow::Result<()> {
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1 / 2);
    let title = format!("{} calls ({}), {}", report.calls, report.mode, report.mix);
    chart(report, &above, &title, "calls/s", &[("calls/s", BLUE, |span| span.calls_per_s)])?;
    let percentiles: [Line; 3] = [
        ("p50", GREEN, |span| span.p50_ms as f64),
        ("p95", MAGENTA, |span| span.p95_ms as f64),
        ("p99", RED, |span| span.p99_ms as f64),
    ];
    chart(report, &below, "send to result", "ms", &percentiles)?;
    root.present()?;
    Ok(())
}

fn chart(report: &Report, area: &Area<'_>, title: &str, unit: &str, lines: &[Line]) -> anyhow::Result<()> {
    let spans = &report.series;
    let until_s = spans.last().map_or(1.0, |span| span.until_s);
    let values = spans.iter().flat_map(|span| lines.iter().map(move |(_, _, value)| value(span)));
    let highest = values.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..until_s, 0.0..highest)?;
    chart.configure_mesh().x_desc("s").y_desc(unit).light_line_style(WHITE).draw()?;
    for (name, colour, value) in lines {
        let points = spans.iter().map(|span| (span.until_s, value(span)));
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(points, &colour))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    // Each fault is a vertical line.
    for fault in &report.faults {
        let line = [(fault.at_s, 0.0), (fault.at_s, highest)];
        chart.draw_series(LineSeries::new(line, &BLACK))?.label(fault.kind.name());
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}
