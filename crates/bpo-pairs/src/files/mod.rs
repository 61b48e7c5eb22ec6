//! The workspace's functions for opening, writing, replacing and removing files.
//!
//! | operation | function |
//! |---|---|
//! | write a whole file | [`write_atomic`], [`write_bytes`] |
//! | write a whole directory | [`StagedDir`] |
//! | update a file that other processes update too | [`lock_file`], then [`write_atomic`] |
//! | append lines to a file | [`AppendLog`] |
//! | remove | [`remove_owned_dir`] |
//! | copy the files of a directory | [`copy_files`] |
//! | read | [`open_input`], [`open_limited`], [`read_bytes`], [`read_text`] |
//!
//! `destructive.rs` is the only file of the workspace that renames, removes or truncates files,
//! except that [`write_atomic`] renames its temporary file itself.
//!
//! # Accepted paths
//!
//! Writing to a symbolic link writes to its target. A path to a file must not be a device, a FIFO,
//! a socket or a directory, for reading and for writing; the error is [`FileError::NotAFile`]. A
//! pipe that the process inherited, such as `/dev/fd/63` of a shell's `<(command)`, can be read.
//!
//! # Temporary files of killed processes
//!
//! A file or directory that is being written is in the directory of its target, under a name of the
//! form `.bpo-NONCE-HOST-CHECK-RANDOM.tmp`. `HOST` identifies the running system, and `CHECK` is a
//! digest of `NONCE` and `HOST`, so names of other programs do not match by accident. The process
//! holds a lock on the file, or on the mark in the directory, until it renames it to the target.
//! Until then the old target is unchanged.
//!
//! A killed process leaves its temporary file or directory. The next process that writes in the
//! same directory removes it if `CHECK` matches, no process holds the lock, and it is a regular
//! file or a directory with a valid mark. On a file system without locks nothing is removed. Locks
//! of a network file system may not be visible to other hosts, so a temporary file or directory of
//! another host, or of an earlier start of this one, is only removed 7 days after its last change.
//!
//! # Ownership of directories
//!
//! [`StagedDir::commit`] writes the mark `.bpo-owned` into the directory. The mark lists the files
//! that were written. [`remove_owned_dir`] and [`StagedDir::replacing`] refuse a directory without
//! a mark, and a directory with a file that the mark does not list ([`FileError::NotOurs`]).

mod append;
mod copy;
mod destructive;
mod error;
mod lock;
mod mark;
mod read;
mod staged;
mod temporary;
mod write;

pub use append::AppendLog;
pub use copy::copy_files;
pub use destructive::remove_owned_dir;
pub use error::FileError;
pub use lock::{FileLock, lock_file};
pub use read::{Limited, open_input, open_limited, read_bytes, read_text};
pub use staged::StagedDir;
pub use write::{create_parents, write_atomic, write_bytes};
