//! `bpo inspect`

use bpo::pairs::format::jsonl::read_pairs_with;
use bpo::{BpoError, Gallery, ImageRoot, Media};

use crate::args::InspectCommand;
use crate::failure::Failure;
use crate::progress::{Bar, count};
use crate::skipped::print_skipped;
use crate::terminal::print_line;

/// Name of the progress over pairs.
const NAME: &str = "inspect";

/// Writes a gallery of pairs.
///
/// # Errors
/// Returns an error if an input cannot be used, or the gallery cannot be written.
pub fn inspect(args: &InspectCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(None, &[&args.images, &args.seed])?;
    let mut paths = args.config.inputs(&config);
    paths
        .input("PAIRS", &args.pairs)
        .output("--out", &args.out)
        .output("--out", &Gallery::files_dir(&args.out))
        .check()?;
    let images = match &config.data.images {
        Some(dir) => Some(ImageRoot::new(dir).map_err(BpoError::from)?.with_limits(config.data.limits)),
        None => None,
    };
    let set = read_pairs_with(&args.pairs, &Media::of(&config).read_options()).map_err(BpoError::from)?;
    print_skipped(&set.skipped, None);
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(&args.pairs, "pair", &set.skipped).into());
    }
    let mut gallery = Gallery::new().with_seed(config.seed.0).with_most(args.max_pairs);
    if let Some(images) = &images {
        gallery = gallery.with_images(images);
    }
    let bar = Bar::new(NAME, set.pairs.len().min(args.max_pairs));
    let shown = gallery.write(&set.pairs, &args.out, |_| bar.advance())?;
    let of = if shown < set.pairs.len() { format!(" of {}", set.pairs.len()) } else { String::new() };
    bar.finish(&format!("{}{of} in {}", count(shown, "pair", "pairs"), args.out.display()));
    if images.is_none() {
        print_line("warning: no images are shown, as neither --images nor data.images is set");
    }
    Ok(())
}
