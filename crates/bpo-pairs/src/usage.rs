//! Counts of the requests to a server: answers, failures, tokens, cost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The cause of a failed attempt of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AttemptFailure {
    /// The server answered with this status.
    Status(u16),
    /// There was no answer in time.
    TimedOut,
    /// The connection failed or ended within the answer.
    Disconnected,
    /// The answer is not a chat completion.
    Unreadable,
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::TimedOut => f.write_str("time-out"),
            Self::Disconnected => f.write_str("connection lost"),
            Self::Unreadable => f.write_str("unreadable answer"),
        }
    }
}

/// Prices of tokens, in any currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenPrices {
    /// Price of one million tokens of prompts.
    pub prompt: f64,
    /// Price of one million tokens of answers.
    pub completion: f64,
}

/// Counts of the requests that a process has sent.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RequestUsage {
    /// Number of answers.
    pub answers: usize,
    /// Number of failed attempts by cause, including those that were repeated with success.
    pub failures: BTreeMap<AttemptFailure, usize>,
    /// Number of attempts that repeated a failed one.
    pub retries: usize,
    /// Tokens of the prompts of all answers, as far as the server reports them.
    pub prompt_tokens: u64,
    /// Tokens of all answers, as far as the server reports them.
    pub completion_tokens: u64,
    /// Number of requests that may be sent at the same time at present.
    pub concurrency: usize,
    /// Prices, if they are set.
    pub prices: Option<TokenPrices>,
}

impl RequestUsage {
    /// Returns the cost of the tokens, if prices are set.
    pub fn cost(&self) -> Option<f64> {
        let TokenPrices { prompt, completion } = self.prices?;
        Some((self.prompt_tokens as f64 * prompt + self.completion_tokens as f64 * completion) / 1e6)
    }

    /// Estimates the cost of `items` further items from that of the `done` items so far. Returns
    /// `None` without prices or without an item.
    pub fn cost_of(&self, items: usize, done: usize) -> Option<f64> {
        (done > 0).then_some(self.cost()? / done as f64 * items as f64)
    }

    /// Lists the failures: `status 429: 3, time-out: 1`.
    pub fn failures_text(&self) -> String {
        let texts = self.failures.iter().map(|(cause, count)| format!("{cause}: {count}"));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// A [`RequestUsage`] that a client updates and others read. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct UsageMeter(Arc<Mutex<RequestUsage>>);

impl UsageMeter {
    /// Creates a meter.
    pub fn new(prices: Option<TokenPrices>) -> Self {
        Self(Arc::new(Mutex::new(RequestUsage { prices, ..RequestUsage::default() })))
    }

    /// Returns the counts.
    pub fn read(&self) -> RequestUsage {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the counts.
    pub fn update(&self, change: impl FnOnce(&mut RequestUsage)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_that_of_the_tokens() {
        let meter = UsageMeter::new(Some(TokenPrices { prompt: 0.5, completion: 2.0 }));
        meter.clone().update(|usage| {
            usage.prompt_tokens = 4_000_000;
            usage.completion_tokens = 500_000;
            usage.failures.insert(AttemptFailure::TimedOut, 1);
            usage.failures.insert(AttemptFailure::Status(429), 3);
        });
        let usage = meter.read();
        assert_eq!(usage.cost(), Some(3.0));
        assert_eq!(usage.cost_of(20, 10), Some(6.0));
        assert_eq!(usage.cost_of(20, 0), None);
        assert_eq!(usage.failures_text(), "status 429: 3, time-out: 1");
        assert_eq!(RequestUsage::default().cost(), None);
    }
}
