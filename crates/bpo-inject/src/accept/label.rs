//! Removal of labels and sentences that announce an answer.

use super::cut::Rest;
use super::words::telling_words;

/// Whole labels in lower case, in addition to those of [`names_new_text`].
const LABELS: &[&str] = &[
    "answer",
    "assistant",
    "description",
    "output",
    "response",
    "rewrite",
    "the answer is",
    "after",
    "new",
    "modified",
    "rewritten",
    "altered",
    "replaced",
    // German, French, Spanish, Italian, Portuguese, Russian, Chinese, Japanese, Korean
    "antwort",
    "beschreibung",
    "neu",
    "neuer text",
    "ersetzt",
    "ge\u{e4}ndert",
    "ge\u{e4}nderter text",
    "neue antwort",
    "neue beschreibung",
    "ge\u{e4}nderte antwort",
    "ge\u{e4}nderte beschreibung",
    "r\u{e9}ponse",
    "r\u{e9}ponse modifi\u{e9}e",
    "description modifi\u{e9}e",
    "modifi\u{e9}",
    "texte modifi\u{e9}",
    "nouvelle r\u{e9}ponse",
    "nouvelle description",
    "respuesta",
    "modificado",
    "texto modificado",
    "respuesta modificada",
    "descripci\u{f3}n modificada",
    "nueva respuesta",
    "nueva descripci\u{f3}n",
    "risposta",
    "modificato",
    "testo modificato",
    "risposta modificata",
    "descrizione modificata",
    "resposta",
    "resposta modificada",
    "descri\u{e7}\u{e3}o modificada",
    "\u{43e}\u{442}\u{432}\u{435}\u{442}",
    "\u{438}\u{437}\u{43c}\u{435}\u{43d}\u{435}\u{43d}\u{43d}\u{44b}\u{439} \u{43e}\u{442}\u{432}\u{435}\u{442}",
    "\u{438}\u{437}\u{43c}\u{435}\u{43d}\u{435}\u{43d}\u{43d}\u{43e}\u{435} \u{43e}\u{43f}\u{438}\u{441}\u{430}\u{43d}\u{438}\u{435}",
    "\u{56de}\u{7b54}",
    "\u{7b54}\u{6848}",
    "\u{4fee}\u{6539}\u{540e}",
    "\u{4fee}\u{6539}\u{5f8c}",
    "\u{4fee}\u{6b63}\u{5f8c}",
    "\u{4fee}\u{6539}\u{540e}\u{7684}\u{6587}\u{672c}",
    "\u{4fee}\u{6539}\u{540e}\u{7684}\u{53e5}\u{5b50}",
    "\u{4fee}\u{6539}\u{540e}\u{7684}\u{56de}\u{7b54}",
    "\u{4fee}\u{6539}\u{540e}\u{7684}\u{63cf}\u{8ff0}",
    "\u{4fee}\u{6539}\u{5f8c}\u{7684}\u{56de}\u{7b54}",
    "\u{4fee}\u{6539}\u{5f8c}\u{7684}\u{63cf}\u{8ff0}",
    "\u{65b0}\u{7684}\u{63cf}\u{8ff0}",
    "\u{56de}\u{7b54}\u{4f8b}",
    "\u{4fee}\u{6b63}\u{5f8c}\u{306e}\u{56de}\u{7b54}",
    "\u{4fee}\u{6b63}\u{5f8c}\u{306e}\u{8aac}\u{660e}",
    "\u{c218}\u{c815}\u{b41c} \u{b2f5}\u{bcc0}",
    "\u{c218}\u{c815}\u{b41c} \u{c124}\u{ba85}",
    "\u{b2f5}\u{bcc0}",
];

/// Adjectives of a rewrite.
const NEW: &[&str] = &[
    "adjusted",
    "altered",
    "alternate",
    "alternative",
    "changed",
    "corrupted",
    "counterfactual",
    "different",
    "edited",
    "fake",
    "false",
    "final",
    "fixed",
    "hallucinated",
    "inaccurate",
    "incorrect",
    "misleading",
    "modified",
    "negative",
    "new",
    "perturbed",
    "plausible",
    "rejected",
    "rephrased",
    "requested",
    "revised",
    "rewritten",
    "reworded",
    "transformed",
    "updated",
    "wrong",
];

/// Nouns of a rewrite.
pub(super) const TEXTS: &[&str] = &[
    "answer",
    "answers",
    "caption",
    "description",
    "output",
    "paragraph",
    "passage",
    "reply",
    "response",
    "rewrite",
    "rewriting",
    "sentence",
    "sentences",
    "statement",
    "text",
    "variant",
    "version",
];

/// Labels without an adjective of a rewrite: "Annotation:", "The image caption:".
const NAMES: &[&str] = &["annotation", "annotations", "caption", "sentence", "statement"];

