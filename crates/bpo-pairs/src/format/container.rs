//! Containers of records: JSON arrays, JSON Lines and Parquet, and the compression of JSON.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Write};
use std::path::Path;

/// The layout of a file and its compression.
///
/// A file is read by its first bytes. A file is written by the end of its name: `.json` is an array,
/// `.parquet` is Parquet, any other name is JSON Lines; `.gz` or `.zst` after it compresses JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// The layout of the records.
    pub layout: Layout,
    /// The compression of the whole file.
    pub compression: Compression,
}

/// The layout of records in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One JSON array.
    Array,
    /// One JSON object per line.
    Lines,
    /// Parquet.
    Parquet,
}

/// The compression of a JSON file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Container {
    /// Returns the container of a file that is written under this name.
    pub fn of_name(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name = name.unwrap_or_default();
        let ends = [(".gz", Compression::Gzip), (".zst", Compression::Zstd), (".zstd", Compression::Zstd)];
        let found = ends.into_iter().find_map(|(end, kind)| Some((name.strip_suffix(end)?, kind)));
        let (name, compression) = found.unwrap_or((&name, Compression::Plain));
        let layout = match name {
            name if name.ends_with(".json") => Layout::Array,
            name if name.ends_with(".parquet") => Layout::Parquet,
            _ => Layout::Lines,
        };
        Self { layout, compression }
    }
}

/// The kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    Text(Compression),
    Parquet,
}

/// A reader from the start of a file whose first bytes were read already.
pub(super) type FromStart<R> = Chain<Cursor<Vec<u8>>, R>;

/// Returns the kind of a file, and a reader from its start.
pub(super) fn magic<R: Read>(mut file: R) -> io::Result<(Magic, FromStart<R>)> {
    let mut head = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut head)?;
    let kind = match head.as_slice() {
        [0x1f, 0x8b, ..] => Magic::Text(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Magic::Text(Compression::Zstd),
        b"PAR1" => Magic::Parquet,
        _ => Magic::Text(Compression::Plain),
    };
    Ok((kind, Cursor::new(head).chain(file)))
}

/// Returns a reader of the decompressed bytes.
///
/// # Errors
/// Returns an error of the kind [`io::ErrorKind::Unsupported`] if the program was built without this
/// compression.
pub(super) fn decompress<'a>(
    reader: impl Read + 'a,
    compression: Compression,
) -> io::Result<Box<dyn BufRead + 'a>> {
    match compression {
        Compression::Plain => Ok(Box::new(BufReader::with_capacity(1 << 16, reader))),
        #[cfg(feature = "parquet")]
        Compression::Gzip => {
            let reader = flate2::read::MultiGzDecoder::new(reader);
            Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
        }
        #[cfg(feature = "parquet")]
        Compression::Zstd => {
            let reader = zstd::stream::read::Decoder::new(reader)?;
            Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
        }
        #[cfg(not(feature = "parquet"))]
        Compression::Gzip | Compression::Zstd => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A writer that compresses.
pub(super) enum Compressor<W: Write> {
    Plain(W),
    #[cfg(feature = "parquet")]
    Gzip(flate2::write::GzEncoder<W>),
    #[cfg(feature = "parquet")]
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// Returns the errors of [`decompress`].
    pub(super) fn new(writer: W, compression: Compression) -> io::Result<Self> {
        match compression {
            Compression::Plain => Ok(Self::Plain(writer)),
            #[cfg(feature = "parquet")]
            Compression::Gzip => {
                Ok(Self::Gzip(flate2::write::GzEncoder::new(writer, flate2::Compression::default())))
            }
            #[cfg(feature = "parquet")]
            Compression::Zstd => Ok(Self::Zstd(zstd::stream::write::Encoder::new(writer, 3)?)),
            #[cfg(not(feature = "parquet"))]
            Compression::Gzip | Compression::Zstd => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(bytes),
            #[cfg(feature = "parquet")]
            Self::Gzip(writer) => writer.write_all(bytes),
            #[cfg(feature = "parquet")]
            Self::Zstd(writer) => writer.write_all(bytes),
        }
    }

    /// Writes the end of the file.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            #[cfg(feature = "parquet")]
            Self::Gzip(writer) => writer.finish().map(drop),
            #[cfg(feature = "parquet")]
            Self::Zstd(writer) => writer.finish().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_decides_what_is_written() {
        for (name, layout, compression) in [
            ("a.json", Layout::Array, Compression::Plain),
            ("a.jsonl", Layout::Lines, Compression::Plain),
            ("a", Layout::Lines, Compression::Plain),
            ("a.JSON.gz", Layout::Array, Compression::Gzip),
            ("a.jsonl.zst", Layout::Lines, Compression::Zstd),
            ("dir.json/a.parquet", Layout::Parquet, Compression::Plain),
        ] {
            assert_eq!(Container::of_name(Path::new(name)), Container { layout, compression }, "{name}");
        }
    }
}
