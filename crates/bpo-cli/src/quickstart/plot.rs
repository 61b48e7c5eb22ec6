//! Charts as SVG. Charts in the page use the page's colours, in the light and the dark scheme.

use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
/// Space for the numbers at the left and below.
const LEFT: f64 = 44.0;
const BELOW: f64 = 24.0;
/// Maximum number of grid lines, minus one.
const RULES: usize = 5;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// One value per step, from step 1.
    pub values: Vec<f64>,
}

impl Line<'_> {
    /// Whether there is a value to draw. Losses that do not compare answers have no margins.
    pub fn is_drawn(&self) -> bool {
        self.values.iter().any(|value| value.is_finite())
    }
}

/// A line chart of values over steps, with a text description for screen readers.
pub fn chart(id: &str, title: &str, lines: &[Line<'_>]) -> String {
    let finite = || lines.iter().flat_map(|line| &line.values).copied().filter(|value| value.is_finite());
    let (mut low, mut high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::MIN, f64::max));
    if high <= low {
        (low, high) = if low.is_finite() { (low - 0.5, low + 0.5) } else { (0.0, 1.0) };
    }
    let steps = lines.iter().map(|line| line.values.len()).max().unwrap_or_default().max(2);
    let x = |step: usize| LEFT + (WIDTH - LEFT - 8.0) * step as f64 / (steps - 1) as f64;
    let y = |value: f64| 8.0 + (HEIGHT - BELOW - 8.0) * (high - value) / (high - low);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-text\">{}</desc>",
        describe(lines)
    );
    let mut put =
        |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string cannot fail");
    for value in ticks(low, high) {
        let (at, right) = (y(value), WIDTH - 8.0);
        put(format_args!(
            "<line class=\"rule\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>"
        ));
        put(format_args!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    for (step, anchor) in [(1, "start"), (steps / 2, "middle"), (steps, "end")] {
        let at = x(step.max(1) - 1);
        put(format_args!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{step}</text>",
            HEIGHT - 6.0
        ));
    }
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.is_drawn()) {
        let values = line.values.iter().enumerate().filter(|(_, value)| value.is_finite());
        let points: Vec<String> =
            values.map(|(step, value)| format!("{:.1},{:.1}", x(step), y(*value))).collect();
        put(format_args!("<polyline class=\"line line-{number}\" points=\"{}\"/>", points.join(" ")));
    }
    svg.push_str("</svg>");
    svg
}

/// A few round numbers from `low` to `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / RULES as f64;
    let ten = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * ten).find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // rounded to decimals, so that 3 * 0.1 prints as 0.3
    let round = |value: f64| format!("{value:.6}").parse().unwrap_or(value);
    (first..=last).map(|number| round(number as f64 * step)).collect()
}

fn describe(lines: &[Line<'_>]) -> String {
    let ends = lines.iter().filter(|line| line.is_drawn()).filter_map(|line| {
        let (first, last) = line.values.first().zip(line.values.last())?;
        Some(format!("{}: from {first:.2} to {last:.2} in {} steps", line.name, line.values.len()))
    });
    ends.collect::<Vec<_>>().join("; ")
}

/// The values of one row of a dot plot.
#[derive(Clone, Debug)]
pub struct Dots<'a> {
    /// The name of the row.
    pub name: &'a str,
    /// One dot per value.
    pub values: Vec<f64>,
}

/// The style of a chart in a file of its own, with a light and a dark scheme.
pub const FILE_STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#333}\
    circle{fill:#1f5fbf;fill-opacity:.75}line{stroke:#ccc}.mean{stroke:#1f5fbf;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}circle{fill:#7fb2ff}line{stroke:#555}.mean{stroke:#7fb2ff}}\
    </style>";

/// Dot plots below each other, as an SVG file with a light and a dark scheme.
pub fn dots(title: &str, parts: &[(&str, Vec<Dots<'_>>)]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 140.0;
    let height: f64 = parts.iter().map(|(_, rows)| ROW * (rows.len() as f64 + 2.2)).sum();
    let values = || parts.iter().flat_map(|(_, rows)| rows).flat_map(|row| &row.values);
    let high = values().copied().fold(1.0, f64::max);
    let x = |value: f64| NAMES + (WIDTH + 100.0 - NAMES - 20.0) * value / high;
    let text: Vec<String> = parts
        .iter()
        .flat_map(|(part, rows)| {
            rows.iter().map(move |row| format!("{part} {}: {:.1?}", row.name, row.values))
        })
        .collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" role=\"img\"><title>{title}</title>\
         <desc>{}</desc>{FILE_STYLE}",
        WIDTH + 100.0,
        text.join("; ")
    );
    let mut top = 0.0;
    for (part, rows) in parts {
        svg += &format!("<text x=\"{NAMES}\" y=\"{:.1}\" font-weight=\"bold\">{part}</text>", top + 16.0);
        for (number, row) in rows.iter().enumerate() {
            let y = top + ROW * (number as f64 + 1.4);
            svg += &format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                NAMES - 10.0,
                y + 4.0,
                row.name
            );
            svg += &format!("<line x1=\"{NAMES}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>", x(high));
            let mean = row.values.iter().sum::<f64>() / row.values.len().max(1) as f64;
            svg += &format!(
                "<line class=\"mean\" x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\"/>",
                x(mean),
                y - 8.0,
                y + 8.0
            );
            for value in &row.values {
                svg += &format!("<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"/>", x(*value));
            }
        }
        let bottom = top + ROW * (rows.len() as f64 + 1.2);
        for tick in 0..=4 {
            let value = high * f64::from(tick) / 4.0;
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{value:.0}</text>",
                x(value)
            );
        }
        top += ROW * (rows.len() as f64 + 2.2);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_values_can_be_plotted() {
        for values in [vec![], vec![1.0], vec![2.0, 2.0, 2.0], vec![f64::NAN, 1.0, -3.0]] {
            let svg = chart("a", "Loss", &[Line { name: "one", values }]);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN,"), "{svg}");
        }
        let svg = chart("a", "Loss", &[Line { name: "one", values: vec![3.0, 1.0] }]);
        assert!(svg.contains("one: from 3.00 to 1.00 in 2 steps"), "{svg}");
    }
}
