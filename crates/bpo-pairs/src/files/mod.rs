//! Files: the one mechanism for writing, replacing, removing and opening them.
//!
//! | need | function |
//! |---|---|
//! | a whole file | [`write_atomic`], [`write_bytes`] |
//! | a whole directory | [`StagedDir`] |
//! | a file that lines are appended to | [`AppendLog`] |
//! | removing | [`remove_owned_dir`], [`remove_owned_file`], [`AppendLog::remove`] |
//! | copying the files of a directory | [`copy_files`] |
//! | reading | [`open_input`], [`read_bytes`], [`read_text`] |
//!
//! `destructive.rs` is the only file of the workspace that renames, removes or truncates.
//!
//! # What a path may be
//!
//! A link is written through to where it leads. A device, a FIFO, a socket or a directory in the place of
//! a file is an error ([`FileError::NotAFile`]), for reading and for writing. A pipe that the process
//! inherited, as `/dev/fd/63` of a shell's `<(command)`, can be read.
//!
//! # What a killed process leaves
//!
//! A file or directory in the making has a name of the form `.bpo-NONCE-CHECK-RANDOM.tmp`, in the
//! directory of its target. `CHECK` is a digest of the nonce, so a name of anybody else does not have that
//! form by accident. The maker holds a lock on the file (or on the mark in the directory) until it is
//! renamed. The old target stays as it was.
//!
//! A killed process leaves such a file or directory. The next process that writes in the same directory
//! removes it, if three things prove that it is abandoned: `CHECK` fits, nobody holds the lock, and it is a
//! regular file or a directory with a mark that says `bpo`. On a file system without locks nothing is removed.
//!
//! # Which directories are replaced or removed
//!
//! A directory that [`StagedDir::commit`] has put in its place holds the file `.bpo-owned`, the mark. It lists
//! the files that were written. [`remove_owned_dir`] and [`StagedDir::replacing`] refuse a directory without
//! a mark, and one with a file that the mark does not list ([`FileError::NotOurs`]).

mod append;
mod copy;
mod destructive;
mod error;
mod mark;
mod read;
mod staged;
mod temporary;
mod write;

pub use append::AppendLog;
pub use copy::copy_files;
pub use destructive::{remove_owned_dir, remove_owned_file};
pub use error::FileError;
pub use read::{open_input, read_bytes, read_text};
pub use staged::StagedDir;
pub use write::{write_atomic, write_bytes};
