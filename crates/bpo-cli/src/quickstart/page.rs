//! `report/index.html`: metrics, training curves and some answers, in one self-contained file.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bpo::BpoError;
use bpo::dpo::StepMetrics;
use bpo::eval::{ChairItem, Estimate};
use bpo::pairs::format::jsonl::JsonLines;
use minijinja::{AutoEscape, Environment, Value, context};

use super::plot::{Line, chart};
use super::recipe::SFT_WEIGHT;
use super::splits::Splits;
use super::summary::Summary;
use super::{Model, PEERS};

const TEMPLATE: &str = include_str!("page.html.jinja");
/// Number of images shown: the first ones of the split.
const SHOWN: usize = 24;

/// Number of steps that a point of a curve is the mean of.
const SMOOTHED: usize = 8;

/// Rows of the table of metrics: name in the summary, and label.
const ROWS: [(&str, &str); 9] = [
    ("chair_i", "CHAIR_i: mentioned objects that are not in the image"),
    ("chair_s", "CHAIR_s: descriptions with such an object"),
    ("recall", "Recall: objects in the image that are mentioned"),
    ("precision", "Precision"),
    ("f1", "F1"),
    ("yes_no_accuracy", "Yes or no: accuracy"),
    ("yes_no_f1", "Yes or no: F1"),
    ("yes_ratio", "Yes or no: share of yes"),
    ("words", "Words per description"),
];

/// Renders the page. `models` are in the order of the columns; the first is the model before
/// training.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub fn page(summary: &Summary, models: &[Model], splits: &Splits) -> Result<String, BpoError> {
    let columns: Vec<&str> = models.iter().map(|model| model.title).collect();
    let parts = [
        (
            "Counterfactual images",
            "Objects that usually occur together never do here, and most colours are unusual. No training image is like these.",
        ),
        ("Usual images", "New images of the same kind as the training images."),
    ];
    let parts: Vec<Value> = parts
        .into_iter()
        .zip(&splits.evaluation)
        .map(|((title, text), evaluated)| {
            let split = &summary.splits[evaluated.name];
            let rows: Vec<Value> = ROWS
                .into_iter()
                .map(|(metric, label)| {
                    let cells = models.iter().map(|model| cell(metric, split.models[model.name].get(metric)));
                    context! { label, cells => cells.collect::<Vec<_>>() }
                })
                .collect();
            let peers = models.iter().filter(|model| PEERS.contains(&model.name));
            let changes = peers.filter_map(|model| {
                let change = split.change.get(model.name)?;
                Some(context! { to => model.title, change => percent(*change)? })
            });
            context! { title, text, rows, changes => changes.collect::<Vec<_>>() }
        })
        .collect();
    let Summary { inputs, weakened, pairs, steps, seconds, .. } = summary;
    let share = |value: Option<f64>| value.map(|value| format!("{:.1}", 100.0 * value));
    let seconds: Vec<String> =
        seconds.iter().map(|(what, seconds)| format!("{what} {seconds:.0} s")).collect();
    let context = context! {
        seed => inputs.seed, images => inputs.images_of_each_split, validation => inputs.is_validation(),
        partial => inputs.size().is_partial(), pairs, steps, columns, splits => parts, smoothed => SMOOTHED, weight => SFT_WEIGHT,
        lead => lead(summary, splits),
        weakened => context! {
            distortion => weakened.distortion.clone(), answers => weakened.answers,
            alpha_bar => share(Some(weakened.alpha_bar)),
            chair_i => share(weakened.chair_i), recall => share(weakened.recall),
        },
        seconds => seconds.join(", "),
        charts => charts(models)?,
        gallery => gallery(models, splits)?,
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.render_str(TEMPLATE, context);
    Ok(page.expect("the template is part of the program and has a test"))
}

/// CHAIR_i on the counterfactual images before training, after SFT and after BPO. `None` if a model
/// mentioned no object.
fn lead(summary: &Summary, splits: &Splits) -> Option<Value> {
    let models = &summary.splits[splits.evaluation[0].name].models;
    let chair = |name: &str| Some(format!("{:.1}", 100.0 * models.get(name)?.get("chair_i").value?));
    Some(context! { before => chair("before")?, sft => chair("sft")?, after => chair("after")? })
}

