//! A reader with a deadline.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

/// A time limit that starts when it is created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    start: Instant,
    allowed: Duration,
}

impl Deadline {
    pub(crate) fn in_millis(millis: u64) -> Self {
        Self { start: Instant::now(), allowed: Duration::from_millis(millis) }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.start.elapsed() >= self.allowed
    }
}

/// A reader of bytes that fails with [`io::ErrorKind::TimedOut`] after a deadline.
pub(crate) struct Timed<'a> {
    bytes: Cursor<&'a [u8]>,
    deadline: Deadline,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(bytes: &'a [u8], deadline: Deadline) -> Self {
        Self { bytes: Cursor::new(bytes), deadline }
    }

    fn in_time(&mut self) -> io::Result<&mut Cursor<&'a [u8]>> {
        if self.deadline.has_passed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(&mut self.bytes)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time()?.read(buffer)
    }
}

impl BufRead for Timed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // The deadline is checked once per chunk.
        const AT_ONCE: usize = 1 << 16;
        let rest = self.in_time()?.fill_buf()?;
        Ok(&rest[..rest.len().min(AT_ONCE)])
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
    }
}

impl Seek for Timed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
