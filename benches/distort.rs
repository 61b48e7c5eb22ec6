//! From a JPEG file to noisy pixel values: decoding, preprocessing to 336 px, diffusion noise.
//!
//! Prints images per second next to the floor, decoding alone, and to Python's ways, all in one run, their passes one after
//! the other in turn, so that all see the same noise of the machine: medians of the passes, and of their ratios.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench distort
//! ```
//!
//! Without `BPO_BENCH_PYTHON` Python's are left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bpo::distort::resize::{Filter, resize};
use bpo::distort::{DiffusionNoise, Distortion, ImageLimits, diffusion, load_rgb};
use bpo_benches::contender::Contender;
use bpo_benches::{median, photos, processor, ratio as paired};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

const IMAGES: usize = 60;
const SIZE: [u32; 2] = [640, 480];
const SIDE: usize = 336;
const STEP: u16 = 900;
const PASSES: usize = 9;

/// What is timed: a way to do it, and on how many threads.
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
        Contender::python("noise.py", &[&[dir.path().display().to_string()], &settings[..]].concat());

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
            // the first warms up
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
    // how many times as fast one way is as another, pass by pass
    let ratio = |what: &str, fast: Way, slow: Way| {
        if let (Some(fast), Some(slow)) = (seconds.get(&fast), seconds.get(&slow)) {
            println!("{what:<42} {:6.2}", paired(slow, fast));
        }
    };
    ratio("bpo's time in that of decoding alone", ("decoding alone", 1), ("bpo", 1));
    ratio("bpo on 2 threads, to 1", ("bpo", 2), ("bpo", 1));
    ratio("decoding on 2 threads, to 1", ("decoding alone", 2), ("decoding alone", 1));
    for threads in [1, 2] {
        for peer in ["pillow", "torchvision"] {
            ratio(&format!("bpo to {peer}, {threads} threads"), ("bpo", threads), (peer, threads));
        }
    }
    if python.is_none() {
        println!("BPO_BENCH_PYTHON names no interpreter: Python's ways are left out");
    }
}

/// Seconds that all files take, shared by some threads.
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

/// The repository's photographs in one size.
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
