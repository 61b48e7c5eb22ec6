//! Tests of the public API, one module per topic.

mod guide;
mod jpeg;
mod known_bytes;
mod load;
mod load_pillow;
mod parts;
mod pillow;
mod png_bytes;
mod properties;
mod resize;
mod schedule;
#[cfg(feature = "sheet")]
mod sheet;
mod support;
