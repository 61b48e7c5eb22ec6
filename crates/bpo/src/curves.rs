//! Plots of the training metrics.

use std::fs;
use std::path::Path;

use bpo_dpo::{EvalMetrics, MetricsLog, StepMetrics};
use bpo_pairs::files::write_bytes;
use image::{ImageFormat, RgbImage};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::error::BpoError;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 800;
/// Name of the bundled font. No system font has it.
const FONT: &str = "bpo";
/// The moving average covers `1 / WINDOWS` of the steps.
const WINDOWS: usize = 40;

/// Colours that people with colour vision deficiency can distinguish (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One line of a chart, as `(step, value)` points.
struct Curve {
    name: &'static str,
    points: Vec<(f64, f64)>,
    /// Whether the points are evaluations, which are few and not smoothed.
    few: bool,
}

/// Draws `metrics.jsonl` and, if it exists, `eval.jsonl` to a PNG file.
///
/// The four charts show loss, reward margin, rewards and reward accuracy over the steps. Values of
/// single steps are faint; their moving average over a fortieth of the steps is drawn on top.
///
/// # Errors
/// Returns an error if the metrics cannot be read or the file cannot be written.
pub(crate) fn draw(metrics: &Path, evaluations: &Path, out: &Path) -> Result<(), BpoError> {
    let steps = MetricsLog::<StepMetrics>::read(metrics)?;
    let evaluations =
        if evaluations.exists() { MetricsLog::<EvalMetrics>::read(evaluations)? } else { Vec::new() };
    let mut pixels = vec![0; (3 * WIDTH * HEIGHT) as usize];
    let failed = |error| BpoError::io("draw", out)(std::io::Error::other(error));
    paint(&charts(&steps, &evaluations), &mut pixels).map_err(failed)?;
    let dir = out.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(BpoError::io("create the directory", dir))?;
    let mut png = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_raw(WIDTH, HEIGHT, pixels).unwrap_or_default();
    image.write_to(&mut png, ImageFormat::Png).map_err(|error| failed(error.into()))?;
    Ok(write_bytes(out, png.get_ref())?)
}

/// Positions of legends: the loss falls, so there is room at the upper right; the other values
/// rise.
const RIGHT: SeriesLabelPosition = SeriesLabelPosition::UpperRight;
const LEFT: SeriesLabelPosition = SeriesLabelPosition::UpperLeft;
const BELOW: SeriesLabelPosition = SeriesLabelPosition::LowerRight;

struct Chart {
    title: String,
    names: SeriesLabelPosition,
    curves: Vec<Curve>,
}

/// Returns the four charts. Curves without a finite value are left out, for example rewards of a
/// loss that does not compare answers.
fn charts(steps: &[StepMetrics], evaluations: &[EvalMetrics]) -> [Chart; 4] {
    let step = |name, of: fn(&StepMetrics) -> f64| Curve {
        name,
        points: steps.iter().map(|metrics| (metrics.step as f64, of(metrics))).collect(),
        few: false,
    };
    let evaluation = |name, of: fn(&EvalMetrics) -> f64| Curve {
        name,
        points: evaluations.iter().map(|metrics| (metrics.step as f64, of(metrics))).collect(),
        few: true,
    };
    let charts = [
        ("loss", RIGHT, vec![step("training", |m| m.loss), evaluation("evaluation", |m| m.loss)]),
        (
            "reward margin",
            LEFT,
            vec![
                step("training", |m| m.rewards_margins),
                evaluation("evaluation", |m| m.rewards_margins),
                step("contrast", |m| m.rewards_contrast_margins),
            ],
        ),
        (
            "rewards",
            LEFT,
            vec![
                step("chosen", |m| m.rewards_chosen),
                step("rejected", |m| m.rewards_rejected),
                step("weakened image", |m| m.rewards_weakened),
            ],
        ),
        (
            "reward accuracy",
            BELOW,
            vec![
                step("training", |m| m.rewards_accuracies),
                evaluation("evaluation", |m| m.rewards_accuracies),
                step("contrast", |m| m.rewards_contrast_accuracies),
            ],
        ),
    ];
    charts.map(|(title, names, curves)| {
        let curves: Vec<_> = curves.into_iter().filter_map(Curve::finite).collect();
        let title = if curves.is_empty() { format!("{title}: none") } else { title.to_owned() };
        Chart { title, names, curves }
    })
}

