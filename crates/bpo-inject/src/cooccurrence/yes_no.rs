//! Replacement of yes by no, of no by yes, and of the sentence after it.

use super::rewrite::{article, with_case_of};
use super::token;

const NEGATED: &[(&str, &str)] = &[
    ("is not", "is"),
    ("are not", "are"),
    ("was not", "was"),
    ("were not", "were"),
    ("can not", "can"),
    ("cannot", "can"),
    ("could not", "could"),
    ("will not", "will"),
    ("isn't", "is"),
    ("aren't", "are"),
    ("wasn't", "was"),
    ("weren't", "were"),
    ("can't", "can"),
    ("are no", "are"),
    ("were no", "were"),
];
const AUXILIARIES: &[&str] = &["is", "are", "was", "were", "can", "could", "will"];
const NEGATIONS: &[&str] = &["no", "not", "none", "never", "without", "only", "nothing", "neither"];

/// Returns the opposite of an answer that begins with yes or no, and `None` for any other answer.
pub(super) fn flip(question: &str, answer: &str) -> Option<String> {
    let first = token::split(answer).into_iter().next()?;
    let yes = match first.lower.as_str() {
        "yes" => false,
        "no" => true,
        _ => return None,
    };
    let rest = &answer[first.end()..];
    // "No cats are there" is a statement, and no answer to a yes-no question.
    let is_answer =
        rest.trim().is_empty() || rest.trim_start().starts_with([',', '.', '!', ';', ':', '-', '—']);
    if !answer[..first.start].trim().is_empty() || !is_answer {
        return None;
    }
    let word = with_case_of(first.text, if yes { "yes" } else { "no" });
    let clause = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    if clause.is_empty() {
        return Some(format!("{}{word}{rest}", &answer[..first.start]));
    }
    let statement =
        from_question(question, yes).or_else(|| if yes { affirm(clause) } else { negate(clause) });
    Some(match statement {
        Some(statement) => format!("{word}, {statement}."),
        // An explanation that contradicts the answer is dropped.
        None => format!("{word}."),
    })
}

/// Turns a question such as "Is there a dog in the picture?" into a statement.
fn from_question(question: &str, yes: bool) -> Option<String> {
    let question = crate::template::without_image_token(question);
    let asked = question.split('?').next().unwrap_or_default().trim();
    let (verb, thing) = ["is", "are"].into_iter().find_map(|verb| {
        let start = format!("{verb} there ");
        let head = asked.get(..start.len())?;
        head.eq_ignore_ascii_case(&start).then(|| (verb, asked[start.len()..].trim()))
    })?;
    let (first, others) = thing.split_once(' ').unwrap_or((thing, ""));
    let statement = match (first.to_lowercase().as_str(), yes) {
        ("any", true) if verb == "is" => format!("there is some {others}"),
        ("any", true) => format!("there are {others}"),
        (_, true) => format!("there {verb} {thing}"),
        ("a" | "an" | "any" | "some", false) => format!("there {verb} no {others}"),
        (_, false) if verb == "are" && is_bare(first) => format!("there are no {thing}"),
        (_, false) => format!("there {verb} not {thing}"),
    };
    (!thing.is_empty()).then(|| statement.trim_end().to_owned())
}

/// Returns whether "no" may precede a word: no number and no determiner.
fn is_bare(word: &str) -> bool {
    let word = word.to_lowercase();
    let counted =
        super::lexicon::NUMBERS.contains(&word.as_str()) || word.starts_with(|c: char| c.is_ascii_digit());
    !counted && !["the", "more", "many", "less", "fewer", "at", "enough"].contains(&word.as_str())
}

/// Returns the first sentence of a text.
fn sentence(clause: &str) -> &str {
    clause.split(['.', '!', '?', ';', '\n']).next().unwrap_or(clause).trim()
}

fn negate(clause: &str) -> Option<String> {
    let sentence = sentence(clause);
    let words = token::split(sentence);
    if words.iter().any(|word| NEGATIONS.contains(&word.lower.as_str()) || word.lower.ends_with("n't")) {
        return None;
    }
    let verb = words.iter().find(|word| AUXILIARIES.contains(&word.lower.as_str()))?;
    Some(format!("{} not{}", &sentence[..verb.end()], &sentence[verb.end()..]))
}

fn affirm(clause: &str) -> Option<String> {
    let sentence = sentence(clause).replace('\u{2019}', "'");
    let words = token::split(&sentence);
    for (i, word) in words.iter().enumerate() {
        let pair = words.get(i + 1).filter(|next| next.joined).map(|next| &sentence[word.start..next.end()]);
        let end = words.get(i + 1).map_or(word.end(), |next| next.end());
        if pair == Some("is no") {
            let after = &sentence[end..];
            let article = article(after.trim_start());
            return Some(format!("{}is {article}{after}", &sentence[..word.start]));
        }
        for &(negated, plain) in NEGATED {
            let end = if pair == Some(negated) { end } else { word.end() };
            if &sentence[word.start..end] == negated {
                return Some(format!("{}{plain}{}", &sentence[..word.start], &sentence[end..]));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::flip;

    #[test]
    fn explanation_changes_with_yes_or_no() {
        let cases = [
            ("Is it?", "Yes", "No"),
            ("Is it?", "no.", "yes."),
            (
                "Is there a dog in the picture?\n<image>",
                "No, there is only one cat.",
                "Yes, there is a dog in the picture.",
            ),
            ("Are there any dogs?", "Yes, two of them.", "No, there are no dogs."),
            ("Are there two dogs?", "Yes, there are.", "No, there are not two dogs."),
            ("Is there a dog?", "Yes, on the left.", "No, there is no dog."),
            ("Is the cat black?", "Yes, the cat is black.", "No, the cat is not black."),
            ("Is the cat black?", "No, the cat isn't black. It is white.", "Yes, the cat is black."),
            ("Is the cat black?", "No, it is white.", "Yes."),
            ("Can you see an owl?", "NO, there is no owl here", "YES, there is an owl here."),
            ("Does he run?", "Yes, he does.", "No."),
        ];
        for (question, answer, flipped) in cases {
            assert_eq!(flip(question, answer).as_deref(), Some(flipped), "{question} {answer}");
        }
    }

    #[test]
    fn answers_without_yes_or_no_are_not_flipped() {
        for answer in ["", "A dog.", "No cats are in the picture.", "(yes)", "Not at all."] {
            assert_eq!(flip("Is there a dog?", answer), None, "{answer}");
        }
    }
}
