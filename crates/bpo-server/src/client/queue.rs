//! Sends the requests of a queue: as many at a time as the server can take, each until it is
//! answered or no retry is left.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bpo_pairs::{AttemptFailure, Generated, RequestFailure, RequestQueue, chain};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::OpenAiClient;
use super::attempt::{Attempt, Failure, Remedy};
use super::inbox::{CloseOnDrop, Inbox};
use crate::chat::Chat;
use crate::concurrency::Limiter;
use crate::error::ServerError;
use crate::wire::ChatRequest;

/// Makes the conversation of a request, in a thread of the client.
type Prepare<'a, J, E> = dyn Fn(&J) -> Result<Chat, RequestFailure<E>> + Sync + 'a;

/// A request with the number of its attempts.
struct Task<J> {
    number: usize,
    job: J,
    /// Attempts so far, including one under way.
    attempts: u32,
    /// Number of answers of the server before the first attempt.
    answers_before: usize,
}

/// The end of an attempt, or of a thread.
enum Event<J, E> {
    Ended {
        task: Task<J>,
        sent: Instant,
        end: Result<Attempt, RequestFailure<E>>,
    },
    /// A thread has panicked.
    Panicked,
}

/// A request that waits for its next attempt. The one that is due first is the greatest.
struct Waiting<J> {
    due: Instant,
    task: Task<J>,
}

impl<J> PartialEq for Waiting<J> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<J> Eq for Waiting<J> {}

impl<J> PartialOrd for Waiting<J> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> Ord for Waiting<J> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.task.number).cmp(&(self.due, self.task.number))
    }
}

impl OpenAiClient {
    /// Answers the requests of a queue. `prepare` makes the conversation of a request in a thread
    /// of the client, as many at a time as there are processors, so that it can load and encode
    /// images. It is called again for each retry.
    ///
    /// The number of concurrent requests is adapted to the server, up to `max_concurrency`. Each
    /// answer is passed on as soon as it arrives. A request that fails for a reason that may pass is
    /// sent again after a wait, while others go on. [`RequestFailure::is_request_error`] is true for
    /// status 400, 413 and 422, and for a request that still fails with status 500 or an unreadable
    /// answer after all retries although the server has answered others in the meantime.
    pub fn answer_queue<J: Send, E: From<ServerError> + Send>(
        &self,
        queue: &mut dyn RequestQueue<J, Result<Generated, RequestFailure<E>>>,
        prepare: &Prepare<'_, J, E>,
    ) {
        let inbox = Inbox::new();
        let before = self.meter.read();
        std::thread::scope(|scope| {
            // closed before the scope waits for the threads
            let close = CloseOnDrop(&inbox);
            let (sender, receiver) = mpsc::channel();
            let mut sending = Sending::new(self, queue);
            let start_thread = || {
                let (inbox, sender) = (&inbox, sender.clone());
                let work = move || self.work(inbox, &sender, prepare);
                std::thread::Builder::new().spawn_scoped(scope, work).map(|_| ())
            };
            while let Some(task) = sending.next(&receiver) {
                if !sending.has_thread(&start_thread) {
                    // no thread could be started: this thread sends the request
                    let ended = self.run(task, prepare);
                    sending.ended(ended);
                } else {
                    inbox.put(task);
                }
            }
            drop(close);
        });
        let after = self.meter.read();
        let retries = after.retries - before.retries;
        if retries > 1 {
            tracing::warn!(
                retries,
                requests = after.answers - before.answers,
                failures = after.failures_text(),
                "requests were tried again"
            );
        }
    }

    /// Sends requests until the inbox is closed.
    fn work<J, E: From<ServerError>>(
        &self,
        inbox: &Inbox<Task<J>>,
        sender: &Sender<Event<J, E>>,
        prepare: &Prepare<'_, J, E>,
    ) {
        /// Reports a panic, because the other side waits for the end of an attempt.
        struct Report<'a, J, E>(&'a Sender<Event<J, E>>);
        impl<J, E> Drop for Report<'_, J, E> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    let _ = self.0.send(Event::Panicked);
                }
            }
        }
        let _report = Report(sender);
        while let Some(task) = inbox.take() {
            // the receiver is dropped only after a panic
            let _ = sender.send(self.run(task, prepare));
        }
    }

    /// Prepares and sends a request once.
    fn run<J, E: From<ServerError>>(&self, mut task: Task<J>, prepare: &Prepare<'_, J, E>) -> Event<J, E> {
        task.attempts += 1;
        let body = self.slots.prepare(|| {
            let chat = prepare(&task.job)?;
            serde_json::to_vec(&ChatRequest::new(&self.config.model, &chat)).map_err(|source| {
                let error = E::from(ServerError::Encode { source });
                RequestFailure { error, is_request_error: true }
            })
        });
        let sent = Instant::now();
        let end = body.map(|body| self.attempt(body.bytes(), task.attempts));
        Event::Ended { task, sent, end }
    }
}

/// The state of the requests of a queue.
struct Sending<'a, J, E> {
    client: &'a OpenAiClient,
    queue: &'a mut dyn RequestQueue<J, Result<Generated, RequestFailure<E>>>,
    limiter: Limiter,
    waiting: BinaryHeap<Waiting<J>>,
    /// Number of requests taken from the queue.
    taken: usize,
    in_flight: usize,
    threads: usize,
    is_stopped: bool,
    has_warned: bool,
}

