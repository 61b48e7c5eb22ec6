//! Contact sheets as files.

use std::path::Path;

use bpo_distort::{Input, PngCompression, Sheet};

use super::error::DistortFilesError;
use super::origin::{self, VERSION, is_png};

/// In place of a distortion in the text of a sheet. No family has this name.
const NAME: &str = "sheet";

/// Draws a contact sheet and writes it as PNG file. An existing sheet is replaced.
///
/// # Errors
/// Returns [`DistortFilesError::NotPng`] if `out` does not end in `.png`,
/// [`DistortFilesError::NotOurs`] or [`DistortFilesError::Damaged`] if something other than a sheet
/// exists, [`DistortFilesError::File`] if it cannot be written, or the errors of [`Sheet::draw`].
pub fn save_sheet<'a>(
    sheet: &Sheet,
    input: impl Into<Input<'a>>,
    out: impl AsRef<Path>,
) -> Result<(), DistortFilesError> {
    let out = out.as_ref();
    if !is_png(out) {
        return Err(DistortFilesError::NotPng { path: out.to_owned() });
    }
    if origin::read(out)?.is_some_and(|text| text.split(' ').nth(1) != Some(NAME)) {
        return Err(DistortFilesError::NotOurs { path: out.to_owned() });
    }
    let text = format!("v{VERSION} {NAME} seed={}", sheet.seed());
    origin::write(out, &sheet.draw(input)?, &text, PngCompression::High)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bpo_distort::{Distortion, Family, ImageLimits, load_rgb};
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::distort_files::DistortFiles;

    #[test]
    fn only_sheets_are_replaced() {
        let image = RgbImage::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, 30]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheets/sheet.png");
        let sheet = Sheet::new().with_families([Family::named("gaussian-noise").unwrap()]);
        save_sheet(&sheet, &image, &path).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(load_rgb(&path, &ImageLimits::default()).unwrap(), sheet.draw(&image).unwrap());
        save_sheet(&sheet.clone().with_seed(1), &image, &path).unwrap();
        assert_ne!(fs::read(&path).unwrap(), first);
        save_sheet(&sheet, &image, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);

        let error = |path: &Path| save_sheet(&sheet, &image, path).unwrap_err();
        image.save(&path).unwrap();
        assert!(matches!(error(&path), DistortFilesError::NotOurs { .. }));
        assert!(matches!(error(&dir.path().join("sheet.jpg")), DistortFilesError::NotPng { .. }));
        fs::write(&path, "text").unwrap();
        assert!(matches!(error(&path), DistortFilesError::NotOurs { .. }));
        // A distorted copy is not a sheet.
        let source = dir.path().join("image.bmp");
        image.save(&source).unwrap();
        let blur: Distortion = "blur:sigma=1".parse().unwrap();
        let path = dir.path().join("copy.png");
        DistortFiles::new(blur).file(&source, &path).unwrap();
        assert!(matches!(error(&path), DistortFilesError::NotOurs { .. }));
    }
}
