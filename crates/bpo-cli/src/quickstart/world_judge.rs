//! The judge of the quickstart, in place of a language model. It knows what a description says.

use std::path::{Path, PathBuf};

use bpo::inject::ErrorInjector;
use bpo::pairs::{FinishReason, Generated, PreferencePair, SftSample};
use bpo::stages::StageOutcome;
use bpo::{
    BpoError, ImageRoot, LocalBackend, PipelineBackend, Progress, RunConfig, RunDir, RunStatus, Stage,
    VisionLanguageModel, VisionRequest, WeakenModelError,
};
use bpo_world::{Claim, read_claims};

use super::files::write;

/// Separates the annotated answer from the one to judge.
const SEPARATOR: &str = "\n---\n";

/// Writes the prompt of the judge, which has the two answers alone, and returns its path.
pub fn write_prompt(dir: &Path) -> Result<PathBuf, BpoError> {
    let path = dir.join("score.j2");
    write(&path, format!("{{{{ annotation }}}}{SEPARATOR}{{{{ answer }}}}").as_bytes())?;
    Ok(path)
}

/// Gives an answer one point less than the highest score for each wrong claim: an object that the annotated
/// answer does not name, or that has another colour or number there.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldJudge {
    /// Whether each object that the answer leaves out costs one point, too.
    pub wants_all: bool,
}

impl VisionLanguageModel for WorldJudge {
    type Error = WeakenModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, WeakenModelError>> {
        let reply = |request: &VisionRequest| {
            let (annotated, answer) = request.prompt.split_once(SEPARATOR).unwrap_or_default();
            let text = format!("Score: {}", self.score(annotated, answer));
            Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
        };
        requests.iter().map(reply).collect()
    }

    fn is_batch_invariant(&self) -> bool {
        true
    }
}

impl WorldJudge {
    fn score(self, annotated: &str, answer: &str) -> usize {
        let (right, said) = (read_claims(annotated), read_claims(answer));
        if right.is_empty() {
            // a short answer, such as "Two."
            return if annotated.trim().eq_ignore_ascii_case(answer.trim()) { 5 } else { 1 };
        }
        let wrong = said.iter().filter(|claim| !holds(claim, &right)).count();
        let is_named = |known: &&Claim| said.iter().any(|claim| claim.kind == known.kind);
        let left_out = right.iter().filter(|known| !is_named(known)).count();
        let points = if self.wants_all { wrong + left_out } else { wrong };
        5 - points.min(4)
    }
}

/// Returns whether a claim agrees with the right ones.
fn holds(claim: &Claim, right: &[Claim]) -> bool {
    right.iter().any(|known| {
        known.kind == claim.kind
            && known.count == claim.count
            && (claim.colour.is_none() || known.colour == claim.colour)
    })
}

/// A backend whose judge is a [`WorldJudge`].
#[derive(Debug)]
pub struct WithWorldJudge {
    /// Answers, injects errors and trains.
    pub backend: LocalBackend,
    /// The judge.
    pub judge: WorldJudge,
}

impl PipelineBackend for WithWorldJudge {
    type Model = Box<dyn VisionLanguageModel<Error = WeakenModelError>>;
    type Injector = Box<dyn ErrorInjector>;

    fn check(&mut self, config: &RunConfig, samples: &[SftSample], left: &[Stage]) -> Result<(), BpoError> {
        self.backend.check(config, samples, left)
    }

    fn model(&mut self) -> Result<Self::Model, BpoError> {
        Ok(Box::new(self.backend.model()?))
    }

    fn judge(&mut self) -> Result<Self::Model, BpoError> {
        Ok(Box::new(self.judge))
    }

    fn injector(&mut self, samples: &[SftSample]) -> Result<Self::Injector, BpoError> {
        self.backend.injector(samples)
    }

    fn train(
        &mut self,
        pairs: Vec<PreferencePair>,
        images: &ImageRoot,
        dir: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<(RunStatus, StageOutcome), BpoError> {
        self.backend.train(pairs, images, dir, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_claims_lower_the_score() {
        let right = "You can see a white fork, a red car and two orange shells in this kitchen.";
        let score = |annotated: &str, answer: &str| {
            [false, true].map(|wants_all| WorldJudge { wants_all }.score(annotated, answer))
        };
        assert_eq!(score(right, right), [5, 5]);
        assert_eq!(score(right, "You can see a white fork in this kitchen."), [5, 3]);
        let wrong = "You can see a blue fork, a red car and three orange shells in this kitchen.";
        assert_eq!(score(right, wrong), [3, 3]);
        assert_eq!(score("Two.", "two."), [5, 5]);
        assert_eq!(score("Yes.", "No."), [1, 1]);
    }
}
