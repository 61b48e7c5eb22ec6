//! Panics of other crates on broken input, which are returned as errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs code of another crate that panics on some broken files. Returns the message of a panic as
/// the error.
///
/// The caller must not use what `work` has changed when it panicked.
///
/// # Errors
/// Returns the message of the panic.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    done.map_err(|panic| message(&*panic))
}

/// Returns whether this thread runs code whose panic becomes an error; see [`catch_panic`]. A panic
/// hook then need not report the panic.
pub fn is_panic_caught() -> bool {
    DEPTH.get() > 0
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_panics_are_errors() {
        assert!(!is_panic_caught());
        assert_eq!(catch_panic(is_panic_caught), Ok(true));
        assert_eq!(catch_panic(|| panic!(" no column ")), Err::<(), _>("no column".to_owned()));
        assert_eq!(catch_panic(|| panic!("column {}", 7)), Err::<(), _>("column 7".to_owned()));
        let silent = catch_panic(|| std::panic::resume_unwind(Box::new(7)));
        assert_eq!(silent, Err::<(), _>("a panic without a message".to_owned()));
        let nested = catch_panic(|| (catch_panic(|| panic!("inside")), is_panic_caught()));
        assert_eq!(nested, Ok((Err::<(), _>("inside".to_owned()), true)));
        assert!(!is_panic_caught());
    }
}
