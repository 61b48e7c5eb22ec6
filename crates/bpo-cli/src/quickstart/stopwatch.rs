//! Run time by part of the quickstart.

use std::collections::BTreeMap;
use std::time::Instant;

/// A stopwatch that adds up laps by name.
pub struct Stopwatch {
    last: Instant,
    /// Seconds by name.
    pub seconds: BTreeMap<String, f64>,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { last: Instant::now(), seconds: BTreeMap::new() }
    }
}

impl Stopwatch {
    /// Adds the time since the last call to a name.
    pub fn lap(&mut self, name: &str) {
        let now = Instant::now();
        *self.seconds.entry(name.to_owned()).or_default() += (now - self.last).as_secs_f64();
        self.last = now;
    }
}
