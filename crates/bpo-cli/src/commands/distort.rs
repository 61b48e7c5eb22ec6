//! `bpo distort`

use std::num::NonZero;
use std::path::Path;

use bpo::distort::{Distortion, ImageLimits, Input, Sheet, load_rgb};
use bpo::pairs::Untrusted;
use bpo::pairs::files::open_input;
use bpo::{CopyState, DistortEvent, DistortFiles, DistortFilesError, Paths, save_sheet};

use crate::args::DistortCommand;
use crate::failure::Failure;
use crate::progress::{Bar, count};
use crate::skipped::SkipLines;
use crate::terminal::print_line;

/// Name of the progress over images.
const NAME: &str = "distort";

/// Writes distorted images, or a sheet.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if an image of a folder was skipped.
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
    let load = |path: &Path| load_rgb(path, &limits(args)).map_err(DistortFilesError::from);
    let image = load(&args.images)?;
    let other = args.other.as_deref().map(load).transpose()?;
    let input = Input::new(&image);
    let input = other.as_ref().map_or(input, |other| input.with_other(other));
    save_sheet(&Sheet::new().with_thumbnail(args.thumbnail).with_seed(args.seed), input, out)?;
    print_line(&format!("{NAME}: {}", out.display()));
    Ok(())
}

fn weaken(args: &DistortCommand, distortion: &Distortion, out: &Path) -> Result<(), Failure> {
    let is_folder = args.images.is_dir();
    // a wrong input is reported before what it makes of the output
    if !is_folder {
        open_input(&args.images).map_err(DistortFilesError::from)?;
    }
    paths(args).output("--out", out).check()?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let mut files = DistortFiles::new(distortion.clone())
        .with_seed(args.seed)
        .with_threads(args.threads.and_then(NonZero::new).unwrap_or(cores))
        .with_limits(limits(args));
    if let Some(other) = &args.other {
        files = files.with_other(other);
    }
    if is_folder {
        return folder(&files, &args.images, out);
    }
    let state = files.file(&args.images, out)?;
    let existing = if state == CopyState::Existing { " exists already" } else { "" };
    print_line(&format!("{NAME}: {}{existing}", out.display()));
    Ok(())
}

fn folder(files: &DistortFiles, images: &Path, out: &Path) -> Result<(), Failure> {
    let mut bar = None;
    let mut lines = SkipLines::default();
    let outcome = files.folder(images, out, |event| match (event, &bar) {
        (DistortEvent::Started { total }, _) => bar = Some(Bar::new(NAME, total)),
        (DistortEvent::Finished { .. }, Some(bar)) => bar.advance(),
        (DistortEvent::Skipped(skipped), Some(bar)) => {
            let line = format!("{}: {}", Untrusted(&skipped.id), Untrusted(&skipped.detail));
            lines.add(&line, |line| bar.print_line(line));
            bar.advance();
        }
        _ => {}
    })?;
    let done = outcome.written + outcome.existing;
    let before = if outcome.existing == 0 {
        String::new()
    } else {
        format!(", {} of them from before", outcome.existing)
    };
    if let Some(bar) = bar {
        bar.finish(&format!("{} in {}{before}", count(done, "image", "images"), out.display()));
    }
    lines.rest(None).iter().for_each(|line| print_line(line));
    if outcome.skipped.is_empty() {
        return Ok(());
    }
    print_line(&format!("error: {done} done, {} skipped", outcome.skipped.len()));
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

fn limits(args: &DistortCommand) -> ImageLimits {
    let mut limits = ImageLimits::default();
    limits.max_side = args.max_side.unwrap_or(limits.max_side);
    limits.max_pixels = args.max_pixels.unwrap_or(limits.max_pixels);
    limits.max_file_bytes = args.max_file_bytes.unwrap_or(limits.max_file_bytes);
    limits.max_scans = args.max_scans.unwrap_or(limits.max_scans);
    limits.max_millis = args.max_millis.unwrap_or(limits.max_millis);
    limits
}
