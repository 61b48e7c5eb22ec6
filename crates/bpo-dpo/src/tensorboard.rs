//! Metrics as event files of TensorBoard.
//!
//! An event file is a sequence of TFRecords (tensorflow: `core/lib/io/record_writer.cc`), each with
//! one `Event` (`core/util/event.proto`). The names of the scalars are those of the Trainer of
//! transformers (`integrations/integration_utils.py`, `rewrite_logs`): `train/rewards/margins`,
//! `eval/loss`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use bpo_pairs::files::{AppendLog, create_parents};
use serde_json::Value;

use crate::error::DpoError;
use crate::metrics::{EvalMetrics, LogRecord, StepMetrics};

/// Start of the names of event files.
const PREFIX: &str = "events.out.tfevents.";

/// The event file of one process.
///
/// A resumed run has another file. Its first event says at which step it begins, so that
/// TensorBoard drops later steps of earlier files.
pub(crate) struct EventFile(AppendLog);

impl EventFile {
    /// Creates a file in `tensorboard/` of a run directory, for the steps after `step`. The first file
    /// also gets the metrics of earlier steps, `steps` and `evaluations`.
    pub(crate) fn create(
        run_dir: &Path,
        step: usize,
        steps: &[StepMetrics],
        evaluations: &[EvalMetrics],
    ) -> Result<Self, DpoError> {
        let dir = run_dir.join("tensorboard");
        let newest = newest(&dir)?;
        // TensorBoard reads the files of a directory in the order of their names
        let second = newest.map_or(0, |second| second + 1).max(now() as u64);
        let path = dir.join(format!("{PREFIX}{second:010}.{}.bpo", process::id()));
        create_parents(&path)?;
        let mut file = Self(AppendLog::open(&path)?);
        let version = field(FILE_VERSION, b"brain.Event:2");
        let start = field(SESSION_LOG, &varint_field(SESSION_STATUS, SESSION_START));
        file.append(now(), 0, &version)?;
        // steps are counted from 1
        file.append(now(), if newest.is_some() { step + 1 } else { 1 }, &start)?;
        if newest.is_none() {
            steps.iter().try_for_each(|metrics| file.log_step(metrics))?;
            evaluations.iter().try_for_each(|metrics| file.log_evaluation(metrics))?;
        }
        Ok(file)
    }

    /// Appends the metrics of a step. Metrics that are not a number are left out.
    pub(crate) fn log_step(&mut self, metrics: &StepMetrics) -> Result<(), DpoError> {
        self.log(metrics, |metric| (metric != "step").then(|| format!("train/{metric}")))
    }

    /// Appends the metrics of an evaluation.
    pub(crate) fn log_evaluation(&mut self, metrics: &EvalMetrics) -> Result<(), DpoError> {
        self.log(metrics, |metric| metric.strip_prefix("eval_").map(|metric| format!("eval/{metric}")))
    }

    /// Appends the metrics for which `tag` returns the name of a scalar.
    fn log(
        &mut self,
        metrics: &impl LogRecord,
        tag: impl Fn(&str) -> Option<String>,
    ) -> Result<(), DpoError> {
        let values = serde_json::to_value(metrics)
            .map_err(|source| DpoError::Json { path: self.0.path().to_owned(), source })?;
        let mut summary = Vec::new();
        for (key, value) in values.as_object().into_iter().flatten() {
            if let (Some(tag), Some(value)) = (tag(key), scalar(value)) {
                let mut entry = field(TAG, tag.as_bytes());
                entry.extend(key_of(SIMPLE_VALUE, FIXED_32));
                entry.extend((value as f32).to_le_bytes());
                summary.extend(field(VALUE, &entry));
            }
        }
        self.append(now(), metrics.step(), &field(SUMMARY, &summary))
    }

    fn append(&mut self, time: f64, step: usize, what: &[u8]) -> Result<(), DpoError> {
        Ok(self.0.append(&record(&event(time, step, what)))?)
    }
}

/// Encodes an event with one further field.
fn event(time: f64, step: usize, what: &[u8]) -> Vec<u8> {
    let mut event = key_of(WALL_TIME, FIXED_64);
    event.extend(time.to_le_bytes());
    event.extend(varint_field(STEP, step as u64));
    event.extend(what);
    event
}

/// Returns the second in the name of the newest event file, if there is one.
fn newest(dir: &Path) -> Result<Option<u64>, DpoError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(DpoError::io("list", dir))?,
    };
    let mut newest = None;
    for entry in entries {
        let name = entry.map_err(DpoError::io("list", dir))?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        newest = newest.max(rest.and_then(|rest| rest.split('.').next()?.parse().ok()));
    }
    Ok(newest)
}

/// Seconds since 1970. TensorBoard shows them, and nothing else depends on them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn scalar(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|is_true| f64::from(u8::from(is_true))))
}

/// Frames an event: its length, a checksum of the length, the event, and its checksum.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(event);
    record.extend(masked_crc(event).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset, because a checksum of data with checksums is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

// numbers of the fields of `Event`, `Summary`, `Summary.Value` and `SessionLog`
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;
const SESSION_STATUS: u64 = 1;
const SESSION_START: u64 = 1;

// types of fields in protocol buffers
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

fn key_of(number: u64, kind: u64) -> Vec<u8> {
    varint(number << 3 | kind)
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [&key_of(number, BYTES), &varint(bytes.len() as u64), bytes].concat()
}

fn varint_field(number: u64, value: u64) -> Vec<u8> {
    [key_of(number, VARINT), varint(value)].concat()
}

/// Seven bits in each byte, the lowest first; the top bit says that another byte follows.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of `tensorboard.compat.proto.event_pb2.Event(...).SerializeToString()`, and records of
    /// `tensorboard.summary.writer.record_writer.RecordWriter` (tensorboard 2.21).
    #[test]
    fn bytes_are_those_of_tensorboard() {
        let value = |tag: &str, value: f32| {
            let mut entry = field(TAG, tag.as_bytes());
            entry.extend(key_of(SIMPLE_VALUE, FIXED_32));
            entry.extend(value.to_le_bytes());
            field(VALUE, &entry)
        };
        let values = [value("train/loss", 0.25), value("train/rewards/margins", -1.5)].concat();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&record(&event(1.5, 300, &field(SUMMARY, &values)))),
            "3f000000000000005165766109000000000000f83f10ac022a310a110a0a747261696e2f6c6f7373150000803e0a1c0a15\
             747261696e2f726577617264732f6d617267696e73150000c0bf6403f36a"
        );
        // protocol buffers may leave out a step of 0 (10 00)
        assert_eq!(
            hex(&event(1.5, 0, &field(FILE_VERSION, b"brain.Event:2"))),
            "09000000000000f83f10001a0d627261696e2e4576656e743a32"
        );
        assert_eq!(
            hex(&event(1.5, 7, &field(SESSION_LOG, &varint_field(SESSION_STATUS, SESSION_START)))),
            "09000000000000f83f10073a020801"
        );
    }
}
