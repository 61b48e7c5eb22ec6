//! Layout of a sheet.

use image::imageops::replace;
use image::{Rgb, RgbImage};

use super::label::{LINE, Pen};
use super::row::Row;
use crate::Severity;

/// Margins and gaps in pixels.
const GAP: u32 = 8;

/// A grid of cells with a header row and a column of names.
pub(super) struct Layout {
    pen: Pen,
    /// Width of the column of names.
    names: u32,
    /// Width and height of a cell with its label.
    cell: (u32, u32),
    /// Height of the thumbnails.
    thumbnail: u32,
    rows: u32,
    columns: u32,
}

impl Layout {
    pub(super) fn new(rows: &[Row], (width, height): (u32, u32)) -> Self {
        let pen = Pen::new();
        let widest =
            |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| pen.width(text)).max().unwrap_or(0);
        let names = widest(&mut rows.iter().flat_map(lines));
        let labels =
            widest(&mut rows.iter().flat_map(|row| row.cells.iter().map(|cell| cell.label.as_str())));
        let columns = heads().count() as u32;
        let heads = heads().map(|head| pen.width(&head)).max().unwrap_or(0);
        let lines = rows.iter().map(|row| lines(row).count() as u32).max().unwrap_or(0);
        Self {
            names,
            cell: (width.max(labels).max(heads), (height + LINE).max(lines * LINE)),
            thumbnail: height,
            rows: rows.len() as u32,
            columns,
            pen,
        }
    }

    /// An empty sheet.
    pub(super) fn blank(&self) -> RgbImage {
        let (width, height) = self.corner(self.rows, self.columns);
        RgbImage::from_pixel(width, height, Rgb([255; 3]))
    }

    /// Draws the header row.
    pub(super) fn head(&self, sheet: &mut RgbImage) {
        for (column, head) in heads().enumerate() {
            self.pen.write(sheet, &head, self.corner(0, column as u32).0, GAP);
        }
    }

    /// Draws the name of a row.
    pub(super) fn name(&self, sheet: &mut RgbImage, row: usize, shown: &Row) {
        let top = self.corner(row as u32, 0).1;
        for (line, text) in lines(shown).enumerate() {
            self.pen.write(sheet, text, GAP, top + line as u32 * LINE);
        }
    }

    /// Draws a thumbnail with its label.
    pub(super) fn cell(
        &self,
        sheet: &mut RgbImage,
        row: usize,
        column: usize,
        image: &RgbImage,
        label: &str,
    ) {
        let (left, top) = self.corner(row as u32, column as u32);
        replace(sheet, image, left.into(), top.into());
        self.pen.write(sheet, label, left, top + self.thumbnail);
    }

    /// The upper left corner of a cell.
    fn corner(&self, row: u32, column: u32) -> (u32, u32) {
        let (width, height) = self.cell;
        (GAP + self.names + GAP + column * (width + GAP), GAP + LINE + GAP + row * (height + GAP))
    }
}

fn heads() -> impl Iterator<Item = String> {
    let severities = Severity::all().map(|severity| format!("severity {}", severity.level()));
    std::iter::once("original".to_owned()).chain(severities)
}

fn lines(row: &Row) -> impl Iterator<Item = &str> {
    std::iter::once(row.name).chain(row.fixed.iter().map(String::as_str))
}
