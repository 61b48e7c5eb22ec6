//! Writes a split as a LLaVA data set with ground truth.
//!
//! ```sh
//! cargo run -p bpo-world --example write -- DIR train 2048
//! ```

use std::path::Path;

use bpo_world::{QuestionMix, Split, write_split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, split, count, rest @ ..] = arguments.as_slice() else {
        return Err("usage: write DIR SPLIT COUNT [SEED] [descriptions]".into());
    };
    let split = Split::ALL.into_iter().find(|known| known.name() == split).ok_or("no such split")?;
    let seed = rest.first().map_or(Ok(0), |seed| seed.parse())?;
    let mix = if rest.get(1).is_some() { QuestionMix::descriptions() } else { QuestionMix::default() };
    let files = write_split(Path::new(dir), split, count.parse()?, seed, &mix)?;
    println!("{}\n{}", files.data.display(), files.truth.display());
    Ok(())
}
