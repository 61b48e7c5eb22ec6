//! Prints the log-probability of each answer about an image under a checkpoint.
//!
//! ```sh
//! cargo run --release -p bpo-examples --example score -- \
//!   crates/bpo-model/tests/golden/tiny-llava examples/data/photos/cat.jpg \
//!   "Describe the image." "A tabby cat with green eyes." "A brown dog on a sofa."
//! ```

use std::error::Error;
use std::path::Path;

use bpo::burn::tensor::Device;
use bpo::distort::{ImageLimits, load_rgb};
use bpo::model::{Adapters, LoadOptions, Processor, ScoreBatch, Vlm};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, image, prompt, answers @ ..] = arguments.as_slice() else {
        return Err("usage: score MODEL IMAGE PROMPT ANSWER...".into());
    };
    let dir = Path::new(model);
    let model = Vlm::from_pretrained(dir, &LoadOptions::default(), &Device::flex())?;
    let processor = Processor::from_dir(dir, model.config())?;

    let image = processor.image.process(&load_rgb(image, &ImageLimits::default())?)?;
    let tokenized: Result<Vec<_>, _> = answers
        .iter()
        .map(|answer| processor.encode_completion(None, &[], prompt, answer, &[&image.layout]))
        .collect();
    // one group: image and prompt run once for all answers
    let batch = ScoreBatch::new(model.config(), vec![image], &[(vec![0], tokenized?)])?;
    let (logps, _mask) = model.completion_logps(&batch, Adapters::On)?;
    let sums = logps.sum_dim(1).into_data();
    for (answer, sum) in answers.iter().zip(sums.iter::<f32>()) {
        println!("{sum:10.3} nats  {answer}");
    }
    Ok(())
}
