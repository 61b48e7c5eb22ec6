//! `bpo convert`

use bpo::pairs::format::{ConvertOptions, Format, ReadOptions, convert as convert_file};
use bpo::pairs::{ImageBytes, ImageDir, ImageSink, PairFilter, PairsError, Skipped, Untrusted};
use bpo::{BpoError, ImageRoot, Paths, RunConfig, Videos};

use crate::args::ConvertCommand;
use crate::failure::Failure;
use crate::progress::count;
use crate::skipped::SkipLines;
use crate::terminal::print_line;

/// Converts a file from one format to another.
///
/// # Errors
/// Returns an error if the input cannot be read, the output cannot be written, or no record fits.
pub fn convert(args: &ConvertCommand) -> Result<(), Failure> {
    paths(args).check()?;
    let mut config = RunConfig::default();
    config.data.images.clone_from(&args.images);
    let sink = args.images.as_ref().map(ImageDir::create).transpose().map_err(PairsError::from)?;
    let root = args.images.as_ref().map(ImageRoot::new).transpose().map_err(BpoError::from)?;
    let videos = Videos::of(&config);
    let filter = PairFilter::default().with_max_words(args.max_words.unwrap_or(usize::MAX));
    let mut read = ReadOptions::default();
    read.format = args.format;
    read.videos = &videos;
    read.images = sink.as_ref().map(|sink| sink as &dyn ImageSink);
    let mut options = ConvertOptions::new(&filter);
    options.read = read;
    options.images = root.as_ref().map(|root| root as &dyn ImageBytes);
    let mut lines = SkipLines::default();
    let mut print = |skipped: &Skipped| {
        let line = format!("skipped: {}: {}", Untrusted(&skipped.id), Untrusted(&skipped.detail));
        lines.add(&line, print_line);
    };
    let converted = convert_file(&args.input, &args.output, args.to, &options, &mut print);
    lines.rest(None).iter().for_each(|line| print_line(line));
    let converted = converted?;
    let skipped = match converted.skipped.total() {
        0 => String::new(),
        total => format!(", {total} skipped ({})", converted.skipped),
    };
    let written = count(converted.written, "record", "records");
    print_line(&format!("convert: {} to {}: {written}{skipped}", converted.from, args.to));
    if converted.unreadable_images > 0 {
        print_line(&format!(
            "warning: the images of {} are in rows of Parquet files, which only bpo opens by these names; give \
             --images and an OUT that ends with .parquet, which holds the images",
            count(converted.unreadable_images, "record", "records")
        ));
    }
    Ok(())
}

fn paths(args: &ConvertCommand) -> Paths {
    let mut paths = Paths::default();
    paths.input("IN", &args.input).output("OUT", &args.output);
    if args.to == Format::LlamaFactory {
        let list = bpo::pairs::format::dataset_info_beside(&args.output);
        paths.output_for("OUT", &args.output, &list);
    }
    if let Some(images) = &args.images {
        paths.shared_input("--images", images);
    }
    paths
}
