//! The data card: statistics of pairs as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use bpo_pairs::{CompletionKind, Untrusted};

use super::{KindStatistics, LengthBias, Lengths, PairStatistics};

impl PairStatistics {
    /// Returns a data card: Markdown with the header that the Hugging Face Hub reads from the
    /// `README.md` of a data set. `name` is its title. The card names the method only if all pairs
    /// have the kinds that BPO makes, and counts the chosen answers that are the model's own.
    pub fn card(&self, name: &str) -> String {
        let mut text = String::new();
        // writing to a string cannot fail
        let _ = self.write(&mut text, name);
        text
    }

    fn write(&self, out: &mut String, name: &str) -> fmt::Result {
        let of_bpo = [CompletionKind::ImageWeakened, CompletionKind::ErrorInjected];
        let own = self.chosen_kinds.get(CompletionKind::Own.as_str()).copied().unwrap_or_default();
        let is_of_bpo = self.chosen_kinds.is_empty()
            && self.kinds.keys().all(|kind| of_bpo.iter().any(|of_bpo| of_bpo.as_str() == kind));
        out.push_str("---\ntags:\n- preference\n- dpo\n");
        if is_of_bpo {
            out.push_str("- bpo\n");
        }
        out.push_str("task_categories:\n- image-text-to-text\n---\n\n");
        write!(out, "# {}\n\n{} preference pairs, {} images.", Cell(name), self.pairs, self.images)?;
        if is_of_bpo {
            out.push_str(
                " The chosen answers are annotated, and the rejected ones were made by Bootstrapped Preference Optimization \
                 ([arXiv 2403.08730](https://arxiv.org/abs/2403.08730)).",
            );
        }
        if own > 0 {
            write!(out, " {own} chosen answers are the model's own.")?;
        }
        out.push_str("\n\n");
        out.push_str("## Kinds of rejected answers\n\n");
        self.lengths(out, "kind", &self.kinds)?;
        out.push_str("\nWords are the mean, and in brackets the median and the 90th percentile.\n");
        for (kind, bias) in self.length_biases() {
            writeln!(out, "\n**Length bias**: the rejected answers of the kind {} are {bias}.", Cell(kind))?;
        }
        if !self.errors.is_empty() {
            out.push_str("\n## Injected errors\n\n");
            self.lengths(out, "kind of error", &self.errors)?;
        }
        counts(out, "Sources", "directory of the image", &self.sources)?;
        counts(out, "Distortions", "distortion", &self.distortions)?;
        writeln!(
            out,
            "\n## Near-duplicates\n\n{} pairs have nearly the same prompt and answers as an earlier pair.",
            self.near_duplicates
        )?;
        out.push_str("\n## Words that only rejected answers have\n\n| kind | words, with the number of answers |\n|---|---|\n");
        for (kind, statistics) in &self.kinds {
            let words = statistics.injected_words.iter();
            let words: Vec<String> =
                words.map(|word| format!("{} {}", Cell(&word.word), word.answers)).collect();
            writeln!(out, "| {} | {} |", Cell(kind), words.join(", "))?;
        }
        Ok(())
    }

    /// Writes a table of the shares and lengths of kinds.
    fn lengths(
        &self,
        out: &mut String,
        column: &str,
        kinds: &BTreeMap<String, KindStatistics>,
    ) -> fmt::Result {
        writeln!(
            out,
            "| {column} | pairs | share | words, chosen | words, rejected | rejected longer | rejected shorter |"
        )?;
        out.push_str("|---|---|---|---|---|---|---|\n");
        for (kind, statistics) in kinds {
            let KindStatistics { pairs, chosen, rejected, rejected_longer, rejected_shorter, .. } =
                statistics;
            let share = *pairs as f64 / self.pairs as f64;
            writeln!(
                out,
                "| {} | {pairs} | {} | {} | {} | {} | {} |",
                Cell(kind),
                Percent(share),
                Words(chosen),
                Words(rejected),
                Percent(*rejected_longer),
                Percent(*rejected_shorter)
            )?;
        }
        Ok(())
    }
}

/// Writes a table of counts, unless it is empty.
fn counts(out: &mut String, title: &str, column: &str, counts: &BTreeMap<String, usize>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    write!(out, "\n## {title}\n\n| {column} | pairs |\n|---|---|\n")?;
    for (name, pairs) in counts {
        writeln!(out, "| {} | {pairs} |", Cell(name))?;
    }
    Ok(())
}

/// The words of a length bias: `shorter: training learns to prefer long answers`.
impl Display for LengthBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RejectedShorter => "shorter: training can learn to prefer long answers",
            Self::RejectedLonger => "longer: training can learn to prefer short answers",
        })
    }
}

/// Untrusted text in a cell of a table: characters with a meaning in Markdown are escaped.
struct Cell<'a>(&'a str);

impl Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in Untrusted(self.0).to_string().chars() {
            if c.is_ascii_punctuation() && !matches!(c, '-' | '.' | ',' | '/' | ':' | '+' | '=' | '\'') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        Ok(())
    }
}

struct Percent(f64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", 100.0 * self.0)
    }
}

struct Words<'a>(&'a Lengths);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lengths { mean, median, p90, .. } = self.0;
        write!(f, "{mean:.1} ({median}, {p90})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair;
    use super::*;

    #[test]
    fn card_shows_the_statistics() {
        let pairs: Vec<_> = (0..30).map(|id| pair(id, "a b c d e f", "g h")).collect();
        let card = PairStatistics::of(&pairs).card("my pairs");
        assert!(card.starts_with("---\ntags:\n"), "{card}");
        for line in [
            "# my pairs",
            "| llm-hal | 30 | 100.0 % | 6.0 (6, 6) | 2.0 (2, 2) | 0.0 % | 100.0 % |",
            "**Length bias**: the rejected answers of the kind llm-hal are shorter: training can learn to prefer long answers.",
            "| coco | 30 |",
            "29 pairs have nearly the same prompt and answers as an earlier pair.",
            "| llm-hal | g 30, h 30 |",
        ] {
            assert!(card.lines().any(|other| other == line), "{line}\n{card}");
        }
        assert!(!card.contains("Distortions") && !card.contains("Injected errors"), "{card}");
        assert!(card.contains("- bpo\n") && card.contains("made by Bootstrapped Preference"), "{card}");
    }

    #[test]
    fn own_answers_are_not_called_annotated() {
        let mut pairs: Vec<_> = (0..3).map(|id| pair(id, "a b", "c d")).collect();
        pairs[0].chosen_kind = Some(CompletionKind::Own);
        let statistics = PairStatistics::of(&pairs);
        assert_eq!(statistics.chosen_kinds["own"], 1);
        let card = statistics.card("x");
        assert!(
            card.contains("1 chosen answers are the model's own.") && !card.contains("annotated"),
            "{card}"
        );
        assert!(!card.contains("- bpo\n"), "{card}");
    }

    #[test]
    fn text_of_the_data_is_escaped() {
        let mut hostile = pair(0, "a", "b");
        hostile.kind = "x|y\n# title <b>".to_owned().into();
        hostile.provenance = Some(bpo_pairs::Provenance::of_error("<i>|"));
        let card = PairStatistics::of(&[hostile]).card("a|b");
        assert!(!card.contains("bpo") && card.contains("1 preference pairs, 1 images.\n"), "{card}");
        assert!(card.contains(r"| \<i\>\| | 1 |"), "{card}");
        assert!(card.contains(r"# a\|b") && card.contains(r"| x\|y\\n\# title \<b\> | 1 |"), "{card}");
    }
}
