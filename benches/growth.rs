//! How the time of a step grows with each of its sizes while the others are fixed.

use bpo_benches::shape::StepCost;
use bpo_benches::timed_process::{self, TimedProcess};
use bpo_benches::{median, ratio};

use super::{EPOCH, LoraConfig, Task};

/// Option, description and values of each size.
const SIZES: [(&str, &str, [usize; 4]); 4] = [
    ("pairs", "prompts in a step", [1, 2, 4, 8]),
    ("text", "tokens of the prompt besides the image", [48, 112, 240, 496]),
    ("answer", "tokens of an answer", [32, 64, 128, 256]),
    ("rejected", "rejected answers per chosen answer", [1, 2, 3, 4]),
];

impl Task {
    /// Prints a table for each size: the time of steps without a cached reference, and time and
    /// arithmetic relative to the first line.
    pub(super) fn grow(&self) {
        println!("{:?}, {}, {} rounds", self.arguments.preset, self.arguments.device, self.arguments.rounds);
        for (name, what, values) in SIZES {
            let start = |value: usize| {
                let size = [format!("--{name}"), value.to_string()];
                TimedProcess::again(&[self.arguments.with_way("bpo"), size.to_vec()].concat())
            };
            let mut processes = values.map(start);
            // the first two rounds are a warm-up
            let seconds = timed_process::alternate(values.len(), 2, self.arguments.rounds, |value| {
                Some(processes[value].ask("step"))
            });
            println!("{what:<38} {:>8} {:>12} {:>12}", "step, s", "of first", "arithmetic");
            for (value, taken) in values.iter().zip(&seconds) {
                let arithmetic = self.operations(name, *value) / self.operations(name, values[0]);
                let (middle, times) = (median(&mut taken.clone()), ratio(taken, &seconds[0]));
                println!("{value:>38} {middle:>8.3} {times:>12.2} {arithmetic:>12.2}");
            }
        }
        self.group();
    }

    /// Prints the effect of answers of similar length in the same step.
    fn group(&self) {
        let mut processes = ["1", "2"].map(|unequal| {
            let option = ["--unequal".to_owned(), unequal.to_owned()];
            TimedProcess::again(&[self.arguments.with_way("bpo"), option.to_vec()].concat())
        });
        let seconds = timed_process::alternate(processes.len(), 1, self.arguments.rounds, |way| {
            Some((0..EPOCH).map(|_| processes[way].ask("step")).sum::<f64>() / EPOCH as f64)
        });
        println!("{:<38} {:>8} {:>12}", "answers of mixed length, mean step", "step, s", "of first");
        for (way, taken) in ["in random order", "by length"].iter().zip(&seconds) {
            println!("{way:>38} {:>8.3} {:>12.2}", median(&mut taken.clone()), ratio(taken, &seconds[0]));
        }
    }

    /// Returns the operations of a step in which the size `name` is `value`.
    fn operations(&self, name: &str, value: usize) -> f64 {
        let size = |own: &str, kept: usize| if own == name { value } else { kept };
        let answers = 1 + size("rejected", self.rejected);
        let (pairs, text, answer) =
            (size("pairs", self.pairs), size("text", self.text), size("answer", self.answer));
        let config = self.arguments.preset.config();
        StepCost::new(&config, pairs, text, answers, answer, LoraConfig::default().r).operations(false)
    }
}