fn cell(metric: &str, estimate: Estimate) -> Value {
    let Estimate { value, low, high } = estimate;
    let scale = if metric == "words" { 1.0 } else { 100.0 };
    let show = |value: Option<f64>| value.map(|value| format!("{:.1}", scale * value));
    context! { value => show(value), low => show(low), high => show(high) }
}

/// A relative change in percent. `None` if the model before mentioned no object.
fn percent(Estimate { value, low, high }: Estimate) -> Option<String> {
    let show = |value: f64| format!("{:+.0} %", 100.0 * value);
    Some(format!("{} [{}, {}]", show(value?), show(low?), show(high?)))
}

fn charts(models: &[Model]) -> Result<Vec<Value>, BpoError> {
    let mut trained = Vec::new();
    for model in models {
        let Some(metrics) = &model.metrics else { continue };
        let mut steps: Vec<StepMetrics> = Vec::new();
        for line in JsonLines::open(metrics)? {
            steps.push(line?.1);
        }
        trained.push((model.title, steps));
    }
    type Metric = fn(&StepMetrics) -> f64;
    let metrics: [(&str, &str, Metric); 3] = [
        ("loss", "Loss", |step| step.loss),
        ("margin", "Reward margin", |step| step.rewards_margins),
        ("chosen", "Log-probability of the chosen answers, nats", |step| step.logps_chosen),
    ];
    let chart = |(id, title, metric): (&str, &str, Metric)| {
        let line = |(name, steps): &(&'static str, Vec<StepMetrics>)| Line {
            name,
            values: smooth(&steps.iter().map(metric).collect::<Vec<_>>()),
        };
        let lines: Vec<Line<'_>> = trained.iter().map(line).collect();
        let drawn = lines.iter().enumerate().filter(|(_, line)| line.is_drawn());
        let names = drawn.map(|(number, line)| context! { number, name => line.name });
        let names: Vec<Value> = names.collect();
        context! { title, names, svg => Value::from_safe_string(chart(id, title, &lines)) }
    };
    Ok(metrics.into_iter().map(chart).collect())
}

/// The means over each step and the steps before it, up to [`SMOOTHED`] steps.
fn smooth(values: &[f64]) -> Vec<f64> {
    let mean = |end: usize| {
        let window = &values[(end + 1).saturating_sub(SMOOTHED)..=end];
        let known: Vec<f64> = window.iter().copied().filter(|value| value.is_finite()).collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    (0..values.len()).map(mean).collect()
}

fn gallery(models: &[Model], splits: &Splits) -> Result<Vec<Value>, BpoError> {
    let Some(first) = models.first() else { return Ok(Vec::new()) };
    let shown = first.scored[0].chair.iter().take(SHOWN).enumerate();
    let show = |(index, item): (usize, &ChairItem)| {
        let path = splits.train.images.join(&item.image);
        let there = splits.evaluation[0].truth.of(&item.image).into_iter().flatten();
        let there = there.map(String::as_str).collect::<Vec<_>>().join(", ");
        let bytes = std::fs::read(&path).map_err(|source| BpoError::Io { action: "read", path, source })?;
        let answers = models
            .iter()
            .map(|model| context! { model => model.title, parts => marked(&model.scored[0].chair[index]) });
        // without escaped slashes, which browsers read alike
        let picture = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes));
        let picture = Value::from_safe_string(picture);
        Ok(context! { picture, there, answers => answers.collect::<Vec<_>>() })
    };
    shown.map(show).collect()
}

/// The answer in parts, each with its class: text, an object in the image, or an object that is
/// not.
fn marked(item: &ChairItem) -> Vec<Value> {
    let part = |class: &'static str, text: &str| context! { class, text };
    let (mut parts, mut from) = (Vec::new(), 0);
    for (mention, there) in &item.mentions {
        parts.push(part("", &item.text[from..mention.start]));
        let class = if *there { "there" } else { "absent" };
        parts.push(part(class, &item.text[mention.start..mention.end]));
        from = mention.end;
    }
    parts.push(part("", &item.text[from..]));
    parts
}
