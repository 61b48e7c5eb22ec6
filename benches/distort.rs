//! From a JPEG file to noisy pixel values: decoding, preprocessing to 336 px and diffusion noise.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench distort
//! ```
//!
//! Prints images per second of bpo, of decoding alone (the lower bound) and of Pillow and
//! torchvision. Passes of all variants alternate in one run; the results are medians over passes,
//! and medians of the ratios of passes. Without `BPO_BENCH_PYTHON` only bpo and decoding are
//! measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bpo::distort::resize::{Filter, resize};
use bpo::distort::{DiffusionNoise, Distortion, ImageLimits, diffusion, load_rgb};
use bpo_benches::timed_process::TimedProcess;
use bpo_benches::{median, photos, processor, ratio as paired};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

const IMAGES: usize = 60;
const SIZE: [u32; 2] = [640, 480];
const SIDE: usize = 336;
const STEP: u16 = 900;
const PASSES: usize = 9;

/// A variant: its name and its number of threads.
type Way = (&'static str, usize);

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_images(dir.path());
    let processor = processor(SIDE);
    let noise = Distortion::from(DiffusionNoise { step: STEP.into() });
    let limits = ImageLimits::default();
    let decode = |file: &Path| drop(load_rgb(file, &limits).expect("our own file"));
    let noised = |file: &Path| {
        let image = load_rgb(file, &limits).expect("our own file");
        let mut pixels = processor.process(&image).expect("an image");
        noise.on_pixels(&mut pixels.data, 7).expect("a step");
        assert_eq!(pixels.data.len(), 3 * SIDE * SIDE);
    };
    let kept = diffusion::coefficients(STEP).expect("a step");
    let settings = [SIDE.to_string(), kept.image.to_string(), kept.noise.to_string()];
    let mut python =
        TimedProcess::python("noise.py", &[&[dir.path().display().to_string()], &settings[..]].concat());

    let mut ways: Vec<Way> = vec![("decoding alone", 1), ("bpo", 1), ("decoding alone", 2), ("bpo", 2)];
    if python.is_some() {
        ways.extend([("pillow", 1), ("torchvision", 1), ("pillow", 2), ("torchvision", 2)]);
    }
    let mut seconds: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
    for pass in 0..=PASSES {
        for &(name, threads) in &ways {
            let took = match (name, &mut python) {
                ("decoding alone", _) => each(&files, threads, &decode),
                ("bpo", _) => each(&files, threads, &noised),
                (peer, Some(python)) => python.ask(&format!("{peer} {threads}")),
                _ => continue,
            };
            // the first pass is a warm-up
            if pass > 0 {
                seconds.entry((name, threads)).or_default().push(took);
            }
        }
    }

    println!("{IMAGES} JPEGs of {} x {}, quality 90, to {SIDE} px, noise of step {STEP}", SIZE[0], SIZE[1]);
    for &(name, threads) in &ways {
        let middle = median(&mut seconds[&(name, threads)].clone());
        println!("{name:<15} {threads} threads {:8.1} images/s", IMAGES as f64 / middle);
    }
    // prints the median over passes of the time of `slow` divided by the time of `fast`
    let ratio = |what: &str, fast: Way, slow: Way| {
        if let (Some(fast), Some(slow)) = (seconds.get(&fast), seconds.get(&slow)) {
            println!("{what:<42} {:6.2}", paired(slow, fast));
        }
    };
    ratio("time of bpo / decoding alone", ("decoding alone", 1), ("bpo", 1));
    ratio("speedup of bpo on 2 threads", ("bpo", 2), ("bpo", 1));
    ratio("speedup of decoding on 2 threads", ("decoding alone", 2), ("decoding alone", 1));
    for threads in [1, 2] {
        for peer in ["pillow", "torchvision"] {
            ratio(&format!("time of {peer} / bpo, {threads} threads"), ("bpo", threads), (peer, threads));
        }
    }
    if python.is_none() {
        println!("Pillow and torchvision are not measured: BPO_BENCH_PYTHON is not set");
    }
}

/// Processes all files on `threads` threads and returns the seconds.
fn each(files: &[PathBuf], threads: usize, work: &(impl Fn(&Path) + Sync)) -> f64 {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(file);
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

/// Writes the repository's photographs as JPEG files of one size.
fn write_images(dir: &Path) -> Vec<PathBuf> {
    let photos = photos();
    let names = ["astronaut", "cat", "coffee", "coins", "rocket"];
    let [width, height] = SIZE;
    let write = |number: usize| {
        let photo = photos.join(format!("{}.jpg", names[number % names.len()]));
        let photo = load_rgb(photo, &ImageLimits::default()).expect("a photograph");
        let image = resize(&photo, width, height, Filter::Bicubic);
        let bytes = Encoder::new(image.as_raw(), width as usize, height as usize, PixelFormat::Rgb)
            .quality(90)
            .subsampling(Subsampling::S420)
            .encode()
            .expect("an image");
        let file = dir.join(format!("{number:03}.jpg"));
        fs::write(&file, bytes).expect("written");
        file
    };
    (0..IMAGES).map(write).collect()
}
