//! Inputs that once lost files, leaked secrets or broke the program.

mod files;
#[cfg(all(unix, feature = "flex"))]
mod memory;
#[cfg(all(unix, feature = "flex"))]
mod robustness;
#[cfg(all(unix, feature = "flex"))]
mod safety;
#[cfg(all(unix, feature = "flex"))]
mod support;
