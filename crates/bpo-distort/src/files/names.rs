//! What the files are called that images become.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::listing::has_ending;

/// Who has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The file of the image with this index.
    Image(usize),
    /// A folder of images, or the reserved file.
    Other,
}

/// The name of each image's file, all different; where an image's would be that of something else, who has it.
///
/// The ending becomes `png`, or is added to a name without one of an image. Where two would have one name, a PNG keeps
/// its own and to the others it is added. Folders of images have their names first, but none can be where the `reserved` file
/// is. Names that differ only in case count as one, as some file systems have it.
pub(crate) fn outputs(images: &[PathBuf], reserved: &Path) -> Vec<Result<PathBuf, Owner>> {
    let short: Vec<PathBuf> = images.iter().map(|path| short(path)).collect();
    let mut wanted = BTreeMap::<Key, usize>::new();
    short.iter().for_each(|name| *wanted.entry(key(name)).or_default() += 1);

    let folders = |index: usize| images[index].ancestors().skip(1).map(key);
    let mut taken: BTreeMap<Key, Owner> =
        (0..images.len()).flat_map(folders).map(|name| (name, Owner::Other)).collect();
    let reserved = key(reserved);
    let has_place = |index: usize| folders(index).all(|name| name != reserved);
    let mut names: Vec<Option<PathBuf>> = vec![None; images.len()];
    let is_own = |index: usize| key(&short[index]) == key(&images[index]);
    let is_alone = |index: usize| wanted[&key(&short[index])] == 1;
    for index in (0..images.len()).filter(|&index| has_place(index) && (is_own(index) || is_alone(index))) {
        if taken.try_insert_free(&short[index], index) {
            names[index] = Some(short[index].clone());
        }
    }
    let long = |index: usize| added(&images[index]);
    let rest = |(index, name): (usize, Option<PathBuf>)| match name {
        Some(name) => Ok(name),
        None if !has_place(index) => Err(Owner::Other),
        None if taken.try_insert_free(&long(index), index) => Ok(long(index)),
        None => Err(taken[&key(&long(index))]),
    };
    names.into_iter().enumerate().map(rest).collect()
}

/// The name that an image's file has where no other wants it.
pub(crate) fn short(image: &Path) -> PathBuf {
    if has_ending(image) { image.with_extension("png") } else { added(image) }
}

fn added(image: &Path) -> PathBuf {
    let mut name = OsString::from(image);
    name.push(".png");
    name.into()
}

/// What two paths have in common that are one where case makes no difference.
type Key = Vec<Vec<u8>>;

/// A name that is no text is one with itself alone: where such names can be, case does make a difference.
fn key(path: &Path) -> Key {
    let name = |name: &OsStr| match name.to_str() {
        Some(text) => text.to_lowercase().into_bytes(),
        None => name.as_encoded_bytes().to_owned(),
    };
    path.iter().map(name).collect()
}

trait Taken {
    /// Takes a name, if nobody has.
    fn try_insert_free(&mut self, name: &Path, index: usize) -> bool;
}

impl Taken for BTreeMap<Key, Owner> {
    fn try_insert_free(&mut self, name: &Path, index: usize) -> bool {
        *self.entry(key(name)).or_insert(Owner::Image(index)) == Owner::Image(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(images: &[&str]) -> Vec<String> {
        let images: Vec<PathBuf> = images.iter().map(PathBuf::from).collect();
        let text = |name: Result<PathBuf, Owner>| match name {
            Ok(name) => name.display().to_string(),
            Err(Owner::Image(by)) => format!("as {}", images[by].display()),
            Err(Owner::Other) => "none".to_owned(),
        };
        outputs(&images, Path::new("record.json")).into_iter().map(text).collect()
    }

    #[test]
    fn endings_become_png() {
        assert_eq!(
            names(&["a.jpg", "b.JPEG", "c", "d.v2", "e.png", "e.x/a.bmp"]),
            ["a.png", "b.png", "c.png", "d.v2.png", "e.png", "e.x/a.png"]
        );
    }

    #[test]
    fn names_are_kept_apart() {
        assert_eq!(names(&["a.gif", "a.jpg", "a.png"]), ["a.gif.png", "a.jpg.png", "a.png"]);
        assert_eq!(names(&["a.jpeg", "a.jpg"]), ["a.jpeg.png", "a.jpg.png"]);
        assert_eq!(names(&["A.jpg", "a.PNG"]), ["A.jpg.png", "a.png"]);
        assert_eq!(names(&["a", "a.jpg"]), ["a.png", "a.jpg.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_told_apart() {
        use std::os::unix::ffi::OsStringExt;
        let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec()));
        let images = [&b"caf\xe8.jpg"[..], b"caf\xe9.jpg", b"caf\xe9/A.jpg", b"caf\xe9/a.gif"].map(path);
        let expected =
            [&b"caf\xe8.png"[..], b"caf\xe9.png", b"caf\xe9/A.jpg.png", b"caf\xe9/a.gif.png"].map(path);
        let names: Vec<_> =
            outputs(&images, Path::new("record.json")).into_iter().map(Result::unwrap).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn who_cannot_have_a_name_is_told() {
        assert_eq!(names(&["a.jpg", "a.jpg.png", "a.png"]), ["as a.jpg.png", "a.jpg.png", "a.png"]);
        assert_eq!(names(&["a.PNG", "a.png"]), ["a.png", "a.png.png"]);
    }

    #[test]
    fn folders_have_their_names_first() {
        assert_eq!(names(&["cat.jpg", "cat.png/a.jpg"]), ["cat.jpg.png", "cat.png/a.png"]);
        assert_eq!(names(&["a/cat.jpg", "a/Cat.PNG/b/c.jpg"]), ["a/cat.jpg.png", "a/Cat.PNG/b/c.png"]);
        assert_eq!(names(&["cat", "cat.png/d.png/e.png"]), ["none", "cat.png/d.png/e.png"]);
        // one that is a PNG itself, beside a folder that differs in case
        assert_eq!(names(&["cat.PNG/a.png", "cat.png"]), ["cat.PNG/a.png", "cat.png.png"]);
        assert_eq!(
            names(&["cat.jpg", "cat.jpg.png/a.jpg", "cat.png/a.jpg"]),
            ["none", "cat.jpg.png/a.png", "cat.png/a.png"]
        );
    }

    #[test]
    fn a_folder_cannot_be_where_the_record_is() {
        assert_eq!(
            names(&["Record.json/a.jpg", "a/record.json/b.jpg", "record.jsonl/c.jpg"]),
            ["none", "a/record.json/b.png", "record.jsonl/c.png"]
        );
    }
}