/// Words before one of [`NAMES`].
const NAME_HEADS: &[&str] = &["image", "photo", "picture", "the"];

/// Other words of a label.
const FILLERS: &[&str] = &["a", "and", "but", "image", "my", "of", "the", "this", "your"];

/// Exclamations before an answer.
pub(super) const EXCLAMATIONS: &[&str] = &[
    "absolutely",
    "alright",
    "certainly",
    "got it",
    "good question",
    "great",
    "great question",
    "greetings",
    "hello",
    "hello there",
    "hey",
    "hi",
    "hi there",
    "no problem",
    "of course",
    "ok",
    "okay",
    "sure",
    "sure thing",
    "understood",
];

/// Nouns after "with" in an announcement without an adjective of a rewrite: "the text with an
/// error".
const FAULTS: &[&str] = &[
    "alteration",
    "alterations",
    "change",
    "changes",
    "error",
    "errors",
    "hallucination",
    "hallucinations",
    "inaccuracies",
    "inaccuracy",
    "mistake",
    "mistakes",
    "modification",
    "modifications",
];

/// Words after a fault in an announcement.
const FAULT_TAILS: &[&str] =
    &["added", "included", "inserted", "introduced", "in", "is", "it", "made", "now", "reads"];

/// References to the task before an answer, in lower case.
const REFERENCES: &[&str] =
    &["as asked", "as instructed", "as requested", "as you asked", "per your request"];

/// Words at the start of an announcement.
const PREAMBLES: &[&str] = &[
    "below is",
    "here",
    "i have rewritten",
    "i've rewritten",
    "my",
    "okay, here",
    "sure, here",
    "the following",
    "this is",
    "the",
];

/// Words after the name of the rewrite in an announcement: "the new text for the image:". "The new
/// text on the sign:" is no announcement.
const TAILS: &[&str] = &[
    "as", "based", "below", "for", "in which", "is", "of", "that", "where", "which", "with", "without",
    "would", "you",
];

/// Maximum number of words of an announcement.
const LONGEST_PREAMBLE: usize = 24;

/// Returns whether a text in lower case names a rewritten text, as "modified response" does.
pub(super) fn names_new_text(lower: &str) -> bool {
    let words: Vec<&str> = lower.split_whitespace().collect();
    let all_known = words.iter().all(|word| is_new(word) || TEXTS.contains(word) || FILLERS.contains(word));
    all_known
        && words.iter().any(|word| is_new(word))
        && words.last().is_some_and(|word| TEXTS.contains(word))
}

pub(super) fn is_new(word: &str) -> bool {
    NEW.contains(&word)
}

/// Splits off a label with its colon: "**Modified response:** ...".
fn label(text: &str) -> Option<(&str, &str)> {
    const LONGEST: usize = 80;
    let bare = text.trim_start_matches(['*', '#', '_', ' ', '[', '<']);
    let (label, rest) = bare.split_once([':', '\u{ff1a}'])?;
    (label.len() <= LONGEST && !label.contains('\n')).then(|| {
        // Emphasis and brackets that begin before the label end after its colon.
        let marks = &text[..text.len() - bare.len()];
        let rest = if marks.trim().is_empty() { rest } else { rest.trim_start_matches(['*', '_', ' ', ']']) };
        (label.trim_end_matches(['*', '_', ' ', ']', '\u{a0}']), rest)
    })
}

/// Returns whether a text is the label of a rewrite.
pub(super) fn is_label(label: &str) -> bool {
    let label = label.trim().to_lowercase();
    LABELS.contains(&label.as_str()) || names_new_text(&label)
}

/// Removes a label, unless the right answer has the same one.
pub(super) fn without_label(text: &str, answer: &str) -> Option<Rest> {
    if let Some((found, rest)) = label(text).filter(|(found, _)| is_label(found)) {
        let same = label(answer.trim()).is_some_and(|(own, _)| own.eq_ignore_ascii_case(found));
        return (!same).then(|| Rest::of(rest));
    }
    // A heading has no colon.
    let (first, rest) = text.split_once('\n')?;
    let heading = first.trim().trim_matches(['*', '#', '_', ' ']).to_lowercase();
    let is_marked = first.trim_start().starts_with(['*', '#', '_']);
    (is_marked && names_new_text(&heading) && !answer.to_lowercase().contains(&heading))
        .then(|| Rest::of(rest))
}

/// Removes one of [`NAMES`] with a colon or dash: "Annotation: ...". The name is kept if the right
/// answer begins with it, or if the rest is the right answer, which is then rejected.
pub(super) fn without_name(text: &str, answer: &str) -> Option<Rest> {
    const MARKS: &[&str] = &[":", "\u{ff1a}", " - ", " \u{2013} ", "\u{2014}"];
    let bare = text.trim_start_matches(['*', '#', '_', ' ', '[']);
    let (name, rest) = MARKS.iter().find_map(|mark| {
        let (head, rest) = bare.split_once(mark)?;
        let name = head.trim_end_matches(['*', '_', ' ', ']']).to_lowercase();
        names_text(&name).then(|| (name, rest.trim_start_matches(['*', '_', ' ', ']'])))
    })?;
    let is_own = answer.trim().to_lowercase().starts_with(&name);
    (!is_own && telling_words(rest) != telling_words(answer)).then(|| Rest::of(rest))
}

