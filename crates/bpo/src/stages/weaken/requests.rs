//! The requests of the weaken stage for a batch-invariant model, one after another.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bpo_distort::Distortion;
use bpo_pairs::{Generated, Provenance, RequestFailure, RequestQueue};

use super::super::missing::Missing;
use super::super::sample_images;
use super::Job;
use crate::error::BpoError;
use crate::vision::VisionRequest;

/// The requests for the items without a record, for a model whose answers do not depend on their
/// batch. Images are checked only if their request fails, because the model may load them in
/// several threads.
pub(super) struct Requests<'a, 'b, 'c> {
    job: &'c Job<'a>,
    missing: &'c mut Missing<'a, 'b>,
    /// The provenance of each answer that is awaited, by the number of its request.
    asked: HashMap<usize, Option<Provenance>>,
    number: usize,
}

impl<'a, 'b, 'c> Requests<'a, 'b, 'c> {
    pub(super) fn new(job: &'c Job<'a>, missing: &'c mut Missing<'a, 'b>) -> Self {
        Self { job, missing, asked: HashMap::new(), number: 0 }
    }

    /// Returns the request of the next item that has images.
    fn next(&mut self) -> Result<Option<VisionRequest>, BpoError> {
        while let Some((place, item)) = self.missing.next_item() {
            if !self.job.may_be_asked(item.sample) {
                if let Err(cause) = self.job.check(item.sample)? {
                    let _ = self.missing.write(place, self.job.skipped(item, cause));
                }
                continue;
            }
            let images = item.sample.images.iter().map(|name| self.job.cache.image(name)).collect();
            // the sample's own images first: if they cannot be used, no other image is needed
            if self.job.distortion(item).is_some_and(Distortion::needs_other)
                && let Err(cause) = sample_images::check(&self.job.cache, item.sample)?
            {
                let _ = self.missing.write(place, self.job.skipped(item, cause));
                continue;
            }
            let weakening = self.job.weakening(item)?;
            self.asked.insert(self.number, self.job.provenance(item, weakening.as_ref()));
            let request = self.job.request(item, images, weakening);
            self.number += 1;
            self.missing.request(place);
            return Ok(Some(request));
        }
        Ok(None)
    }
}

impl<E> RequestQueue<VisionRequest, Result<Generated, RequestFailure<E>>> for Requests<'_, '_, '_>
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn next_request(&mut self) -> Option<VisionRequest> {
        self.next().unwrap_or_else(|error| {
            let _ = self.missing.fail(error);
            None
        })
    }

    fn receive(&mut self, number: usize, answer: Result<Generated, RequestFailure<E>>) -> ControlFlow<()> {
        let provenance = self.asked.remove(&number).unwrap_or_default();
        let job = self.job;
        self.missing.receive(number, |_, item| {
            if answer.is_err()
                && let Err(cause) = sample_images::check(&job.cache, item.sample)?
            {
                return Ok(job.skipped(item, cause));
            }
            job.record(item, provenance, answer)
        })
    }
}
