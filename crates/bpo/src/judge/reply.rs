//! What is read from the replies of a judge. A reply that could mean two things is not read.

use super::Verdict;

/// Maximum number of claims of an answer. A reply with more is no list of claims.
const MAX_CLAIMS: usize = 64;

/// Marks of Markdown, quotations and brackets around a word or a number.
fn is_mark(c: char) -> bool {
    c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '\'' | '[' | ']' | '(' | ')' | '#' | '>' | '|')
}

/// Reads the score of a reply: the number of the lines `Score: NUMBER`, of a JSON object with the key
/// `score`, or of a reply that is a number. `/5` and `out of 5` may follow if 5 is the highest score.
///
/// Returns `None` if there is no such line, if lines have different numbers, or if the number is outside of
/// the scale.
pub(crate) fn score(reply: &str, lowest: f64, highest: f64) -> Option<f64> {
    let of_object = || {
        let text = reply.trim().trim_start_matches("```json").trim_matches('`');
        serde_json::from_str::<serde_json::Value>(text).ok()?.get("score")?.as_f64()
    };
    let mut scores = reply.lines().filter_map(after_score).map(|text| number(text, highest));
    let score = match scores.next() {
        // all lines say the same
        Some(first) => first.filter(|_| scores.all(|other| other == first)),
        None => of_object().or_else(|| number(reply, highest)),
    };
    score.filter(|score| (lowest..=highest).contains(score))
}

/// Returns what follows the word `score` in a line that begins with it, such as `**Final score:** 4`.
fn after_score(line: &str) -> Option<&str> {
    const BEFORE: [&str; 4] = ["the", "my", "final", "overall"];
    let mut text = line.trim_start_matches(is_mark);
    loop {
        let end = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.eq_ignore_ascii_case("score") {
            let rest = rest.trim_start_matches(is_mark);
            let rest = rest.strip_prefix("is ").unwrap_or(rest);
            return Some(rest.trim_start_matches([':', '\u{ff1a}', '=']));
        }
        if !BEFORE.iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return None;
        }
        text = rest.trim_start();
    }
}

/// Reads a text that is a number, with nothing but marks and the highest score after it.
fn number(text: &str, highest: f64) -> Option<f64> {
    let text = text.trim_matches(is_mark);
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    let end = text.find(|c: char| !is_of_number(c)).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let score: f64 = digits.trim_end_matches('.').parse().ok()?;
    let rest = rest.trim_matches(|c| is_mark(c) || c == '.');
    let most = rest.strip_prefix('/').or_else(|| rest.strip_prefix("out of "));
    let is_whole = match most {
        Some(most) => most.trim().parse() == Ok(highest),
        None => rest.is_empty(),
    };
    is_whole.then_some(score)
}

/// Reads the claims of a reply: its lines, each of which is a question, without the marks of a list. An
/// equal claim is left out.
///
/// Returns `None` if a line is something else, except for a first line that ends with a colon, or if there
/// are no claims or too many.
pub(crate) fn claims(reply: &str) -> Option<Vec<String>> {
    let mut claims: Vec<String> = Vec::new();
    for line in reply.lines() {
        let text = without_list_mark(line.trim_matches(|c| is_mark(c) || c == ','));
        if text.is_empty() || text == "json" || claims.is_empty() && text.ends_with(':') {
            continue;
        }
        let is_question = text.ends_with(['?', '\u{ff1f}']) && text.matches(['?', '\u{ff1f}']).count() == 1;
        if !is_question || text.chars().count() < 2 {
            return None;
        }
        if !claims.iter().any(|known| known == text) {
            claims.push(text.to_owned());
        }
    }
    (1..=MAX_CLAIMS).contains(&claims.len()).then_some(claims)
}

/// Removes the mark of a list: a dash, a bullet, or a number with a full stop or bracket.
fn without_list_mark(text: &str) -> &str {
    let numbered = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if numbered.len() < text.len() {
        numbered.strip_prefix(['.', ')', ':'])
    } else {
        text.strip_prefix(['-', '\u{2022}', '\u{2013}'])
    };
    rest.map_or(text, |rest| rest.trim_start_matches(is_mark))
}

/// Reads the verdict on a claim: a first word `yes`, `no` or `unknown` that stands alone, or the last word
/// after `answer is` or `answer:`.
pub(crate) fn verdict(reply: &str) -> Option<Verdict> {
    let lower = reply.to_lowercase();
    let text = lower.trim_matches(is_mark);
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    if let Some(verdict) = word(first) {
        // "no information is given" and "yes/no" are no verdicts
        let rest = rest.trim_start_matches(['*', '_', '`', '"']);
        let is_alone = rest.is_empty()
            || rest.starts_with(['.', ',', '!', ';', ':', '\n', '\r', '-', '\u{2013}', '\u{2014}'])
            || rest.starts_with(" -")
            || rest.starts_with(" (");
        // neither is "yes, no, or unknown"
        let mut words = rest.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let repeats = words.next().and_then(word).is_some();
        return (is_alone && !repeats).then_some(verdict);
    }
    let text = text.trim_end_matches(|c: char| !c.is_alphanumeric());
    let (before, last) = text.rsplit_once(|c: char| !c.is_alphanumeric())?;
    let before = before.trim_end_matches(is_mark);
    let is_answer = before.ends_with("answer is")
        || before.trim_end_matches(':').trim_end_matches(is_mark).ends_with("answer");
    word(last).filter(|_| is_answer)
}

