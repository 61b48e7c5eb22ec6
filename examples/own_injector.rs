//! Implements `ErrorInjector`: swaps left and right, and rejects answers that contain neither.
//!
//! ```sh
//! cargo run -p bpo-examples --example own_injector
//! ```
//!
//! `LocalBackend::with_injector` uses the injector in a run, in place of the one of the settings:
//!
//! ```ignore
//! let (device, further) = config.device.open()?;
//! let backend = LocalBackend::new(config.clone(), device, None).with_devices(further);
//! let mut backend = backend.with_injector(|_samples| Box::new(Mirror));
//! let report = bpo::run(&config, "run".as_ref(), &mut backend, &mut ())?;
//! ```

use bpo::inject::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};

/// Replaces every "left" by "right" and every "right" by "left".
struct Mirror;

impl ErrorInjector for Mirror {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        requests
            .iter()
            .map(|request| {
                let mirrored = request.answer.split(' ').map(|word| match word {
                    "left" => "right",
                    "right" => "left",
                    other => other,
                });
                let text = mirrored.collect::<Vec<_>>().join(" ");
                if text == request.answer {
                    return Err(InjectionFailure::skipped(Rejection::Identical));
                }
                Ok(Injection::new(text, 1))
            })
            .collect()
    }
}

fn main() {
    let requests = [
        InjectionRequest::new("Where is the cup?", "The cup is left of the plate.", 0),
        InjectionRequest::new("What is it?", "It is a cup.", 1),
    ];
    for (request, injected) in requests.iter().zip(Mirror.inject(&requests)) {
        match injected {
            Ok(injection) => println!("{}  ->  {}", request.answer, injection.text),
            Err(failure) => println!("{}  ->  {failure}", request.answer),
        }
    }
}
