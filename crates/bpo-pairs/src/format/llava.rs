//! Conversations about images: LLaVA's visual-instruction JSON, and the `messages` of other programs.
//!
//! A file is an array, or has one object a line. A record is one of these; other keys are passed over:
//!
//! - `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}` (LLaVA),
//! - `{"id", "images": [..], "messages": [{"role": "user" | "assistant", "content"}]}` (ms-swift, LLaMA-Factory, TRL), with a content
//!   that is text or a list of `{"type": "text" | "image"}` parts (OpenAI).
//!
//! All keys and roles of one form are understood in the other. An image is a path, or an object with `path` or `url`. A system
//! text is the first turn, of the role `system`, or stands under `system` or `system_prompt`.
//!
//! A conversation of several turns becomes several samples, `{id}#0`, `{id}#1`, ..., each with the turns before it as history.
//! What cannot be used is skipped, record by record, with a reason that names the key, the value and what was expected.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::files::open_input;
use crate::fingerprint::{Fingerprint, FingerprintReader};
use crate::format::conversation::Conversation;
use crate::format::fields::JsonRecord;
use crate::format::json;
use crate::ids::{UniqueIds, id_or_index};
use crate::image_token::strip_image_token;
use crate::sft::{SftSample, Turn};
use crate::skipped::{Flaw, SkipReason, Skipped};

/// The samples of a file, and what it has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `samples` and `skipped`")]
pub struct SftData {
    /// Samples, in the order of the file.
    pub samples: Vec<SftSample>,
    /// Conversations and turns that cannot be used, in the order of the file.
    pub skipped: Vec<Skipped>,
}

/// Reads all samples of a file.
///
/// # Errors
/// If the file cannot be read, is empty, or is not JSON; the error names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<SftData, PairsError> {
    Ok(read_with_fingerprint(path)?.0)
}

/// Reads all samples of a file, and computes the fingerprint of its bytes in the same pass.
///
/// # Errors
/// As [`read`].
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

/// Calls `each` with every sample, or with why a conversation or turn is none, without holding the file in memory.
///
/// `path` is only for errors.
///
/// # Errors
/// As [`read`], and what `each` fails with.
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

/// The samples of the record at `index`, counted from 0.
fn samples(record: JsonRecord, index: usize, ids: &mut UniqueIds) -> Vec<Result<SftSample, Skipped>> {
    let skipped = |id: String, flaw: Flaw| Err(flaw.in_record(index + 1).of(id));
    let (id, read) = record.read(Conversation::read);
    let id = id_or_index(id, index);
    match read {
        Ok(conversation) => split(&ids.claim(&id, conversation.turns.len()), &conversation, &skipped),
        Err(flaw) => ids.claim(&id, 1).into_iter().map(|id| skipped(id, flaw.clone())).collect(),
    }
}

/// One sample a turn.
fn split(
    ids: &[String],
    conversation: &Conversation,
    skipped: &dyn Fn(String, Flaw) -> Result<SftSample, Skipped>,
) -> Vec<Result<SftSample, Skipped>> {
    let Conversation { image, system, turns } = conversation;
    let mut broken = false;
    let sample = |(k, (id, turn)): (usize, (&String, &Turn))| {
        let flaw = if broken { Some(SkipReason::BrokenHistory) } else { flaw(turn) };
        if let Some(reason) = flaw {
            broken = true;
            return skipped(id.clone(), reason.into());
        }
        Ok(SftSample {
            id: id.clone(),
            image: image.clone(),
            system: system.clone(),
            history: turns[..k].to_vec(),
            prompt: turn.prompt.clone(),
            answer: turn.answer.clone(),
        })
    };
    ids.iter().zip(turns).enumerate().map(sample).collect()
}

fn flaw(turn: &Turn) -> Option<SkipReason> {
    if strip_image_token(&turn.prompt).is_empty() {
        Some(SkipReason::EmptyPrompt)
    } else if turn.answer.trim().is_empty() {
        Some(SkipReason::EmptyAnswer)
    } else {
        None
    }
}
