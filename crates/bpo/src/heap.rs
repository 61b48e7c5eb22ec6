//! The heap of the process.

/// Bytes that the C library keeps at most, and the largest piece that it takes from the heap at all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1 << 30;

/// Has the C library keep up to a GiB of what was given back for what is asked for next, where it would hand it to the system, which
/// clears each page anew: tensors come and go by the megabyte, and on the CPU that is a tenth of a training step of a small model.
///
/// It is for a program to decide, at its start; no library of ours calls it. Does nothing but on Linux with glibc, where the
/// environment can say the same (`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_`), and nothing for a program with another
/// allocator. Gives whether it was done.
pub fn keep_freed() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // older versions take no more than this
        const LEAST: i32 = 1 << 25;
        #[allow(unsafe_code, reason = "as the C library's functions are declared")]
        // SAFETY: it sets numbers of the allocator, and may be called at any time
        let set = |what, bytes| unsafe { libc::mallopt(what, bytes) == 1 };
        set(libc::M_TRIM_THRESHOLD, KEPT)
            && (set(libc::M_MMAP_THRESHOLD, KEPT) || set(libc::M_MMAP_THRESHOLD, LEAST))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
