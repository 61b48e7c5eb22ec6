//! A chart of points with two values each, as an SVG file.

use super::plot::FILE_STYLE;

const LEFT: f64 = 52.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 340.0;
/// Height of a line of the legend.
const LINE: f64 = 18.0;

/// An axis of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// The name and unit of the values.
    pub label: &'a str,
    /// The lowest value that is drawn.
    pub low: f64,
    /// The highest value that is drawn.
    pub high: f64,
    /// The distance between grid lines.
    pub step: f64,
}

impl Axis<'_> {
    fn has(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The part of the axis below a value.
    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn grid(&self) -> impl Iterator<Item = f64> {
        let [first, last] = [(self.low / self.step).ceil(), (self.high / self.step).floor()];
        let step = self.step;
        (first as i64..=last as i64).map(move |number| number as f64 * step)
    }
}

/// A point of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The values on both axes.
    pub at: [f64; 2],
    /// Whether a line connects the point with the next ones on the first axis.
    pub on_line: bool,
}

/// Draws points with numbers, and a legend of all numbers below. Points outside of the axes are in the
/// legend only, with their values. A text description for screen readers has the values of all points.
pub fn scatter(title: &str, [across, up]: [Axis<'_>; 2], points: &[Point<'_>]) -> String {
    let x = |value: f64| LEFT + (RIGHT - LEFT) * across.part(value);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * up.part(value);
    let is_drawn = |point: &Point<'_>| across.has(point.at[0]) && up.has(point.at[1]);
    let described: Vec<String> = points
        .iter()
        .map(|Point { name, at: [one, two], .. }| format!("{name}: {one:.1}, {two:.1}"))
        .collect();
    let height = BOTTOM + 52.0 + LINE * points.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height:.0}\" role=\"img\">\
         <title>{title}</title><desc>{}, {}. {}</desc>{FILE_STYLE}",
        RIGHT + 20.0,
        across.label,
        up.label,
        described.join("; ")
    );
    for value in across.grid() {
        let at = x(value);
        svg += &format!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\"/>");
        svg += &format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>", BOTTOM + 16.0);
    }
    for value in up.grid() {
        let at = y(value);
        svg += &format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\"/>");
        let (left, base) = (LEFT - 6.0, at + 4.0);
        svg += &format!("<text x=\"{left}\" y=\"{base:.1}\" text-anchor=\"end\">{value}</text>");
    }
    svg += &format!(
        "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">across: {}; up: {}</text>",
        BOTTOM + 36.0,
        across.label,
        up.label
    );
    let mut line: Vec<&Point<'_>> = points.iter().filter(|point| point.on_line && is_drawn(point)).collect();
    line.sort_by(|one, other| one.at[0].total_cmp(&other.at[0]));
    let corners: Vec<String> =
        line.iter().map(|point| format!("{:.1},{:.1}", x(point.at[0]), y(point.at[1]))).collect();
    svg += &format!("<polyline class=\"mean\" fill=\"none\" points=\"{}\"/>", corners.join(" "));
    for (number, point) in points.iter().enumerate() {
        let [one, two] = point.at;
        let mut legend = format!("{} {}", number + 1, point.name);
        if is_drawn(point) {
            let (at, high) = (x(one), y(two));
            svg += &format!("<circle cx=\"{at:.1}\" cy=\"{high:.1}\" r=\"4\"/>");
            svg += &format!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", at + 5.0, high - 4.0, number + 1);
        } else {
            legend += &format!(" (outside: {one:.0}, {two:.1})");
        }
        svg +=
            &format!("<text x=\"{LEFT}\" y=\"{:.1}\">{legend}</text>", BOTTOM + 58.0 + LINE * number as f64);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_outside_of_the_axes_are_in_the_legend() {
        let axis = Axis { label: "x", low: -10.0, high: 0.0, step: 5.0 };
        let point = |name, at| Point { name, at, on_line: true };
        let points = [point("in", [-5.0, -5.0]), point("out", [-5.0, -20.0]), point("edge", [0.0, -10.0])];
        let svg = scatter("title", [axis, axis], &points);
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("points=\"306.0,176.0 560.0,340.0\""), "{svg}");
        assert!(svg.contains(">2 out (outside: -5, -20.0)<") && svg.contains("out: -5.0, -20.0"), "{svg}");
        assert!(!scatter("title", [axis, axis], &[]).contains("NaN"));
    }
}