impl<'a, J, E: From<ServerError>> Sending<'a, J, E> {
    fn new(
        client: &'a OpenAiClient,
        queue: &'a mut dyn RequestQueue<J, Result<Generated, RequestFailure<E>>>,
    ) -> Self {
        // the settings were checked when the client was created
        let timeout = client.config.timeout().unwrap_or(Duration::MAX);
        Self {
            client,
            queue,
            limiter: Limiter::new(client.config.max_concurrency, timeout),
            waiting: BinaryHeap::new(),
            taken: 0,
            in_flight: 0,
            threads: 0,
            is_stopped: false,
            has_warned: false,
        }
    }

    /// Returns the next request to send, after waiting until one may be sent, or `None` if all are
    /// done.
    fn next(&mut self, receiver: &Receiver<Event<J, E>>) -> Option<Task<J>> {
        loop {
            let has_room = !self.is_stopped && self.in_flight < self.limiter.limit();
            if has_room && let Some(task) = self.due().or_else(|| self.take()) {
                self.in_flight += 1;
                return Some(task);
            }
            if self.in_flight == 0 && (self.is_stopped || self.waiting.is_empty()) {
                return None;
            }
            let event = match self.waiting.peek().filter(|_| has_room) {
                None => receiver.recv().ok(),
                Some(first) => {
                    let wait = first.due.saturating_duration_since(Instant::now());
                    match receiver.recv_timeout(wait) {
                        Err(RecvTimeoutError::Timeout) => continue,
                        received => received.ok(),
                    }
                }
            };
            match event {
                Some(Event::Panicked) | None => return None,
                Some(event) => self.ended(event),
            }
        }
    }

    /// Returns a request whose wait is over.
    fn due(&mut self) -> Option<Task<J>> {
        let is_due = self.waiting.peek()?.due <= Instant::now();
        is_due.then(|| self.waiting.pop()).flatten().map(|waiting| waiting.task)
    }

    /// Returns the next request of the queue.
    fn take(&mut self) -> Option<Task<J>> {
        let job = self.queue.next_request()?;
        let number = self.taken;
        self.taken += 1;
        Some(Task { number, job, attempts: 0, answers_before: self.client.meter.read().answers })
    }

    /// Returns whether there is a thread for the request that [`next`](Self::next) has returned.
    /// Starts one if there are too few.
    fn has_thread(&mut self, start: &dyn Fn() -> std::io::Result<()>) -> bool {
        if self.threads < self.in_flight {
            match start() {
                Ok(()) => self.threads += 1,
                Err(error) => {
                    tracing::warn!(%error, "cannot start another thread; fewer requests are concurrent");
                    self.limiter.cap(self.threads);
                }
            }
        }
        self.threads > 0
    }

    /// Records the end of an attempt: passes on the answer, or sends the request again later.
    fn ended(&mut self, event: Event<J, E>) {
        let Event::Ended { task, sent, end } = event else { return };
        let now = Instant::now();
        let meter = &self.client.meter;
        match end {
            Err(failure) => self.pass_on(task.number, Err(failure)),
            Ok(Attempt::Answered(generated, usage)) => {
                self.limiter.record(sent, now, false, self.in_flight);
                meter.update(|counts| {
                    counts.answers += 1;
                    counts.prompt_tokens += usage.prompt_tokens.unwrap_or(0) as u64;
                    counts.completion_tokens += usage.completion_tokens.unwrap_or(0) as u64;
                });
                self.pass_on(task.number, Ok(generated));
            }
            Ok(Attempt::Failed(failure)) => {
                self.limiter.record(sent, now, failure.remedy == Remedy::Wait, self.in_flight);
                meter.update(|counts| *counts.failures.entry(failure.cause).or_default() += 1);
                self.failed(task, failure, now);
            }
        }
        self.in_flight -= 1;
        let limit = self.limiter.limit();
        meter.update(|counts| counts.concurrency = limit);
    }

    fn failed(&mut self, task: Task<J>, failure: Failure, now: Instant) {
        let Failure { error, cause, remedy, after } = failure;
        let config = &self.client.config;
        let answers = self.client.meter.read().answers;
        let may_pass = match remedy {
            Remedy::Wait => true,
            Remedy::Repeat => answers > 0,
            Remedy::Nothing => false,
        };
        let is_too_long = after.is_some_and(|after| after.as_secs() > config.max_retry_after_s);
        if may_pass && task.attempts <= config.max_retries && !is_too_long {
            let jitter =
                ChaCha8Rng::seed_from_u64(task.number as u64 ^ u64::from(task.attempts) << 48).random();
            let wait = after.unwrap_or_else(|| config.backoff(task.attempts, jitter));
            let (attempt, error) = (task.attempts, chain(&error));
            if self.has_warned {
                tracing::debug!(%error, attempt, ?wait, "request failed, trying again");
            } else {
                let longest = config.longest_wait().as_secs_f64();
                tracing::warn!(%error, attempt, ?wait, "request failed, trying again for up to {longest} s");
            }
            self.has_warned = true;
            self.client.meter.update(|counts| counts.retries += 1);
            self.waiting.push(Waiting { due: now + wait, task });
            return;
        }
        // a server that answers others fails because of this request
        let fails_alone = may_pass
            && matches!(cause, AttemptFailure::Status(500) | AttemptFailure::Unreadable)
            && answers > task.answers_before;
        let is_request_error = fails_alone || error.is_of_request();
        self.pass_on(task.number, Err(RequestFailure { error: error.into(), is_request_error }));
    }

    fn pass_on(&mut self, number: usize, answer: Result<Generated, RequestFailure<E>>) {
        if self.queue.receive(number, answer) == ControlFlow::Break(()) {
            self.is_stopped = true;
        }
    }
}
