//! Requests that are handed out one by one, so that a model can start one as soon as another ends.

use std::ops::ControlFlow;

/// Hands requests to a model and receives their answers, both in one thread.
///
/// Requests are numbered from 0 in the order of [`next_request`](Self::next_request). Answers come
/// in any order. Memory depends on the number of requests that await an answer, not on the number
/// of all requests.
pub trait RequestQueue<R, A> {
    /// Returns the next request, or `None` if there is none now.
    ///
    /// An answer can give rise to further requests, for example if it is rejected. So a queue is
    /// exhausted only if it returns `None` while no request awaits an answer.
    fn next_request(&mut self) -> Option<R>;

    /// Receives the answer to a request. [`ControlFlow::Break`] asks the model to take no further
    /// requests; answers that still arrive are received.
    fn receive(&mut self, number: usize, answer: A) -> ControlFlow<()>;
}

/// A queue of the requests of a slice, which keeps their answers.
#[derive(Debug)]
pub struct RequestSlice<'a, R, A> {
    requests: &'a [R],
    next: usize,
    answers: Vec<Option<A>>,
}

impl<'a, R, A> RequestSlice<'a, R, A> {
    /// Creates a queue.
    pub fn new(requests: &'a [R]) -> Self {
        Self { requests, next: 0, answers: requests.iter().map(|_| None).collect() }
    }

    /// Returns the answers in the order of the requests. Requests without an answer have none.
    pub fn into_answers(self) -> Vec<A> {
        self.answers.into_iter().flatten().collect()
    }
}

impl<R: Clone, A> RequestQueue<R, A> for RequestSlice<'_, R, A> {
    fn next_request(&mut self) -> Option<R> {
        let request = self.requests.get(self.next)?;
        self.next += 1;
        Some(request.clone())
    }

    fn receive(&mut self, number: usize, answer: A) -> ControlFlow<()> {
        if let Some(place) = self.answers.get_mut(number) {
            *place = Some(answer);
        }
        ControlFlow::Continue(())
    }
}

/// Answers all requests of a queue in batches of at most `size`, for models that take several
/// requests at a time. `answer` returns the answers of a batch in order. Stops after a batch that
/// has too few answers.
pub fn answer_in_batches<R, A>(
    queue: &mut dyn RequestQueue<R, A>,
    size: usize,
    mut answer: impl FnMut(&[R]) -> Vec<A>,
) {
    let mut first = 0;
    loop {
        let batch: Vec<R> = std::iter::from_fn(|| queue.next_request()).take(size.max(1)).collect();
        if batch.is_empty() {
            return;
        }
        let answers = answer(&batch);
        let mut is_stopped = answers.len() < batch.len();
        for (number, answer) in (first..).zip(answers) {
            is_stopped |= queue.receive(number, answer).is_break();
        }
        if is_stopped {
            return;
        }
        first += batch.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_all_requests_in_order() {
        let requests: Vec<usize> = (0..7).collect();
        let mut queue = RequestSlice::new(&requests);
        let mut sizes = Vec::new();
        answer_in_batches(&mut queue, 3, |batch| {
            sizes.push(batch.len());
            batch.iter().map(|request| request * 10).collect()
        });
        assert_eq!(sizes, [3, 3, 1]);
        assert_eq!(queue.into_answers(), [0, 10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn answers_may_give_rise_to_requests_and_stop_the_queue() {
        /// Asks again for each even number, as the next one.
        struct Again(Vec<u8>, Vec<u8>);
        impl RequestQueue<u8, u8> for Again {
            fn next_request(&mut self) -> Option<u8> {
                self.0.pop()
            }
            fn receive(&mut self, _: usize, answer: u8) -> ControlFlow<()> {
                if answer.is_multiple_of(2) {
                    self.0.push(answer + 1);
                } else {
                    self.1.push(answer);
                }
                if answer == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        }
        let mut queue = Again(vec![9, 4, 2], Vec::new());
        answer_in_batches(&mut queue, 1, <[u8]>::to_vec);
        assert_eq!(queue.1, [3, 5, 9]);
        queue.0 = vec![7, 9];
        answer_in_batches(&mut queue, 1, <[u8]>::to_vec);
        assert_eq!((queue.0, queue.1), (vec![7], vec![3, 5, 9, 9]));
    }
}
