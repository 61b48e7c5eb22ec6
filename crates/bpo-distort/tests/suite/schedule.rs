//! Comparison of the noise schedule with a golden table, in the directory `BPO_GOLDEN` if it is
//! set.

use std::path::Path;

use bpo_distort::diffusion::{STEPS, coefficients};

#[derive(serde::Deserialize)]
struct Golden {
    image: Vec<f64>,
    noise: Vec<f64>,
}

fn golden() -> Golden {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/diffusion_schedule.json");
    // The schedule does not depend on a checkpoint, so other golden directories may lack the table.
    let path = std::env::var_os("BPO_GOLDEN")
        .map(|directory| Path::new(&directory).join("diffusion_schedule.json"))
        .filter(|path| path.exists())
        .unwrap_or(committed);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn all_steps_equal_the_golden_table() {
    let golden = golden();
    assert_eq!((golden.image.len(), golden.noise.len()), (usize::from(STEPS), usize::from(STEPS)));
    for step in 0..STEPS {
        let found = coefficients(step).unwrap();
        for (found, expected) in
            [(found.image, golden.image[usize::from(step)]), (found.noise, golden.noise[usize::from(step)])]
        {
            let relative = ((found - expected) / expected).abs();
            assert!(relative < 1e-6, "step {step}: {found} is not {expected} ({relative:e} relative)");
        }
    }
}

#[test]
fn noise_grows_and_power_is_kept() {
    let all: Vec<_> = (0..STEPS).map(|step| coefficients(step).unwrap()).collect();
    assert!(all.windows(2).all(|pair| pair[0].noise < pair[1].noise && pair[0].image > pair[1].image));
    assert!(all.iter().all(|c| (c.image.powi(2) + c.noise.powi(2) - 1.0).abs() < 1e-12));
}
