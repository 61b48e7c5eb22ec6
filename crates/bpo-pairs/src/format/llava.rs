//! Conversations about images: LLaVA's visual-instruction JSON and the `messages` format of other
//! programs.
//!
//! A file is a JSON array, or has one object per line. A record has one of these forms; unknown
//! keys are ignored:
//!
//! - `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}` (LLaVA)
//! - `{"id", "images": [..], "messages": [{"role": "user" | "assistant", "content"}]}` (ms-swift,
//!   LLaMA-Factory, TRL), where `content` is text or a list of `{"type": "text" | "image"}` parts
//!   (OpenAI)
//!
//! Keys and roles of both forms can be mixed. An image is a path, or an object with `path` or
//! `url`. A system text is the first message, with the role `system`, or the value of `system` or
//! `system_prompt`.
//!
//! A conversation with several turns becomes several samples with the ids `{id}#0`, `{id}#1`, and
//! so on. Each sample holds the turns before it as history. A record or turn that cannot be used is
//! skipped with a reason that names the key, the value and what was expected.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::files::open_input;
use crate::fingerprint::{Fingerprint, FingerprintReader};
use crate::format::conversation::Conversation;
use crate::format::fields::JsonRecord;
use crate::format::json;
use crate::history::History;
use crate::ids::{UniqueIds, id_or_index};
use crate::image_token::strip_image_tokens;
use crate::sft::{SftSample, Turn};
use crate::skipped::{SkipCause, SkipReason, Skipped};

/// The samples of a file, and the skipped conversations and turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `samples` and `skipped`")]
pub struct SftData {
    /// Usable samples, in file order.
    pub samples: Vec<SftSample>,
    /// Skipped conversations and turns, in file order.
    pub skipped: Vec<Skipped>,
}

/// Reads all samples of a file.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, or is not JSON. The error names file,
/// record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<SftData, PairsError> {
    Ok(read_with_fingerprint(path)?.0)
}

/// Reads all samples of a file and computes the fingerprint of its bytes in the same pass.
///
/// # Errors
/// Returns the errors of [`read`].
pub fn read_with_fingerprint(path: impl AsRef<Path>) -> Result<(SftData, Fingerprint), PairsError> {
    let path = path.as_ref();
    let mut reader = FingerprintReader::new(open_input(path)?);
    let mut data = SftData::default();
    for_each(path, BufReader::new(&mut reader), |item| {
        match item {
            Ok(sample) => data.samples.push(sample),
            Err(skipped) => data.skipped.push(skipped),
        }
        Ok(())
    })?;
    let fingerprint = reader.finish().map_err(PairsError::io("read", path))?;
    Ok((data, fingerprint))
}

/// Calls `each` with every sample and every skipped conversation or turn, without holding the file
/// in memory. `path` is only used in errors.
///
/// # Errors
/// Returns the errors of [`read`] and of `each`.
pub fn for_each(
    path: &Path,
    reader: impl BufRead,
    mut each: impl FnMut(Result<SftSample, Skipped>) -> Result<(), PairsError>,
) -> Result<(), PairsError> {
    let mut ids = UniqueIds::default();
    let mut index = 0;
    json::for_each(path, reader, &mut |record: JsonRecord| {
        let items = samples(record, index, &mut ids);
        index += 1;
        items.into_iter().try_for_each(&mut each)
    })
}

/// Converts the record at `index`, from 0.
fn samples(record: JsonRecord, index: usize, ids: &mut UniqueIds) -> Vec<Result<SftSample, Skipped>> {
    let skipped = |id: String, cause: SkipCause| Err(cause.in_record(index + 1).of(id));
    let (id, read) = record.read(Conversation::read);
    let id = id_or_index(id, index);
    match read {
        Ok(conversation) => split(&ids.claim(&id, conversation.turns.len()), conversation, &skipped),
        Err(cause) => ids.claim(&id, 1).into_iter().map(|id| skipped(id, cause.clone())).collect(),
    }
}

/// Makes one sample per turn. After a turn that is skipped, all later turns are skipped too.
fn split(
    ids: &[String],
    conversation: Conversation,
    skipped: &dyn Fn(String, SkipCause) -> Result<SftSample, Skipped>,
) -> Vec<Result<SftSample, Skipped>> {
    let Conversation { images, system, turns } = conversation;
    let turns = History::from(turns);
    let mut broken = false;
    let sample = |(k, (id, turn)): (usize, (&String, &Turn))| {
        let cause = if broken { Some(SkipReason::BrokenHistory) } else { cause(turn) };
        if let Some(reason) = cause {
            broken = true;
            return skipped(id.clone(), reason.into());
        }
        Ok(SftSample {
            id: id.clone(),
            images: images.clone(),
            system: system.clone(),
            history: turns.prefix(k),
            prompt: turn.prompt.clone(),
            answer: turn.answer.clone(),
        })
    };
    ids.iter().zip(&turns).enumerate().map(sample).collect()
}

fn cause(turn: &Turn) -> Option<SkipReason> {
    if strip_image_tokens(&turn.prompt).is_empty() {
        Some(SkipReason::EmptyPrompt)
    } else if turn.answer.trim().is_empty() {
        Some(SkipReason::EmptyAnswer)
    } else {
        None
    }
}
