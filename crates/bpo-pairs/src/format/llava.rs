//! LLaVA's visual-instruction JSON.
//!
//! An array (or one object a line) of `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}`; `user` and
//! `assistant` are understood as well, other keys are passed over. A conversation of several turns becomes several
//! samples, `{id}#0`, `{id}#1`, ..., each with the turns before it as history.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::format::images_field::Images;
use crate::format::json;
use crate::ids::{Id, UniqueIds, id_or_index};
use crate::image_token::{place_in_conversation, strip_image_token};
use crate::set_aside::{Reason, SetAside};
use crate::sft::{IMAGE_TOKEN, SftSample, Turn};

/// The samples of a file, and what it has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftData {
    /// Samples, in the order of the file.
    pub samples: Vec<SftSample>,
    /// Conversations and turns that cannot be used, in the order of the file.
    pub set_aside: Vec<SetAside>,
}

/// Reads all samples of a file.
///
/// # Errors
/// If the file cannot be read or is not JSON of this form; the error names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<SftData, PairsError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(PairsError::io("open", path))?;
    let mut data = SftData::default();
    for_each(path, BufReader::new(file), |item| {
        match item {
            Ok(sample) => data.samples.push(sample),
            Err(aside) => data.set_aside.push(aside),
        }
        Ok(())
    })?;
    Ok(data)
}

/// Calls `each` with every sample, or with why a conversation or turn is none, without holding the file in memory.
///
/// `path` is only for errors.
///
/// # Errors
/// As [`read`], and what `each` fails with.
pub fn for_each(
    path: &Path,
    reader: impl BufRead,
    mut each: impl FnMut(Result<SftSample, SetAside>) -> Result<(), PairsError>,
) -> Result<(), PairsError> {
    let mut ids = UniqueIds::default();
    let mut index = 0;
    json::for_each(path, reader, &mut |conversation: Conversation| {
        let items = conversation.samples(index, &mut ids);
        index += 1;
        items.into_iter().try_for_each(&mut each)
    })
}

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    image: Images,
    #[serde(default)]
    conversations: Vec<Utterance>,
}

#[derive(Deserialize)]
struct Utterance {
    from: Role,
    value: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
enum Role {
    User,
    Assistant,
    Other,
}

impl From<String> for Role {
    fn from(name: String) -> Self {
        match name.as_str() {
            "human" | "user" => Self::User,
            "gpt" | "assistant" => Self::Assistant,
            _ => Self::Other,
        }
    }
}

impl Conversation {
    fn samples(self, index: usize, ids: &mut UniqueIds) -> Vec<Result<SftSample, SetAside>> {
        let id = id_or_index(self.id, index);
        let parts = self.image.single().and_then(|image| Ok((image, turns(self.conversations)?)));
        match parts {
            Ok((image, turns)) => split(&ids.claim(&id, turns.len()), &image, &turns),
            Err(reason) => ids.claim(&id, 1).into_iter().map(|id| Err(SetAside::new(id, reason))).collect(),
        }
    }
}

/// Pairs questions with answers and gives the first question its image token.
fn turns(utterances: Vec<Utterance>) -> Result<Vec<Turn>, Reason> {
    if utterances.is_empty() {
        return Err(Reason::NoTurns);
    }
    if utterances.iter().any(|utterance| utterance.from == Role::Other) {
        return Err(Reason::UnknownRole);
    }
    let mut turns = Vec::with_capacity(utterances.len() / 2);
    let mut utterances = utterances.into_iter();
    while let Some(question) = utterances.next() {
        match utterances.next() {
            Some(answer) if question.from == Role::User && answer.from == Role::Assistant => {
                turns.push(Turn { prompt: question.value, answer: answer.value });
            }
            _ => return Err(Reason::TurnOrder),
        }
    }
    if let Some(last) = turns.pop() {
        let Turn { mut prompt, answer } = last;
        place_in_conversation(&mut turns, &mut prompt)?;
        if answer.contains(IMAGE_TOKEN) {
            return Err(Reason::ImageToken);
        }
        turns.push(Turn { prompt, answer });
    }
    Ok(turns)
}

/// One sample a turn.
fn split(ids: &[String], image: &str, turns: &[Turn]) -> Vec<Result<SftSample, SetAside>> {
    let mut broken = false;
    let sample = |(k, (id, turn)): (usize, (&String, &Turn))| {
        let flaw = if broken { Some(Reason::BrokenHistory) } else { flaw(turn) };
        if let Some(reason) = flaw {
            broken = true;
            return Err(SetAside::new(id, reason));
        }
        Ok(SftSample {
            id: id.clone(),
            image: image.to_owned(),
            history: turns[..k].to_vec(),
            prompt: turn.prompt.clone(),
            answer: turn.answer.clone(),
        })
    };
    ids.iter().zip(turns).enumerate().map(sample).collect()
}

fn flaw(turn: &Turn) -> Option<Reason> {
    if strip_image_token(&turn.prompt).is_empty() {
        Some(Reason::EmptyPrompt)
    } else if turn.answer.trim().is_empty() {
        Some(Reason::EmptyAnswer)
    } else {
        None
    }
}