fn word(word: &str) -> Option<Verdict> {
    match word {
        "yes" => Some(Verdict::Right),
        "no" => Some(Verdict::Wrong),
        "unknown" => Some(Verdict::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_in_many_forms() {
        let read = |reply: &str| score(reply, 1.0, 5.0);
        for (reply, expected) in [
            ("Score: 4", 4.0),
            ("The dog is wrong.\nScore: 2", 2.0),
            ("A score of 5 would need the cat.\n**Score:** 3/5.", 3.0),
            ("Score: [[4]]", 4.0),
            ("score = 4.5", 4.5),
            ("The score is 3.", 3.0),
            ("## Final Score: **2** out of 5", 2.0),
            ("{\"score\": 2, \"reason\": \"no dog\"}", 2.0),
            ("```json\n{\"score\": 2.5}\n```", 2.5),
            ("4", 4.0),
            (" **4.0**\n", 4.0),
            ("4/5", 4.0),
            ("Score: +1", 1.0),
            ("Score: 4\nThe scoreboard is right.", 4.0),
            ("Score: 2\nConfidence score: 5", 2.0),
            ("Score: 2\nColour subscore: 5", 2.0),
            ("**Score:** 2\n\nNote: Score 5 means all right.", 2.0),
            ("Score\u{ff1a}2", 2.0),
            ("Score: 2\nScore: 2", 2.0),
        ] {
            assert_eq!(read(reply), Some(expected), "{reply:?}");
        }
        for reply in [
            "",
            "Score:",
            "Score: 6",
            "Score: 0",
            "Score: high",
            "4 dogs are wrong.",
            "Good.",
            "Score: 1-5",
            "Score: -3",
            "Score: 1.2.3",
            "Score: \u{2013}",
            "Score: 4,5",
            "4/5 of the statements are wrong.",
            "Score: 4/10",
            "4/10",
            "Score: 4 (the maximum score is 5)",
            "Score: 1 to 5",
            "Score: 1 - 5",
            "Score: 2 or 3",
            "Score: 3 statements are wrong, so 2",
            "Score: 5 - 3 = 2",
            "Score: 4e-1",
            "Score: 4\u{bd}",
            "Score: 4 1/2",
            "Score: 2\nScore: 4",
            "Confidence score: 5",
            "{\"score\": 9}",
            "{\"score\": \"4\"}",
        ] {
            assert_eq!(read(reply), None, "{reply:?}");
        }
        assert_eq!(score("Score: -3", -5.0, 5.0), Some(-3.0));
        assert_eq!(score("Score: 85/100", 0.0, 100.0), Some(85.0));
    }

    #[test]
    fn claims_are_lines_that_are_questions() {
        let read = |reply: &str| claims(reply).map(|claims| claims.join("|"));
        let three = "Is there a dog?|Is it brown?|Are there 3 cats?";
        for reply in [
            "Here are the claims:\n1. Is there a dog?\n- Is it brown?\r\n\n* **Are there 3 cats?**\n",
            "[\n \"Is there a dog?\",\n \"Is it brown?\",\n \"Are there 3 cats?\"\n]",
            "```json\nIs there a dog?\n`Is it brown?`\n_Are there 3 cats?_\nIs it brown?\n```",
        ] {
            assert_eq!(read(reply).as_deref(), Some(three), "{reply:?}");
        }
        assert_eq!(
            read("2 dogs are there?\n3) 3D glasses visible?").unwrap(),
            "2 dogs are there?|3D glasses visible?"
        );
        for reply in [
            "There is a dog.",
            "There are no claims.\nIs there anything else I can help with?",
            "1. Is there a dog? 2. Is it brown?",
            "Is there a dog? Yes\nIs it brown?",
            "Is there a dog? (object)\nIs it brown?",
            "Is there a dog?\nDone.",
            "?",
            "",
        ] {
            assert_eq!(read(reply), None, "{reply:?}");
        }
        let many =
            |count: usize| claims(&(0..count).map(|number| format!("Is it {number}?\n")).collect::<String>());
        assert_eq!(many(MAX_CLAIMS).unwrap().len(), MAX_CLAIMS);
        assert_eq!(many(MAX_CLAIMS + 1), None);
    }

    #[test]
    fn verdicts_are_unambiguous() {
        for (reply, expected) in [
            ("Yes", Verdict::Right),
            ("**No**, there is none.", Verdict::Wrong),
            ("**Yes**", Verdict::Right),
            ("No.\nThere is a cat.", Verdict::Wrong),
            ("no - there is none", Verdict::Wrong),
            ("unknown.", Verdict::Unknown),
            ("The answer is yes.", Verdict::Right),
            ("I look at it. Answer: **no**", Verdict::Wrong),
            ("Yes, there is no doubt.", Verdict::Right),
        ] {
            assert_eq!(verdict(reply), Some(expected), "{reply:?}");
        }
        for reply in [
            "",
            "Perhaps.",
            "It could be yes or no.",
            "not",
            "Yes or no? I think no.",
            "Yes/no: no",
            "Yes, no, or unknown: unknown",
            "Yes and no.",
            "I can't say yes.",
            "No information is given in the description.",
            "No mention of it, so unknown.",
            "There is no doubt that it is right.",
            "no problem, it's right",
            "Correct, there is no second dog.",
            "Yes is the answer to another question",
        ] {
            assert_eq!(verdict(reply), None, "{reply:?}");
        }
    }
}
