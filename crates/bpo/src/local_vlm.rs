//! A vision-language model on one or several devices of this machine.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use bpo_model::{Processor, Vlm, VlmResponder};
use bpo_pairs::{Generated, RequestFailure};
use burn::tensor::Device;

use crate::error::BpoError;
use crate::reference::on_devices;
use crate::responder::ResponderError;
use crate::vision::{BATCHES_PER_CALL, OnAnswer, VisionLanguageModel, VisionRequest};

/// A model for generation, with a copy on each of several devices.
///
/// The answers do not depend on the number of devices: requests are split into lists of
/// [`BATCHES_PER_CALL`] batches, and each list is answered by one device as a model on a single
/// device would answer it. So fewer requests than that are answered by one device.
pub struct LocalVlm(Place);

enum Place {
    /// On the calling thread.
    Here(Box<VlmResponder>),
    /// On a thread for each device.
    Threads { threads: Vec<DeviceThread>, devices: Vec<Device>, takes_system: bool },
}

impl fmt::Debug for LocalVlm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalVlm").field("devices", &self.calls_at_once()).finish_non_exhaustive()
    }
}

impl LocalVlm {
    /// Answers on the device of the model and on further devices, which may be equal. Each has a
    /// thread of its own if there are several.
    ///
    /// # Errors
    /// Returns [`BpoError::Thread`] if a thread cannot be started.
    pub fn new(model: Vlm, processor: Processor, further: &[Device]) -> Result<Self, BpoError> {
        if further.is_empty() {
            return Ok(Self(Place::Here(Box::new(VlmResponder::new(model, processor)))));
        }
        let takes_system = processor.chat.takes_system();
        let devices = std::iter::once(model.device()).chain(further.iter().cloned()).collect();
        let models = on_devices(&model, further).into_iter();
        let threads = models.map(|model| DeviceThread::start(VlmResponder::new(model, processor.clone())));
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self(Place::Threads { threads, devices, takes_system }))
    }
}

impl Drop for LocalVlm {
    fn drop(&mut self) {
        if let Place::Threads { threads, devices, .. } = &mut self.0 {
            threads.clear();
            // the memory that a GPU backend keeps for the threads, which no other thread would use
            devices.iter().for_each(Device::memory_cleanup);
        }
    }
}

/// Requests for one device.
struct Call {
    requests: Vec<VisionRequest>,
    /// Index of the first request.
    first: usize,
    at_a_time: NonZeroUsize,
    answers: Sender<(usize, Result<Generated, RequestFailure<ResponderError>>)>,
}

/// A thread that answers on one device until it is dropped.
///
/// It lives as long as the model because a GPU backend may keep memory for each thread that it has
/// seen.
struct DeviceThread {
    calls: Option<Sender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl DeviceThread {
    fn start(mut model: VlmResponder) -> Result<Self, BpoError> {
        let (calls, received) = channel::<Call>();
        let answer = move || {
            for Call { requests, first, at_a_time, answers } in received {
                model.respond_each(&requests, at_a_time, &mut |place, answer| {
                    match answers.send((first + place, answer)) {
                        Ok(()) => ControlFlow::Continue(()),
                        // no more answers are wanted
                        Err(_) => ControlFlow::Break(()),
                    }
                });
            }
        };
        let thread = thread::Builder::new().name("bpo-device".to_owned()).spawn(answer);
        let thread = thread.map_err(|source| BpoError::Thread { source })?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    fn send(&self, call: Call) {
        // a thread that has ended has panicked; its answers will be missing
        let _ = self.calls.as_ref().map(|calls| calls.send(call));
    }

    /// Waits for the end of the thread, which answers no more.
    fn end(&mut self) -> thread::Result<()> {
        drop(self.calls.take());
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        // a panic was printed by the thread; passing it on during another one would abort
        let _ = self.end();
    }
}

impl VisionLanguageModel for LocalVlm {
    type Error = ResponderError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ResponderError>> {
        self.respond_continuous(requests, NonZeroUsize::new(requests.len()).unwrap_or(NonZeroUsize::MIN))
    }

    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, ResponderError>> {
        let mut answers: Vec<_> = requests.iter().map(|_| None).collect();
        self.respond_each(requests, at_a_time, &mut |place, answer| {
            answers[place] = Some(answer.map_err(|failure| failure.error));
            ControlFlow::Continue(())
        });
        answers.into_iter().flatten().collect()
    }

    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, ResponderError>,
    ) {
        match &mut self.0 {
            Place::Here(model) => model.respond_each(requests, at_a_time, on_answer),
            Place::Threads { .. } => {
                let per_call = at_a_time.saturating_mul(BATCHES_PER_CALL).get();
                let calls: Vec<_> = requests.chunks(per_call).map(<[_]>::to_vec).collect();
                self.respond_calls(&calls, at_a_time, on_answer);
            }
        }
    }

    fn respond_calls(
        &mut self,
        calls: &[Vec<VisionRequest>],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, ResponderError>,
    ) {
        let threads = match &mut self.0 {
            Place::Here(model) => return model.respond_calls(calls, at_a_time, on_answer),
            Place::Threads { threads, .. } => threads,
        };
        let (answers, received) = channel();
        let mut asked = 0;
        for (requests, thread) in calls.iter().zip(threads.iter().cycle()) {
            let (requests, first) = (requests.clone(), asked);
            asked += requests.len();
            thread.send(Call { requests, first, at_a_time, answers: answers.clone() });
        }
        drop(answers);
        let mut answered = 0;
        // ends when each thread has done its calls
        for (place, answer) in received {
            answered += 1;
            if on_answer(place, answer).is_break() {
                return;
            }
        }
        if answered < asked {
            let ended: Vec<_> = threads.iter_mut().map(DeviceThread::end).collect();
            if let Some(cause) = ended.into_iter().find_map(Result::err) {
                panic::resume_unwind(cause);
            }
        }
    }

    fn calls_at_once(&self) -> NonZeroUsize {
        match &self.0 {
            Place::Here(_) => NonZeroUsize::MIN,
            Place::Threads { threads, .. } => NonZeroUsize::new(threads.len()).unwrap_or(NonZeroUsize::MIN),
        }
    }

    fn is_request_error(&self, error: &ResponderError) -> bool {
        error.is_of_request()
    }

    fn takes_system(&self) -> bool {
        match &self.0 {
            Place::Here(model) => VisionLanguageModel::takes_system(&**model),
            Place::Threads { takes_system, .. } => *takes_system,
        }
    }
}
