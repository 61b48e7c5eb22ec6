//! `bpo distort`

use std::fmt::Write;
use std::path::PathBuf;

use bpo::distort::{Distortion, Family, MAX_THUMBNAIL};
use clap::Args;

use super::{positive, whole};

/// `bpo distort`
#[derive(Debug, Args)]
#[command(after_long_help = families(), after_help = "`bpo help distort` lists the families of distortions.")]
pub struct DistortCommand {
    /// Image, or folder of images
    #[arg(value_name = "IN")]
    pub images: PathBuf,
    /// Distortion, such as crop:keep=0.2 or blur:sigma=2..8+diffusion-noise:step=500
    #[arg(long, value_name = "TEXT", required_unless_present = "sheet", requires = "out")]
    pub distortion: Vec<Distortion>,
    /// Output: a PNG file, or a folder for a folder. Images that are in it already are not made
    /// again
    #[arg(long, value_name = "PATH", requires = "distortion")]
    pub out: Option<PathBuf>,
    /// Output: draw a sheet of the image by families and severities, as a PNG file, instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["distortion", "out"])]
    pub sheet: Option<PathBuf>,
    /// Second image, for `mix` and `swap` [default: for each image of a folder another one of it]
    #[arg(long, value_name = "IMAGE")]
    pub other: Option<PathBuf>,
    /// Longest side of the images on a sheet, in pixels
    #[arg(long, value_name = "N", default_value_t = 112, conflicts_with = "distortion",
          value_parser = clap::value_parser!(u32).range(16..=i64::from(MAX_THUMBNAIL)))]
    pub thumbnail: u32,
    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = whole::<u64>)]
    pub seed: u64,
    /// Number of images of a folder that are processed at a time [default: the number of cores]
    #[arg(long, value_name = "N", conflicts_with = "sheet", value_parser = positive)]
    pub threads: Option<usize>,
    /// Maximum side of an image, in pixels [default: 16384]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub max_side: Option<u32>,
    /// Maximum number of pixels of an image [default: 100000000]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub max_pixels: Option<u64>,
    /// Maximum size of an image file, in bytes [default: 268435456]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub max_file_bytes: Option<u64>,
    /// Maximum number of scans of a JPEG file [default: 32]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub max_scans: Option<u32>,
    /// Maximum decoding time of an image that is no JPEG file, in milliseconds [default: 60000]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub max_millis: Option<u64>,
}

/// The help of `--distortion`: its syntax and the families.
fn families() -> String {
    let mut text = "\
TEXT is FAMILY:PARAMETER=VALUE,...; `+` joins several stages. A value may be a range, as sigma=2..8: each image gets its own \
value from it. severity=1 to 5 sets the parameters of families that have a strength; it cannot be a range.\n\nFamilies:\n"
        .to_owned();
    for family in Family::all() {
        let parameters: Vec<_> = family.parameters().iter().map(|parameter| parameter.name()).collect();
        let name = [family.name(), &parameters.join(",")].join(if parameters.is_empty() { "" } else { ":" });
        let note = if family.needs_model() { " (not for files)" } else { "" };
        // writing to a string cannot fail
        let _ = writeln!(text, "  {name:<25} {}{note}", family.about());
    }
    text
}
