//! `bpo distort`

use std::num::NonZero;
use std::path::Path;

use bpo::distort::files::{Batch, Event, FilesError, Made, Outcome};
use bpo::distort::sheet::Sheet;
use bpo::distort::{Distortion, Input, Limits, load_rgb};
use bpo::{Paths, chain};

use crate::args::DistortCommand;
use crate::failure::Failure;
use crate::progress::{Bar, count, print_line};
use crate::skipped::SkipLines;

/// Name of the progress over images to make.
const NAME: &str = "distort";

/// Name of the progress over images that were made before.
const CHECK: &str = "check";

/// Writes distorted images, or a sheet.
///
/// # Errors
/// [`Failure::Incomplete`] if an image of a folder was skipped.
pub fn distort(args: &DistortCommand) -> Result<(), Failure> {
    match (&args.sheet, &args.distortion[..], &args.out) {
        (Some(out), _, _) => sheet(args, out),
        (None, [distortion], Some(out)) => weaken(args, distortion, out),
        // clap requires one of the two
        (None, _, _) => Ok(()),
    }
}

fn sheet(args: &DistortCommand, out: &Path) -> Result<(), Failure> {
    paths(args).output("--sheet", out).check()?;
    let load = |path: &Path| load_rgb(path, &limits(args)).map_err(FilesError::from);
    let image = load(&args.images)?;
    let other = args.other.as_deref().map(load).transpose()?;
    let input = Input::new(&image);
    let input = other.as_ref().map_or(input, |other| input.with_other(other));
    Sheet::new().with_thumbnail(args.thumbnail).with_seed(args.seed).save(input, out)?;
    print_line(&format!("{NAME}: {}", out.display()));
    Ok(())
}

fn weaken(args: &DistortCommand, distortion: &Distortion, out: &Path) -> Result<(), Failure> {
    // a wrong input is reported before what it makes of the output
    let missing = |source| FilesError::Io { action: "read", path: args.images.clone(), source };
    std::fs::metadata(&args.images).map_err(missing)?;
    paths(args).output("--out", out).check()?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let mut batch = Batch::new(distortion.clone())
        .with_seed(args.seed)
        .with_threads(args.threads.and_then(NonZero::new).unwrap_or(cores))
        .with_limits(limits(args));
    if let Some(other) = &args.other {
        batch = batch.with_other(other);
    }
    if args.images.is_dir() {
        return folder(&batch, &args.images, out);
    }
    let made = batch.file(&args.images, out)?;
    let before = if made == Made::Before { " was there already" } else { "" };
    print_line(&format!("{NAME}: {}{before}", out.display()));
    Ok(())
}

fn folder(batch: &Batch, images: &Path, out: &Path) -> Result<(), Failure> {
    let mut bar = None;
    let mut lines = SkipLines::default();
    let outcome = batch.folder(images, out, |event| match (event, &bar) {
        (Event::Checking { there }, _) => bar = Some(Bar::new(CHECK, there)),
        (Event::Started { there, total }, _) => {
            // replaces the bar of the check
            bar.take().into_iter().for_each(Bar::clear);
            if there > 0 {
                print_line(&format!("{NAME}: {there} of {total} were there already"));
            }
            bar = Some(Bar::resuming(NAME, there, total));
        }
        (Event::Checked { .. } | Event::Made { .. }, Some(bar)) => bar.advance(),
        (Event::Skipped(skipped), Some(bar)) => {
            let line = format!("{}: {}", skipped.image.display(), chain(&skipped.reason));
            lines.add(&line, |line| bar.print_line(line));
            bar.advance();
        }
        _ => {}
    })?;
    let Outcome { made, there, skipped, .. } = &outcome;
    if let Some(bar) = bar {
        bar.finish(&format!("{} in {}", count(made + there, "image", "images"), out.display()));
    }
    lines.rest(None).iter().for_each(|line| print_line(line));
    if skipped.is_empty() {
        return Ok(());
    }
    print_line(&format!("error: {} done, {} skipped", made + there, skipped.len()));
    Err(Failure::Incomplete)
}

/// The inputs. The library compares the names in a folder with those of its outputs.
fn paths(args: &DistortCommand) -> Paths {
    let mut paths = Paths::default();
    if !args.images.is_dir() {
        paths.input("IN", &args.images);
    }
    if let Some(other) = &args.other {
        paths.input("--other", other);
    }
    paths
}

fn limits(args: &DistortCommand) -> Limits {
    let mut limits = Limits::default();
    limits.max_side = args.max_side.unwrap_or(limits.max_side);
    limits.max_pixels = args.max_pixels.unwrap_or(limits.max_pixels);
    limits.max_file_bytes = args.max_file_bytes.unwrap_or(limits.max_file_bytes);
    limits.max_scans = args.max_scans.unwrap_or(limits.max_scans);
    limits.max_millis = args.max_millis.unwrap_or(limits.max_millis);
    limits
}
