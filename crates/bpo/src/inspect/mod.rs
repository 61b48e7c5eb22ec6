//! A gallery of preference pairs: an HTML page that opens from disk.

mod differences;
mod pictures;

use std::path::{Path, PathBuf};

use bpo_pairs::files::{StagedDir, create_parents, write_atomic, write_bytes};
use bpo_pairs::{CompletionKind, Contrast, PreferencePair};
use serde::Serialize;

use crate::error::BpoError;
use crate::images::ImageRoot;
use differences::{Part, differences};
use pictures::{Picture, Pictures};

/// The page. It loads the files of its directory, and shows all text as text, never as HTML.
const PAGE: &str = include_str!("page.html");
/// What [`PAGE`] has in place of the name of the directory.
const DIR: &str = "GALLERY_FILES";
/// Pairs in one file. The page loads the files whose pairs it shows or searches.
const CHUNK: usize = 100;

/// A gallery of preference pairs, which shows images, weakened images, prompts, and answers with
/// the words in which they differ.
///
/// ```no_run
/// use bpo::pairs::format::jsonl::read_pairs;
/// use bpo::{Gallery, ImageRoot};
///
/// # fn main() -> Result<(), bpo::BpoError> {
/// let pairs = read_pairs("pairs.jsonl")?.pairs;
/// let images = ImageRoot::new("photos")?;
/// Gallery::new().with_images(&images).write(&pairs, "gallery.html".as_ref(), |_| ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gallery<'a> {
    images: Option<&'a ImageRoot>,
    seed: u64,
    most: Option<usize>,
}

impl<'a> Gallery<'a> {
    /// Creates a gallery of all pairs, without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the images of this directory, and the weakened images.
    pub fn with_images(mut self, images: &'a ImageRoot) -> Self {
        self.images = Some(images);
        self
    }

    /// Sets the seed of the run that made the pairs. Weakened images have the noise of the run only
    /// with its seed. Default: 0.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Shows at most this number of pairs, at equal distances in the file. Default: all.
    pub fn with_most(mut self, most: usize) -> Self {
        self.most = Some(most);
        self
    }

    /// Returns the directory of the files of a page: `gallery_files` for `gallery.html`.
    pub fn files_dir(page: &Path) -> PathBuf {
        let mut name = page.file_stem().unwrap_or_default().to_owned();
        name.push("_files");
        page.with_file_name(name)
    }

    /// Writes the page `out` and the [directory of its files](Self::files_dir). A gallery that is there is replaced. `on_pair` is called
    /// with the number of pairs that are done. Returns the number of pairs that the page shows.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written, if the directory has files that bpo did not
    /// write, or if the image root is gone. The reason why an image cannot be shown is on the page.
    pub fn write(
        &self,
        pairs: &[PreferencePair],
        out: &Path,
        mut on_pair: impl FnMut(usize),
    ) -> Result<usize, BpoError> {
        let shown = pairs.len().min(self.most.unwrap_or(usize::MAX));
        let chosen: Vec<&PreferencePair> =
            (0..shown).map(|place| &pairs[scaled(place, pairs.len(), shown)]).collect();
        let files = Self::files_dir(out);
        let dir = StagedDir::replacing(&files)?;
        let mut pictures = self.images.map(|images| Pictures::new(images, self.seed, dir.path().to_owned()));
        let (mut done, mut without) = (0, 0);
        for (number, chunk) in chosen.chunks(CHUNK).enumerate() {
            let mut cards = Vec::with_capacity(chunk.len());
            for pair in chunk {
                let (clean, weakened, others) = match &mut pictures {
                    Some(pictures) => {
                        let (clean, weakened) = pictures.of(pair)?;
                        (clean, weakened, pictures.clean(&pair.contrast_images)?)
                    }
                    None => (Vec::new(), Vec::new(), Vec::new()),
                };
                without += usize::from(clean.iter().chain(&others).any(Result::is_err));
                cards.push(Card::new(pair, clean, weakened, others));
                done += 1;
                on_pair(done);
            }
            write_script(&dir.path().join(format!("pairs-{number}.js")), "pairs", Some(number), &cards)?;
        }
        let index = Index {
            pairs: pairs.len(),
            chunk: CHUNK,
            kind: Names::of(chosen.iter().map(|pair| Some(pair.kind.as_str()))),
            error: Names::of(chosen.iter().map(|pair| error(pair))),
            has_images: self.images.is_some(),
        };
        write_script(&dir.path().join("index.js"), "index", None, &index)?;
        let name = files.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if without > 0 {
            tracing::warn!(
                "{without} of {shown} pairs have an image that cannot be shown; the page has the reasons"
            );
        }
        create_parents(out)?;
        dir.commit()?;
        write_bytes(out, PAGE.replace(DIR, &percent_encoded(&name)).as_bytes())?;
        Ok(shown)
    }
}

