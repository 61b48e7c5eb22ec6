//! A training loop built from bpo-dpo's parts: AdamW, cosine schedule with warm-up, gradient
//! clipping.

use std::error::Error;
use std::time::Instant;

use bpo::burn;
use bpo::dpo::{LrSchedule, PathOptimizer, Schedule, clip_global_norm};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Tensor;

/// A stage of training.
pub struct Stage {
    pub name: &'static str,
    pub steps: usize,
    pub learning_rate: f64,
}

impl Stage {
    pub fn new(name: &'static str, steps: usize, learning_rate: f64) -> Self {
        Self { name, steps, learning_rate }
    }

    /// Runs the stage. `loss` makes the batch of a step and returns its loss.
    pub fn run<M: Module>(
        &self,
        mut module: M,
        mut loss: impl FnMut(&M, usize) -> Result<Tensor<1>, Box<dyn Error>>,
    ) -> Result<M, Box<dyn Error>> {
        const EVERY: usize = 50;
        let config = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.98).with_weight_decay(0.01);
        let mut optimizer = PathOptimizer::new(&config, self.learning_rate, Vec::new());
        let plan = LrSchedule::new(Schedule::Cosine, 0.03, self.steps);
        let (started, mut sum) = (Instant::now(), 0.0);
        for step in 0..self.steps {
            let value = loss(&module, step)?;
            sum += f64::from(value.clone().inner().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(value.backward(), &module);
            let (gradients, _) = clip_global_norm(&module, gradients, 1.0)?;
            module = optimizer.step(module, gradients, plan.factor(step).max(0.05));
            if (step + 1) % EVERY == 0 || step + 1 == self.steps {
                let seconds = started.elapsed().as_secs_f64();
                let mean = sum / (step % EVERY + 1) as f64;
                println!("{}: step {}/{}, loss {mean:.4}, {seconds:.0} s", self.name, step + 1, self.steps);
                sum = 0.0;
            }
        }
        Ok(module)
    }
}
