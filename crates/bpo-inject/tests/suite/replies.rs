//! What a server's reply may contain: honest rewrites pass unchanged, everything else is cut or
//! rejected with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bpo_inject::{
    AcceptanceRules, Cut, DraftContext, ErrorKind, PromptForm, Rejection, TemplateConfig, Templates,
};
use bpo_pairs::{FinishReason, Generated};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn lines<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// The text and what was cut, for a reply to a question whose right answer is `answer`.
fn judge(form: PromptForm, answer: &str, reply: &str) -> Result<(String, Vec<Cut>), Rejection> {
    let question = "What is there in the picture?";
    let templates = Templates::new(&TemplateConfig::default().with_form(form)).unwrap();
    let prompt = templates.render(ErrorKind::Free, question, answer).unwrap();
    let draft = Generated { text: reply.to_owned(), finish: FinishReason::Stop, tokens: None };
    let expected = DraftContext { prompt: &prompt, question, answer, kind: ErrorKind::Free };
    AcceptanceRules::default().accept(&draft, expected).map(|accepted| (accepted.text, accepted.cuts))
}

#[test]
fn valid_rewrites_are_unchanged() {
    let rewrites: Vec<(String, String)> = lines("honest.jsonl");
    assert!(rewrites.len() >= 200, "{}", rewrites.len());
    let mut wrong = Vec::new();
    for form in [PromptForm::Description, PromptForm::QuestionAnswer] {
        for (answer, rewrite) in &rewrites {
            match judge(form, answer, rewrite) {
                Ok((text, cuts)) if text == *rewrite && cuts.is_empty() => {}
                other => wrong.push(format!("{rewrite:?} ({form}): {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    reply: String,
    text: Option<String>,
    #[serde(default)]
    cuts: Vec<Cut>,
    rejection: Option<Rejection>,
}

#[test]
fn other_replies_are_cleaned_or_rejected_with_their_reason() {
    let replies: Vec<Reply> = lines("replies.jsonl");
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::new());
    for Reply { reply, text, cuts, rejection } in &replies {
        let expected = match rejection {
            Some(reason) => Err(*reason),
            None => Ok((text.clone().unwrap(), cuts.clone())),
        };
        let found = judge(PromptForm::QuestionAnswer, "There is a red cup.", reply);
        if found != expected {
            wrong.push(format!("{reply:?}: {found:?}, expected {expected:?}"));
        }
        *seen.entry(format!("{:?}", rejection.map(|reason| reason.to_string()))).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.len() >= 9, "{seen:?}");
}

/// The right answer says what would otherwise be cut: the rule leaves it alone.
#[test]
fn text_of_the_answer_is_not_removed() {
    for text in ["Note: {}.", "```\n{}\n```", "{\"a\": \"{}\"}", "<think>{}</think>", "\"{}\"", "Answer: {}"]
    {
        let reply = text.replace("{}", "closed");
        let found = judge(PromptForm::QuestionAnswer, &text.replace("{}", "open"), &reply);
        assert_eq!(found, Ok((reply, Vec::new())));
    }
}