impl Curve {
    fn finite(mut self) -> Option<Self> {
        self.points.retain(|(_, value)| value.is_finite());
        (!self.points.is_empty()).then_some(self)
    }

    /// Returns the moving average up to each point.
    fn smooth(&self) -> Vec<(f64, f64)> {
        let window = if self.few { 1 } else { (self.points.len() / WINDOWS).max(1) };
        let mean = |end: usize| {
            let part = &self.points[(end + 1).saturating_sub(window)..=end];
            part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64
        };
        self.points.iter().enumerate().map(|(end, (step, _))| (*step, mean(end))).collect()
    }
}

fn paint(charts: &[Chart], pixels: &mut [u8]) -> Drawn<()> {
    // registering the same font again is harmless
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .unwrap_or_else(|_| tracing::warn!("the font of the curves cannot be read"));
    let root = BitMapBackend::with_buffer(pixels, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, Chart { title, names, curves }) in root.split_evenly((2, 2)).iter().zip(charts) {
        let (x, y) = (range(curves, |point| point.0), range(curves, |point| point.1));
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, 20))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .label_style((FONT, 14))
            .x_desc("step")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            if !curve.few {
                let faint = colour.mix(0.25).stroke_width(1);
                chart.draw_series(LineSeries::new(curve.points.iter().copied(), faint))?;
            }
            let line = LineSeries::new(curve.smooth(), colour.stroke_width(2));
            let line = if curve.few { line.point_size(4) } else { line };
            chart
                .draw_series(line)?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        if curves.len() > 1 {
            chart
                .configure_series_labels()
                .position(names.clone())
                .label_font((FONT, 14))
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .draw()?;
        }
    }
    Ok(root.present()?)
}

/// Returns the range of the values with a margin of 3 % on each side. The range is never empty.
fn range(curves: &[Curve], of: fn(&(f64, f64)) -> f64) -> std::ops::Range<f64> {
    let values = || curves.iter().flat_map(|curve| &curve.points).map(of);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    match high - low {
        width if !width.is_finite() => 0.0..1.0,
        width if width > 0.0 => low - 0.03 * width..high + 0.03 * width,
        _ => low - 0.5..high + 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: usize, value: &str) -> String {
        format!(
            "{{\"step\":{step},\"epoch\":0.5,\"loss\":{value},\"grad_norm\":1.0,\"learning_rate\":1e-4,\"rewards/chosen\":{value},\
             \"rewards/rejected\":null,\"rewards/accuracies\":0.5,\"rewards/margins\":{value},\"logps/chosen\":-9.0,\
             \"logps/rejected\":null,\"pairs\":4,\"skipped\":false}}\n"
        )
    }

    /// Draws metrics and returns the fraction of coloured pixels.
    fn coloured(lines: &str) -> f64 {
        let dir = tempfile::tempdir().unwrap();
        let (metrics, out) = (dir.path().join("metrics.jsonl"), dir.path().join("report/curves.png"));
        fs::write(&metrics, lines).unwrap();
        draw(&metrics, &dir.path().join("eval.jsonl"), &out).unwrap();
        let image = image::open(out).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (WIDTH, HEIGHT));
        let coloured =
            image.pixels().filter(|pixel| pixel.0.iter().any(|value| *value != pixel.0[0])).count();
        coloured as f64 / f64::from(WIDTH * HEIGHT)
    }

    #[test]
    fn any_values_can_be_drawn() {
        assert_eq!(coloured(""), 0.0, "no curve");
        assert_eq!(coloured(&line(1, "null")), 0.0, "the accuracy has one point, and no line");
        assert!(coloured(&(line(1, "0.7") + &line(2, "0.7"))) > 1e-4);
        assert!(
            coloured(&(1..200).map(|step| line(step, &format!("{}", 1.0 / step as f64))).collect::<String>())
                > 1e-3
        );
    }
}
