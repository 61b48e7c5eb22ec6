//! The bound on the memory of decoded images.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bounds the pixels of the images that are in memory at the same time.
///
/// A thread acquires the pixels of an image before it decodes the image, and releases them when
/// it has dropped the image. An image larger than the whole budget is processed alone.
pub(super) struct PixelBudget {
    total: u64,
    free: Mutex<u64>,
    released: Condvar,
}

impl PixelBudget {
    pub(super) fn new(pixels: u64) -> Self {
        Self { total: pixels, free: Mutex::new(pixels), released: Condvar::new() }
    }

    /// Waits until this number of pixels is free, and holds them until the result is dropped.
    ///
    /// A thread must not acquire a second time before it has dropped the first result.
    pub(super) fn acquire(&self, pixels: u64) -> Held<'_> {
        let pixels = pixels.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.released.wait_while(free, |free| *free < pixels);
        *enough.unwrap_or_else(PoisonError::into_inner) -= pixels;
        Held { budget: self, pixels }
    }
}

/// Pixels that a thread holds.
pub(super) struct Held<'a> {
    budget: &'a PixelBudget,
    pixels: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.pixels;
        self.budget.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn threads_do_not_exceed_the_budget() {
        let budget = PixelBudget::new(100);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        // Up to 420 pixels: an image above the budget uses the whole budget.
                        let pixels = (thread * 37 + round * 11) % 60 * 7 + 1;
                        let permit = budget.acquire(pixels);
                        let now = held.fetch_add(pixels.min(100), Ordering::SeqCst) + pixels.min(100);
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(pixels.min(100), Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((1..=100).contains(&most), "{most}");
        assert_eq!(*budget.free.lock().unwrap(), 100);
    }
}
