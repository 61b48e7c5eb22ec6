//! LLaVA with an injector of our own: what any program does that has one.

use bpo::BpoError;
use bpo::llava::LlavaParts;
use bpo::model::responder::LlavaResponder;
use bpo::pairs::images::ImageRoot;
use bpo::pairs::record::PreferencePair;
use bpo::pairs::sft::SftSample;
use bpo::progress::Progress;
use bpo::run::{Completion, Parts};
use bpo::run_dir::RunDir;
use bpo::stages::StageOutcome;

use super::prior::Prior;

/// Everything is LLaVA's but the injector.
pub struct WithPrior(pub LlavaParts);

impl Parts for WithPrior {
    type Model = LlavaResponder;
    type Injector = Prior;

    fn model(&mut self) -> Result<LlavaResponder, BpoError> {
        self.0.model()
    }

    fn injector(&mut self, _: &[SftSample]) -> Result<Prior, BpoError> {
        Ok(Prior)
    }

    fn train(
        &mut self,
        pairs: &[PreferencePair],
        images: &ImageRoot,
        dir: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<(Completion, StageOutcome), BpoError> {
        self.0.train(pairs, images, dir, progress)
    }
}
