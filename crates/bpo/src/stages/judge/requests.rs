//! The requests to a judge that is batch-invariant, such as one behind a server, one after another.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use bpo_pairs::{Generated, RequestFailure, RequestQueue};

use super::super::missing::Missing;
use super::job::Job;
use super::judging::{Judging, Step};
use crate::error::BpoError;
use crate::vision::VisionRequest;

/// The requests about all answers without a record. Follow-up requests come before those about the next
/// answer. Images are checked only if their request fails, because the model may load them in several
/// threads.
pub(super) struct Requests<'a, 'b, 'c> {
    job: &'a Job<'a>,
    missing: &'c mut Missing<'a, 'b>,
    /// The open judgments by the number of their item among the requested ones.
    open: HashMap<usize, Judging<'a>>,
    /// The judgment of each request that awaits a reply, and its number in the judgment.
    asked: HashMap<usize, (usize, usize)>,
    follow_up: VecDeque<(usize, usize, VisionRequest)>,
    items: usize,
    requests: usize,
}

impl<'a, 'b, 'c> Requests<'a, 'b, 'c> {
    pub(super) fn new(job: &'a Job<'a>, missing: &'c mut Missing<'a, 'b>) -> Self {
        let (open, asked, follow_up) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { job, missing, open, asked, follow_up, items: 0, requests: 0 }
    }

    fn next(&mut self) -> Result<Option<VisionRequest>, BpoError> {
        if let Some((judging, part, request)) = self.follow_up.pop_front() {
            return Ok(Some(self.ask(judging, part, request)));
        }
        while let Some((place, item)) = self.missing.next_item() {
            let Some(answer) = self.job.answer(item) else { continue };
            match self.job.images(item) {
                Ok(images) => {
                    let (judging, request) = Judging::start(self.job, item, answer, images)?;
                    let number = self.items;
                    self.items += 1;
                    self.missing.request(place);
                    self.open.insert(number, judging);
                    return Ok(Some(self.ask(number, 0, request)));
                }
                Err(skipped) => {
                    let _ = self.missing.write(place, self.job.skipped(answer, skipped));
                }
            }
        }
        Ok(None)
    }

    fn ask(&mut self, judging: usize, part: usize, request: VisionRequest) -> VisionRequest {
        self.asked.insert(self.requests, (judging, part));
        self.requests += 1;
        request
    }

    /// Returns what follows from a reply. If it failed because of an image, that is the reason.
    fn step<E: std::error::Error + Send + Sync + 'static>(
        job: &Job<'a>,
        judging: &mut Judging<'a>,
        part: usize,
        reply: Result<Generated, RequestFailure<E>>,
    ) -> Result<Step, BpoError> {
        if reply.is_err()
            && let Err(cause) = job.checked_images(judging.item())?
        {
            return judging.fail(part, cause);
        }
        judging.receive(part, reply)
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

    fn receive(&mut self, number: usize, reply: Result<Generated, RequestFailure<E>>) -> ControlFlow<()> {
        // a judgment that is done needs no further replies
        let Some((item, part)) = self.asked.remove(&number) else { return ControlFlow::Continue(()) };
        let Some(judging) = self.open.get_mut(&item) else { return ControlFlow::Continue(()) };
        match Self::step(self.job, judging, part, reply) {
            Ok(Step::Wait) => ControlFlow::Continue(()),
            Ok(Step::Ask(requests)) => {
                let requests = requests.into_iter().enumerate();
                self.follow_up.extend(requests.map(|(part, request)| (item, part, request)));
                ControlFlow::Continue(())
            }
            Ok(Step::Done(record)) => {
                self.open.remove(&item);
                self.missing.receive(item, |_, _| Ok(*record))
            }
            Err(error) => {
                self.open.remove(&item);
                self.missing.receive(item, |_, _| Err(error))
            }
        }
    }
}
