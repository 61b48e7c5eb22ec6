#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod amber;
mod amber_captions;
mod amber_files;
mod amber_words;
mod answers;
mod as_published;
mod asked;
mod auc;
mod bootstrap;
mod chair;
mod error;
mod extracted;
mod grading_error;
mod grading_table;
mod mm_vet;
mod mm_vet_files;
mod mmhal;
mod mmhal_files;
mod named;
mod objects;
mod pairing;
mod pope;
mod ranking;
mod ranking_files;
mod records;
mod singular;
mod table;
mod truth;
mod truth_files;
mod vectors;
mod words_error;
mod yes_no;

pub use amber::{AmberItem, AmberKind, AmberKinds, AmberReport, AmberScores};
pub use amber_captions::{AmberCaption, AmberCaptionReport, AmberCaptionScores};
pub use amber_files::AmberFiles;
pub use amber_words::{AmberWordFiles, AmberWords};
pub use answers::{Scored, read_chair_answers, read_pope_answers};
pub use as_published::sentences::sentences;
pub use auc::{AucDifferences, AucItem, AucReport};
pub use bootstrap::{Bootstrap, Estimate};
pub use chair::{ChairDifferences, ChairItem, ChairMetric, ChairReport, relative_change};
pub use error::EvalError;
pub use extracted::read_extracted_answers;
pub use grading_error::GradingError;
pub use mm_vet::{MmVetDifference, MmVetDifferences, MmVetItem, MmVetReport, MmVetScore};
pub use mm_vet_files::{read_mm_vet_answers, read_mm_vet_grades};
pub use mmhal::{MmhalDifferences, MmhalItem, MmhalKind, MmhalReport, MmhalScore};
pub use mmhal_files::{read_mmhal_answers, read_mmhal_answers_to, read_mmhal_replies};
pub use objects::{Mention, ObjectTable};
pub use pairing::QuestionMismatch;
pub use pope::{
    PopeDifferences, PopeItem, PopeLabel, PopeNegatives, PopeQuestion, PopeReport, is_clear_yes_no,
    parse_yes_no, pope_questions,
};
pub use ranking::{RankingDifferences, RankingItem, RankingReport};
pub use ranking_files::{read_auc_answers, read_ranking_answers};
pub use table::{ReportTable, format_difference, format_number, format_percent, format_points};
pub use truth::Truth;
pub use truth_files::TruthFiles;
pub use words_error::WordsError;
pub use yes_no::YesNoReading;
