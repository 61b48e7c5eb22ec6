//! What took how long.

use std::collections::BTreeMap;
use std::time::Instant;

/// A stopwatch with laps.
pub struct Clock {
    last: Instant,
    /// Of each thing, all its laps together.
    pub seconds: BTreeMap<String, f64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Instant::now(), seconds: BTreeMap::new() }
    }
}

impl Clock {
    /// Puts the time since the last call down to something.
    pub fn lap(&mut self, what: &str) {
        let now = Instant::now();
        *self.seconds.entry(what.to_owned()).or_default() += (now - self.last).as_secs_f64();
        self.last = now;
    }
}
