//! The requests to a judge about one answer, and what follows from the replies.

use bpo_inject::without_reasoning;
use bpo_pairs::{
    FinishReason, Generated, RequestFailure, Sampling, SkipReason, Skipped, item_seed, stage_seed,
};

use super::super::StageRecord;
use super::super::batches::Item;
use super::super::record::Bootstrapped;
use super::job::Job;
use crate::config::JudgeMethod;
use crate::error::{BpoError, chain};
use crate::image_cache::LazyImage;
use crate::judge::{Claim, Context, Judgment, Verdict, claims, verdict};
use crate::stage::Stage;
use crate::vision::VisionRequest;

/// The judgment of one answer, which takes one request or several.
pub(super) struct Judging<'a> {
    job: &'a Job<'a>,
    item: Item<'a>,
    answer: &'a Bootstrapped,
    images: Vec<LazyImage>,
    state: State,
}

enum State {
    /// The score is asked for.
    Score,
    /// The list of claims is asked for.
    Claims,
    /// It is asked for each claim whether it is right. All replies are awaited, so that the record does not
    /// depend on their order.
    Verdicts { claims: Vec<String>, verdicts: Vec<Option<Result<Verdict, Cause>>> },
}

/// Why an answer is not judged: the reason, and its detail for display.
type Cause = (SkipReason, String);

/// What follows from a reply.
pub(super) enum Step {
    /// Further requests, numbered from 0.
    Ask(Vec<VisionRequest>),
    /// Other replies are awaited.
    Wait,
    /// The record of the answer.
    Done(Box<StageRecord>),
}

impl<'a> Judging<'a> {
    /// Returns the state before the first reply, and the first request.
    ///
    /// # Errors
    /// Returns an error if a prompt cannot be rendered.
    pub(super) fn start(
        job: &'a Job<'a>,
        item: Item<'a>,
        answer: &'a Bootstrapped,
        images: Vec<LazyImage>,
    ) -> Result<(Self, VisionRequest), BpoError> {
        let of = Context { sample: item.sample, answer: &answer.response };
        let mut judging = Self { job, item, answer, images, state: State::Score };
        let request = match job.config.judge.method {
            JudgeMethod::Score => judging.request(0, job.whole_prompt(of)?, true),
            JudgeMethod::Claims => {
                judging.state = State::Claims;
                // the claims are those of the text
                judging.request(0, job.prompts.claims(of)?, false)
            }
        };
        Ok((judging, request))
    }

