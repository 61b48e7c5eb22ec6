//! The number of concurrent requests, which follows the failures and the speed of the server.

use std::time::{Duration, Instant};

/// Number of concurrent requests at the start.
const START: usize = 8;
/// Minimum number of answers after which the limit is decided again.
const SHORTEST_ROUND: usize = 16;
/// Number of failures in a round up to which the limit is not halved, whatever their share.
const TOLERATED: usize = 2;
/// Share of failures in a round, as a divisor, up to which the limit is not halved: 10 %.
const TOLERATED_SHARE: usize = 10;
/// Share of the time limit, as a divisor, above which answers are too slow for a higher limit.
const SLOW_SHARE: u32 = 4;
/// Number of additive steps from 0 to the maximum.
const STEPS: usize = 16;

/// Decides how many requests are sent at the same time: additive increase, multiplicative
/// decrease.
///
/// A round is as many answers as the limit, at least 16. After a round the limit doubles until it
/// was halved for the first time, and then grows by 1/16 of the maximum. It stays if an answer took
/// more than a quarter of the time limit, because a server that queues its requests answers no more
/// of them if it gets more. It is halved as soon as more than 10 % of the requests of a round, and
/// more than two, were refused for load, failed or timed out. A lower share may have another cause
/// than the load, in which case halving would not help. Requests that were sent before the last
/// halving do not count.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    maximum: usize,
    timeout: Duration,
    /// Whether the limit was halved.
    has_halved: bool,
    /// Requests that were sent earlier do not count.
    since: Instant,
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    ended: usize,
    failed: usize,
    slowest: Duration,
    /// Whether as many requests as allowed were sent at a time.
    was_full: bool,
}

impl Limiter {
    pub fn new(maximum: usize, timeout: Duration) -> Self {
        Self {
            limit: maximum.clamp(1, START),
            maximum: maximum.max(1),
            timeout,
            has_halved: false,
            since: Instant::now(),
            round: Round::default(),
        }
    }

    /// Returns the number of requests that may be sent at the same time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Lowers the maximum, for example because no more threads can be started.
    pub fn cap(&mut self, maximum: usize) {
        self.maximum = maximum.max(1);
        self.limit = self.limit.min(self.maximum);
    }

    /// Records the end of an attempt that was sent at `sent`. `failed` is whether the server refused
    /// it for load, failed or did not answer in time; `in_flight` is the number of requests under
    /// way at its end.
    pub fn record(&mut self, sent: Instant, now: Instant, failed: bool, in_flight: usize) {
        if sent < self.since {
            return;
        }
        let round = &mut self.round;
        round.ended += 1;
        round.failed += usize::from(failed);
        round.slowest = round.slowest.max(now - sent);
        round.was_full |= in_flight >= self.limit;
        let length = self.limit.max(SHORTEST_ROUND);
        if round.failed > TOLERATED && round.failed * TOLERATED_SHARE > length {
            self.limit = (self.limit / 2).max(1);
            self.has_halved = true;
            self.since = now;
            self.round = Round::default();
        } else if round.ended >= length {
            if round.was_full && round.slowest <= self.timeout / SLOW_SHARE {
                let grown = if self.has_halved {
                    self.limit + self.maximum.div_ceil(STEPS)
                } else {
                    self.limit.saturating_mul(2)
                };
                self.limit = grown.min(self.maximum);
            }
            self.round = Round::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records `count` attempts that took `took`, of which every `fails`-th failed.
    fn record(limiter: &mut Limiter, clock: &mut Instant, count: usize, took: Duration, fails: usize) {
        for attempt in 1..=count {
            let sent = *clock;
            *clock += took;
            let in_flight = limiter.limit();
            limiter.record(sent, *clock, fails > 0 && attempt % fails == 0, in_flight);
        }
    }

    const QUICK: Duration = Duration::from_millis(10);

    #[test]
    fn limit_doubles_up_to_the_maximum() {
        let (mut limiter, mut clock) = (Limiter::new(100, Duration::from_secs(1)), Instant::now());
        let mut limits = vec![limiter.limit()];
        for _ in 0..5 {
            let round = limiter.limit().max(SHORTEST_ROUND);
            record(&mut limiter, &mut clock, round, QUICK, 0);
            limits.push(limiter.limit());
        }
        assert_eq!(limits, [8, 16, 32, 64, 100, 100]);
        assert_eq!(Limiter::new(3, QUICK).limit(), 3);
    }

    #[test]
    fn failing_server_halves_the_limit_down_to_one_and_then_it_grows_by_steps() {
        let (mut limiter, mut clock) = (Limiter::new(64, Duration::from_secs(1)), Instant::now());
        record(&mut limiter, &mut clock, 2 * SHORTEST_ROUND, QUICK, 0);
        assert_eq!(limiter.limit(), 32);
        record(&mut limiter, &mut clock, 4, QUICK, 1);
        assert_eq!(limiter.limit(), 16);
        record(&mut limiter, &mut clock, 60, QUICK, 1);
        assert_eq!(limiter.limit(), 1);
        record(&mut limiter, &mut clock, 16, QUICK, 0);
        assert_eq!(limiter.limit(), 1 + 64 / STEPS);
    }

    #[test]
    fn requests_of_one_burst_halve_the_limit_once() {
        let (mut limiter, start) = (Limiter::new(8, Duration::from_secs(1)), Instant::now());
        for _ in 0..8 {
            limiter.record(start, start + QUICK, true, 8);
        }
        assert_eq!(limiter.limit(), 4);
    }

    #[test]
    fn a_few_failures_do_not_lower_the_limit() {
        let (mut limiter, mut clock) = (Limiter::new(256, Duration::from_secs(1)), Instant::now());
        record(&mut limiter, &mut clock, 10_000, QUICK, 20);
        assert_eq!(limiter.limit(), 256);
    }

    #[test]
    fn slow_answers_or_too_few_requests_keep_the_limit() {
        let (mut limiter, mut clock) = (Limiter::new(256, Duration::from_secs(1)), Instant::now());
        record(&mut limiter, &mut clock, 100, Duration::from_millis(251), 0);
        assert_eq!(limiter.limit(), START);
        for _ in 0..100 {
            let sent = clock;
            clock += QUICK;
            limiter.record(sent, clock, false, 3);
        }
        assert_eq!(limiter.limit(), START);
        limiter.cap(2);
        assert_eq!(limiter.limit(), 2);
    }
}
