//! The names of copies.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::listing::has_extension;

/// The name of the copy of each image, or `None` if its name is taken.
///
/// The extension becomes `png`. If two images would have the same name, PNG files keep their name
/// and `png` is added to the others: `cat.jpg.png`. Names of folders are taken. Names that differ
/// only in case are the same, as on some file systems.
pub(super) fn copy_names(images: &[PathBuf]) -> Vec<Option<PathBuf>> {
    let mut taken: BTreeSet<Key> =
        images.iter().flat_map(|image| image.ancestors().skip(1)).map(key).collect();
    let short: Vec<PathBuf> = images.iter().map(|image| short_name(image)).collect();
    let mut wanted = BTreeMap::<Key, usize>::new();
    short.iter().for_each(|name| *wanted.entry(key(name)).or_default() += 1);
    let mut names = vec![None; images.len()];
    for (index, image) in images.iter().enumerate() {
        let name = key(&short[index]);
        let may_have = name == key(image) || wanted[&name] == 1;
        if may_have && taken.insert(name) {
            names[index] = Some(short[index].clone());
        }
    }
    for (name, image) in names.iter_mut().zip(images) {
        let long = with_png(image);
        if name.is_none() && taken.insert(key(&long)) {
            *name = Some(long);
        }
    }
    names
}

/// The name of the copy of an image without conflicts.
pub(super) fn short_name(image: &Path) -> PathBuf {
    if has_extension(image) { image.with_extension("png") } else { with_png(image) }
}

fn with_png(image: &Path) -> PathBuf {
    let mut name = OsString::from(image);
    name.push(".png");
    name.into()
}

/// Equal for two paths that differ only in case.
type Key = Vec<Vec<u8>>;

/// Names that are not UTF-8 are compared exactly: file systems that have them distinguish case.
fn key(path: &Path) -> Key {
    let name = |name: &OsStr| match name.to_str() {
        Some(text) => text.to_lowercase().into_bytes(),
        None => name.as_encoded_bytes().to_owned(),
    };
    path.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(images: &[&str]) -> Vec<String> {
        let images: Vec<PathBuf> = images.iter().map(PathBuf::from).collect();
        let text = |name: Option<PathBuf>| name.map_or("none".to_owned(), |name| name.display().to_string());
        copy_names(&images).into_iter().map(text).collect()
    }

    #[test]
    fn extensions_become_png() {
        assert_eq!(
            names(&["a.jpg", "b.JPEG", "c", "d.v2", "e.png", "e.x/a.bmp"]),
            ["a.png", "b.png", "c.png", "d.v2.png", "e.png", "e.x/a.png"]
        );
    }

    #[test]
    fn conflicts_keep_the_extension() {
        assert_eq!(names(&["a.gif", "a.jpg", "a.png"]), ["a.gif.png", "a.jpg.png", "a.png"]);
        assert_eq!(names(&["a.jpeg", "a.jpg"]), ["a.jpeg.png", "a.jpg.png"]);
        assert_eq!(names(&["A.jpg", "a.PNG"]), ["A.jpg.png", "a.png"]);
        assert_eq!(names(&["a", "a.jpg"]), ["a.png", "a.jpg.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_distinct() {
        use std::os::unix::ffi::OsStringExt;
        let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec()));
        let images = [&b"caf\xe8.jpg"[..], b"caf\xe9.jpg", b"caf\xe9/A.jpg", b"caf\xe9/a.gif"].map(path);
        let expected =
            [&b"caf\xe8.png"[..], b"caf\xe9.png", b"caf\xe9/A.jpg.png", b"caf\xe9/a.gif.png"].map(path);
        assert_eq!(copy_names(&images), expected.map(Some));
    }

    #[test]
    fn taken_names_return_none() {
        assert_eq!(names(&["a.jpg", "a.jpg.png", "a.png"]), ["none", "a.jpg.png", "a.png"]);
        assert_eq!(names(&["a.PNG", "a.png"]), ["a.png", "a.png.png"]);
    }

    #[test]
    fn folders_have_priority() {
        assert_eq!(names(&["cat.jpg", "cat.png/a.jpg"]), ["cat.jpg.png", "cat.png/a.png"]);
        assert_eq!(names(&["a/cat.jpg", "a/Cat.PNG/b/c.jpg"]), ["a/cat.jpg.png", "a/Cat.PNG/b/c.png"]);
        assert_eq!(names(&["cat", "cat.png/d.png/e.png"]), ["none", "cat.png/d.png/e.png"]);
        assert_eq!(names(&["cat.PNG/a.png", "cat.png"]), ["cat.PNG/a.png", "cat.png.png"]);
        assert_eq!(
            names(&["cat.jpg", "cat.jpg.png/a.jpg", "cat.png/a.jpg"]),
            ["none", "cat.jpg.png/a.png", "cat.png/a.png"]
        );
    }
}
