//! `bpo distort`

use std::num::NonZero;
use std::path::Path;

use bpo::distort::files::{Batch, Event, FilesError, Made, Outcome};
use bpo::distort::sheet::Sheet;
use bpo::distort::{Distortion, Input, Limits, load_rgb};
use bpo::{Paths, chain};

use crate::args::DistortCommand;
use crate::failure::Failure;
use crate::progress::{self, Bar};

const NAME: &str = "distort";

/// Progress of what is there.
const CHECK: &str = "check";

/// Makes weakened files, or a sheet.
pub fn distort(args: &DistortCommand) -> Result<(), Failure> {
    match (&args.sheet, &args.distortion[..], &args.out) {
        (Some(out), _, _) => sheet(args, out),
        (None, [distortion], Some(out)) => weaken(args, distortion, out),
        // the command line has been read so that one of both is there
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
    progress::tell(&format!("{NAME}: {}", out.display()));
    Ok(())
}

fn weaken(args: &DistortCommand, distortion: &Distortion, out: &Path) -> Result<(), Failure> {
    // before what speaks against the output, which a wrong input may be behind
    let missing = |source| FilesError::Io { action: "read", path: args.images.clone(), source };
    std::fs::metadata(&args.images).map_err(missing)?;
    paths(args).output("--out", out).check()?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let mut batch = Batch::new(distortion.clone())
        .with_seed(args.seed)
        .with_threads(args.threads.unwrap_or(cores))
        .with_limits(limits(args));
    if let Some(other) = &args.other {
        batch = batch.with_other(other);
    }
    if args.images.is_dir() {
        return folder(&batch, &args.images, out);
    }
    let made = batch.file(&args.images, out)?;
    let before = if made == Made::Before { " was there already" } else { "" };
    progress::tell(&format!("{NAME}: {}{before}", out.display()));
    Ok(())
}

fn folder(batch: &Batch, images: &Path, out: &Path) -> Result<(), Failure> {
    let mut bar = None;
    let outcome = batch.folder(images, out, |event| match (event, &bar) {
        (Event::Checking { there }, _) => bar = Some(Bar::new(CHECK, there)),
        (Event::Started { there, total }, _) => {
            // in place of the one above
            bar.take().into_iter().for_each(Bar::clear);
            if there > 0 {
                progress::tell(&format!("{NAME}: {there} of {total} were there already"));
            }
            bar = Some(Bar::resuming(NAME, there, total));
        }
        (Event::Checked { .. } | Event::Made { .. }, Some(bar)) => bar.advance(),
        (Event::Skipped(skipped), Some(bar)) => {
            bar.tell(&format!("{}: {}", skipped.image.display(), chain(&skipped.reason)));
            bar.advance();
        }
        _ => {}
    })?;
    let Outcome { made, there, skipped, .. } = &outcome;
    if let Some(bar) = bar {
        bar.finish(&format!("{} images in {}", made + there, out.display()));
    }
    if skipped.is_empty() {
        return Ok(());
    }
    progress::tell(&format!("error: {} done, {} skipped", made + there, skipped.len()));
    Err(Failure::Incomplete)
}

/// What is read; a folder and what is made of it are compared by the library, which knows the names.
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
