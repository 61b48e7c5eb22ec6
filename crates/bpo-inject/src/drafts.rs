//! The drafts of a text model for the requests of a queue. Rejected ones are asked for again.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use bpo_pairs::{Generated, RequestFailure, RequestQueue, Sampling};

use crate::{
    AcceptanceRules, Accepted, CutCounts, DraftContext, ErrorKind, InjectError, Injection, InjectionFailure,
    InjectionQueue, InjectionRequest, LlmInjectorConfig, Rejection, RejectionCounts, Templates, TextRequest,
};

/// Applies the acceptance rules to drafts, and counts rejections and removed parts.
pub(crate) struct DraftFilter<'a> {
    pub rules: &'a AcceptanceRules,
    pub rejections: &'a mut RejectionCounts,
    pub cuts: &'a mut CutCounts,
}

impl DraftFilter<'_> {
    fn accept(&mut self, draft: &Generated, pending: &Pending) -> Result<Accepted, Rejection> {
        let Pending { kind, prompt, request: InjectionRequest { question, answer, .. }, .. } = pending;
        let context = DraftContext { prompt, question, answer, kind: *kind };
        let verdict = self.rules.accept(draft, context);
        match &verdict {
            Ok(accepted) => accepted.cuts.iter().for_each(|&cut| self.cuts.add(cut)),
            Err(reason) => {
                self.rejections.add(*reason);
                tracing::debug!(%reason, draft = draft.text, "draft rejected");
            }
        }
        verdict
    }
}

/// One answer to rewrite.
struct Pending {
    /// Number of the request in the queue of the injector.
    number: usize,
    request: InjectionRequest,
    kind: ErrorKind,
    prompt: String,
    /// The reasons for which its drafts so far were rejected.
    rejected: Vec<Rejection>,
}

impl Pending {
    /// Returns the number of the next draft, from 1.
    fn attempt(&self) -> u32 {
        u32::try_from(self.rejected.len() + 1).unwrap_or(u32::MAX)
    }
}

/// The drafts to ask a text model for, made from the requests for the injector.
pub(crate) struct Drafts<'a, 'q> {
    queue: &'a mut InjectionQueue<'q>,
    config: &'a LlmInjectorConfig,
    templates: &'a Templates,
    filter: DraftFilter<'a>,
    /// Number of requests taken from the queue.
    taken: usize,
    /// Number of drafts that were asked for.
    asked: usize,
    /// Drafts that await an answer, by the number of the draft.
    awaited: HashMap<usize, Pending>,
    /// Answers whose last draft was rejected. They come before further requests, so that few
    /// drafts are lost if the process is killed.
    rejected: VecDeque<Pending>,
    is_stopped: bool,
}

impl<'a, 'q> Drafts<'a, 'q> {
    pub(crate) fn new(
        queue: &'a mut InjectionQueue<'q>,
        config: &'a LlmInjectorConfig,
        templates: &'a Templates,
        filter: DraftFilter<'a>,
    ) -> Self {
        let (awaited, rejected) = (HashMap::new(), VecDeque::new());
        Self { queue, config, templates, filter, taken: 0, asked: 0, awaited, rejected, is_stopped: false }
    }

    /// Reports the drafts that the text model did not give.
    pub(crate) fn finish(self) {
        if self.is_stopped {
            return;
        }
        let (expected, found) = (self.asked, self.asked - self.awaited.len());
        let mut numbers: Vec<usize> = self.awaited.into_values().map(|pending| pending.number).collect();
        numbers.sort_unstable();
        for number in numbers {
            let missing = InjectError::MissingResult { expected, found };
            let _ = self.queue.receive(number, Err(InjectionFailure::failed(missing)));
        }
    }

    /// Returns the next answer to rewrite: one whose draft was rejected, or one of the queue.
    fn next_pending(&mut self) -> Option<Pending> {
        if let Some(pending) = self.rejected.pop_front() {
            return Some(pending);
        }
        while !self.is_stopped {
            let request = self.queue.next_request()?;
            let number = self.taken;
            self.taken += 1;
            let failure = match self.config.kinds.draw(&request.answer, request.seed) {
                None => {
                    self.filter.rejections.add(Rejection::NoKindFits);
                    InjectionFailure::skipped(Rejection::NoKindFits)
                }
                Some(kind) => match self.templates.render(kind, &request.question, &request.answer) {
                    Ok(prompt) => {
                        return Some(Pending { number, request, kind, prompt, rejected: Vec::new() });
                    }
                    Err(error) => InjectionFailure::failed(error),
                },
            };
            self.is_stopped |= self.queue.receive(number, Err(failure)).is_break();
        }
        None
    }
}

impl<E> RequestQueue<TextRequest, Result<Generated, RequestFailure<E>>> for Drafts<'_, '_>
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn next_request(&mut self) -> Option<TextRequest> {
        let pending = self.next_pending()?;
        let sampling = Sampling::greedy(self.config.max_new_tokens)
            .with_temperature(self.config.temperature)
            .with_top_p(self.config.top_p)
            .with_seed(draft_seed(pending.request.seed, pending.attempt()));
        let (system, prompt) = (self.config.system.clone(), pending.prompt.clone());
        self.awaited.insert(self.asked, pending);
        self.asked += 1;
        Some(TextRequest { system, prompt, sampling })
    }

    fn receive(&mut self, number: usize, draft: Result<Generated, RequestFailure<E>>) -> ControlFlow<()> {
        let Some(mut pending) = self.awaited.remove(&number) else { return ControlFlow::Continue(()) };
        let attempt = pending.attempt();
        let result = match draft {
            Err(RequestFailure { error, is_request_error: true }) => {
                Err(InjectionFailure::Refused { source: Box::new(error) })
            }
            Err(RequestFailure { error, .. }) => Err(InjectionFailure::failed(error)),
            Ok(draft) => match self.filter.accept(&draft, &pending) {
                Ok(Accepted { text, cuts }) => Ok(Injection::new(text, attempt)
                    .with_cuts(cuts)
                    .with_error(pending.kind.as_str())
                    .with_rejected(pending.rejected)),
                Err(reason) => {
                    pending.rejected.push(reason);
                    if attempt < self.config.attempts {
                        self.rejected.push_back(pending);
                        return ControlFlow::Continue(());
                    }
                    Err(InjectionFailure::Skipped { rejected: pending.rejected })
                }
            },
        };
        let flow = self.queue.receive(pending.number, result);
        self.is_stopped |= flow.is_break();
        flow
    }
}

/// Returns the seed of one draft. The first seed is that of the request. Later seeds are far from
/// it, so that requests with adjacent seeds do not have the same drafts.
fn draft_seed(seed: u64, attempt: u32) -> u64 {
    // 2^64 / golden ratio, odd: its first 2^64 multiples are distinct.
    seed.wrapping_add(u64::from(attempt - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