fn names_text(lower: &str) -> bool {
    let mut words = lower.split_whitespace().rev();
    words.next().is_some_and(|name| NAMES.contains(&name)) && words.all(|word| NAME_HEADS.contains(&word))
}

/// Removes "Sure!" and "Here is the changed text:" from the start of a text, unless the right
/// answer begins with one too.
pub(super) fn without_preamble(text: &str, answer: &str) -> Option<Rest> {
    if let Some(rest) = after_exclamation(text) {
        return after_exclamation(answer.trim()).is_none().then(|| Rest::of(rest));
    }
    if let Some(rest) = after_reference(text) {
        return after_reference(answer.trim()).is_none().then(|| Rest::of(rest));
    }
    let (head, rest) = text.split_once([':', '\u{ff1a}'])?;
    if rest.trim().is_empty() || head.contains('\n') {
        return None;
    }
    let own = answer.trim().split_once(':').is_some_and(|(own, _)| same_head(own, head));
    let ends_line = rest.trim_start_matches(['*', '_', ' ']).starts_with(['\n', '\r']);
    let announces =
        is_preamble(head) || (ends_line && is_line_preamble(head) && !answer.trim().contains(":\n"));
    (announces && !own).then(|| Rest::of(rest.trim_start_matches(['*', '_', ' '])))
}

fn same_head(a: &str, b: &str) -> bool {
    let first =
        |text: &str| -> Vec<String> { text.split_whitespace().take(3).map(str::to_lowercase).collect() };
    first(a) == first(b)
}

/// Returns the text after "As requested, ".
fn after_reference(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    REFERENCES.iter().find_map(|reference| {
        let behind = lower.strip_prefix(reference)?;
        behind.starts_with([',', ':', '.']).then(|| text[reference.len() + 1..].trim_start())
    })
}

/// Returns the text after "Sure!", or after "Certainly." as a sentence.
fn after_exclamation(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    EXCLAMATIONS.iter().find_map(|word| {
        let behind = lower.strip_prefix(word)?;
        let is_end = behind.starts_with('!')
            || behind.starts_with(". ")
            || behind.starts_with([',', '.'])
                && (behind[1..].starts_with('\n') || announces(behind[1..].trim_start()));
        is_end.then(|| text[word.len() + 1..].trim_start())
    })
}

/// Returns whether a text in lower case begins with an announcement: "here is the ...:".
fn announces(lower: &str) -> bool {
    lower.split_once(':').is_some_and(|(head, _)| !head.contains(['\n', '.']) && is_preamble(head))
}

/// Returns whether a sentence announces a rewrite: "Here is the changed text".
pub(super) fn is_preamble(head: &str) -> bool {
    let head = head.trim().trim_start_matches(['*', '#', '_']).to_lowercase().replace('\u{2019}', "'");
    if head.contains(['\n', '"', '\u{201c}']) || !PREAMBLES.iter().any(|start| begins_with_word(&head, start))
    {
        return false;
    }
    let words: Vec<&str> =
        head.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).collect();
    if words.len() > LONGEST_PREAMBLE {
        return false;
    }
    let Some(new) = words.iter().position(|word| is_new(word)) else { return names_faulty_text(&words) };
    let Some(named) = words[new..].iter().take(5).rposition(|word| TEXTS.contains(word)) else {
        return false;
    };
    let tail = words[new + named + 1..].join(" ");
    tail.is_empty() || TAILS.iter().any(|start| begins_with_word(&tail, start))
}

/// Returns whether words are "the text with an error introduced". "The text with errors on the
/// sign" is no announcement.
fn names_faulty_text(words: &[&str]) -> bool {
    const FARTHEST: usize = 6;
    let Some(named) = words.iter().position(|word| TEXTS.contains(word)) else { return false };
    let behind = &words[named + 1..];
    let Some(fault) = behind.iter().take(FARTHEST).rposition(|word| FAULTS.contains(word)) else {
        return false;
    };
    behind[0] == "with" && behind[fault + 1..].iter().all(|word| FAULT_TAILS.contains(word))
}

/// Returns whether a line before a colon begins with "here" or an exclamation: "Here is what you
/// want:".
fn is_line_preamble(head: &str) -> bool {
    let head = head.to_lowercase();
    begins_with_word(&head, "here") || EXCLAMATIONS.iter().any(|word| begins_with_word(&head, word))
}

fn begins_with_word(text: &str, start: &str) -> bool {
    text.strip_prefix(start).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}