    /// Returns the item of the answer.
    pub(super) fn item(&self) -> Item<'a> {
        self.item
    }

    /// Takes the reply to a request.
    ///
    /// # Errors
    /// Returns [`BpoError::StageStopped`] if the judge failed for another reason than the request, or an
    /// error if a prompt cannot be rendered.
    pub(super) fn receive<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        part: usize,
        reply: Result<Generated, RequestFailure<E>>,
    ) -> Result<Step, BpoError> {
        let reply = match reply {
            Ok(reply) => whole_text(reply),
            Err(RequestFailure { error, is_request_error: true }) => {
                let reason = SkipReason::JudgeFailed;
                Err((reason, format!("{reason}: {}", chain(&error))))
            }
            Err(RequestFailure { error, .. }) => {
                let (id, source) = (self.answer.id.clone(), Box::new(error));
                return Err(BpoError::StageStopped { stage: Stage::Judge, id, source });
            }
        };
        self.take(part, reply)
    }

    /// Takes the failure of a request because of an image.
    ///
    /// # Errors
    /// Returns the errors of [`receive`](Self::receive).
    pub(super) fn fail(&mut self, part: usize, cause: Skipped) -> Result<Step, BpoError> {
        self.take(part, Err((cause.reason, cause.detail)))
    }

    fn take(&mut self, part: usize, reply: Result<String, Cause>) -> Result<Step, BpoError> {
        match &mut self.state {
            State::Score => {
                let judged = reply.and_then(|reply| match self.job.score_of(&reply) {
                    Ok(score) => Ok(Judgment::of_reply(score, reply)),
                    Err(what) => Err(unclear(&what, &reply)),
                });
                Ok(self.done(judged))
            }
            State::Claims => {
                let claims = reply.and_then(|reply| {
                    claims(&reply).ok_or_else(|| unclear("no list of questions, one per line", &reply))
                });
                let claims = match claims {
                    Ok(claims) => claims,
                    Err(cause) => return Ok(self.done(Err(cause))),
                };
                let ask = |(number, claim): (usize, &String)| {
                    let prompt = self.job.prompts.claim(self.item.sample, claim)?;
                    Ok(self.request(number + 1, prompt, true))
                };
                let requests = claims.iter().enumerate().map(ask).collect::<Result<_, BpoError>>()?;
                self.state = State::Verdicts { verdicts: claims.iter().map(|_| None).collect(), claims };
                Ok(Step::Ask(requests))
            }
            State::Verdicts { claims, verdicts } => {
                if let (Some(place), Some(claim)) = (verdicts.get_mut(part), claims.get(part)) {
                    *place = Some(reply.and_then(|reply| {
                        verdict(&reply).ok_or_else(|| {
                            unclear(&format!("neither yes, no nor unknown to {claim:?}"), &reply)
                        })
                    }));
                }
                if verdicts.iter().any(Option::is_none) {
                    return Ok(Step::Wait);
                }
                let verdicts = std::mem::take(verdicts).into_iter().flatten();
                let claims = std::mem::take(claims).into_iter().zip(verdicts);
                let claims: Result<Vec<_>, Cause> =
                    claims.map(|(claim, verdict)| Ok(Claim::new(claim, verdict?))).collect();
                Ok(self.done(claims.map(Judgment::of_claims)))
            }
        }
    }

    /// Makes the request number `number` about the answer.
    fn request(&self, number: usize, prompt: String, with_images: bool) -> VisionRequest {
        let section = &self.job.config.judge;
        let name = format!("{}\0{}\0{number}", self.answer.id, self.answer.variant);
        let seed = item_seed(stage_seed(self.job.config.seed.0, "judge"), name);
        VisionRequest {
            images: if with_images { self.images.clone() } else { Vec::new() },
            weakening: None,
            system: None,
            history: Default::default(),
            prompt,
            answer_prefix: String::new(),
            sampling: Sampling::greedy(section.max_new_tokens)
                .with_temperature(section.temperature)
                .with_top_p(section.top_p)
                .with_seed(seed),
        }
    }

    fn done(&self, judged: Result<Judgment, Cause>) -> Step {
        Step::Done(Box::new(match judged {
            Ok(judgment) => StageRecord::Answered(Bootstrapped {
                judgment: Some(Box::new(judgment)),
                ..self.answer.clone()
            }),
            Err((reason, detail)) => {
                let skipped = Skipped::new(&self.answer.id, reason).with_detail(detail);
                self.job.skipped(self.answer, skipped)
            }
        }))
    }
}

/// Returns the text of a reply without its reasoning.
fn whole_text(reply: Generated) -> Result<String, Cause> {
    if reply.finish == FinishReason::Length {
        let why = "it reached `judge.max_new_tokens`, so its end is missing";
        return Err(unclear(why, &reply.text));
    }
    without_reasoning(&reply.text).ok_or_else(|| unclear("reasoning without a reply after it", &reply.text))
}

fn unclear(what: &str, reply: &str) -> Cause {
    let reason = SkipReason::JudgeUnclear;
    (reason, format!("{reason}: {what}: {:?}", start(reply)))
}

/// Returns the start of a reply, for a message.
fn start(reply: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown: String = reply.trim().chars().take(SHOWN).collect();
    if shown.len() < reply.trim().len() {
        shown.push_str(" ...");
    }
    shown
}