/// Returns `place * of / to`, which is below `of` if `place` is below `to`.
fn scaled(place: usize, of: usize, to: usize) -> usize {
    (place as u128 * of as u128 / to as u128) as usize
}

/// Writes a script that calls a function of the page. Pages that are opened from disk can read other
/// files as scripts only.
fn write_script(
    path: &Path,
    function: &str,
    number: Option<usize>,
    value: &impl Serialize,
) -> Result<(), BpoError> {
    write_atomic(path, |writer| {
        let io = |source| BpoError::Io { action: "write", path: path.to_owned(), source };
        let number = number.map(|number| format!("{number},")).unwrap_or_default();
        write!(writer, "gallery.{function}({number}").map_err(io)?;
        let json = |source| BpoError::Json { path: path.to_owned(), source };
        serde_json::to_writer(&mut *writer, value).map_err(json)?;
        writer.write_all(b");\n").map_err(io)
    })
}

/// Percent-encodes a file name for the address of a script.
fn percent_encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// What the page needs before it shows a pair.
#[derive(Serialize)]
struct Index<'a> {
    /// Pairs in the file. The page shows as many as `kind` has items.
    pairs: usize,
    /// Pairs of a chunk.
    chunk: usize,
    /// The kinds of rejected answers.
    kind: Names<'a>,
    /// The kinds of injected errors.
    error: Names<'a>,
    has_images: bool,
}

/// A name of each pair, by which the page filters.
#[derive(Serialize)]
struct Names<'a> {
    /// The different names, sorted.
    names: Vec<&'a str>,
    /// For each pair, the index of its name, or none.
    of: Vec<Option<usize>>,
}

impl<'a> Names<'a> {
    fn of(pairs: impl Iterator<Item = Option<&'a str>> + Clone) -> Self {
        let mut names: Vec<&str> = pairs.clone().flatten().collect();
        names.sort_unstable();
        names.dedup();
        let of = pairs.map(|name| names.binary_search(&name?).ok()).collect();
        Self { names, of }
    }
}

/// Returns the kind of the injected error, if one was injected.
fn error(pair: &PreferencePair) -> Option<&str> {
    pair.provenance.as_ref()?.error.as_deref()
}

/// A pair as the page shows it.
#[derive(Serialize)]
struct Card<'a> {
    id: &'a str,
    kind: &'a str,
    /// Source of the chosen answer if it is not an annotated one.
    chosen_kind: Option<&'a str>,
    images: &'a [String],
    clean: Vec<Picture>,
    weakened: Vec<Picture>,
    contrast_images: &'a [String],
    /// The images of the contrast.
    others: Vec<Picture>,
    contrast_answer: Option<&'a str>,
    system: Option<&'a str>,
    /// Questions and answers before the prompt.
    history: Vec<[&'a str; 2]>,
    prompt: &'a str,
    chosen: Vec<Part<'a>>,
    rejected: Vec<Part<'a>>,
    distortion: Option<&'a str>,
    error: Option<&'a str>,
    other: Option<&'a str>,
    contrast: Option<Contrast>,
    prefix_words: usize,
    cut_sentences: usize,
    variant: usize,
    margin: Option<f64>,
    beta: Option<f64>,
}

impl<'a> Card<'a> {
    fn new(
        pair: &'a PreferencePair,
        clean: Vec<Picture>,
        weakened: Vec<Picture>,
        others: Vec<Picture>,
    ) -> Self {
        let provenance = pair.provenance.as_ref();
        let (chosen, rejected) = differences(&pair.chosen, &pair.rejected);
        Self {
            id: &pair.id,
            kind: pair.kind.as_str(),
            chosen_kind: pair.chosen_kind.as_ref().map(CompletionKind::as_str),
            images: &pair.images,
            clean,
            weakened,
            contrast_images: &pair.contrast_images,
            others,
            contrast_answer: pair.contrast_answer.as_deref(),
            system: pair.system.as_deref(),
            history: pair.history.iter().map(|turn| [turn.prompt.as_str(), turn.answer.as_str()]).collect(),
            prompt: &pair.prompt,
            chosen,
            rejected,
            distortion: provenance.map(|from| from.distortion.as_str()).filter(|text| !text.is_empty()),
            error: error(pair),
            other: provenance.and_then(|provenance| provenance.other.as_deref()),
            contrast: provenance.and_then(|provenance| provenance.contrast),
            prefix_words: provenance.map_or(0, |provenance| provenance.prefix_words),
            cut_sentences: provenance.map_or(0, |provenance| provenance.cut_sentences),
            variant: provenance.map_or(0, |provenance| provenance.variant),
            margin: pair.margin,
            beta: pair.beta,
        }
    }
}
