//! The heap of the process.

/// Bytes that the C library keeps at the end of the heap at most, and the largest piece that it takes from the heap at all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1 << 30;

/// Has the C library keep what was given back for what is asked for next, up to a GiB at the end of the heap, where it would hand it
/// to the system, which clears each page anew: on the CPU tensors come and go by the megabyte.
///
/// It is for a program to decide, and no library of ours calls it. Call it at the start, before there are other threads, as glibc asks
/// for. Does nothing but on Linux with glibc, and nothing for a program with another allocator. What the environment says of the same
/// (`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_`) does not count any more then. Gives whether all of it was done.
pub fn keep_freed() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // older versions take no more than this
        const MOST_OF_OLDER: i32 = 1 << 25;
        #[allow(unsafe_code, reason = "as the C library's functions are declared")]
        // SAFETY: it takes numbers and changes numbers of the allocator, under its lock; a thread that allocates meanwhile reads the
        // old or the new ones
        let set = |what, bytes| unsafe { libc::mallopt(what, bytes) == 1 };
        set(libc::M_TRIM_THRESHOLD, KEPT)
            && (set(libc::M_MMAP_THRESHOLD, KEPT) || set(libc::M_MMAP_THRESHOLD, MOST_OF_OLDER))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
