//! Images that are split into tiles, as `LlavaNextImageProcessorPil` of transformers does it
//! (`image_processing_pil_llava_next.py`; that of LLaVA-OneVision is the same).

use bpo_distort::resize::{Axis, for_each_row, resize};
use image::{RgbImage, imageops};

use super::{CHANNELS, ImageProcessor, PixelValues, check_pixels};
use crate::processor::{ProcessorError, TileGrid, fitted};

impl ImageProcessor {
    /// Prepares the tiles of an image: the whole image, and the cells of the grid, row by row. The
    /// image in the grid keeps its shape and is in the middle of black pixels.
    ///
    /// `side` is that of a tile in pixels.
    ///
    /// # Errors
    /// [`ProcessorError::ImageTooLarge`] if the tiles have too many pixels.
    pub(crate) fn process_tiles(
        &self,
        image: &RgbImage,
        grid: &TileGrid,
        side: usize,
    ) -> Result<Vec<PixelValues>, ProcessorError> {
        let [height, width] = grid.tiles.map(|count| count * side);
        check_pixels((height, width))?;
        check_pixels((self.size[0], self.size[1]))?;
        let [rows, columns] = self.size.map(|side| side as u32);
        let mut tiles = Vec::with_capacity(grid.tiles());
        tiles.push(self.fit(&resize(image, columns, rows, self.resample))?);
        let canvas = self.padded(image, [height, width]);
        for row in 0..grid.tiles[0] {
            for column in 0..grid.tiles[1] {
                let [x, y, side] = [column * side, row * side, side].map(|pixels| pixels as u32);
                tiles.push(self.fit(&imageops::crop_imm(&canvas, x, y, side, side).to_image())?);
            }
        }
        Ok(tiles)
    }

    /// Resizes an image to fit into a resolution, and pads it with black. The odd pixel is after the
    /// image.
    fn padded(&self, image: &RgbImage, resolution: [usize; 2]) -> RgbImage {
        let [height, width] = resolution;
        let mut canvas = RgbImage::new(width as u32, height as u32);
        let size = fitted([image.height() as usize, image.width() as usize], resolution);
        let [top, left] = [0, 1].map(|axis| (resolution[axis] - size[axis]) / 2);
        let rows = canvas.chunks_exact_mut(width * CHANNELS).skip(top);
        let mut rows = rows.map(|row| row[left * CHANNELS..].as_chunks_mut::<CHANNELS>().0);
        for_each_row(image, &Axis::whole(size[1]), &Axis::whole(size[0]), self.resample, |pixels| {
            for ([red, green, blue, _], place) in pixels.iter().zip(rows.next().into_iter().flatten()) {
                *place = [*red, *green, *blue];
            }
        });
        canvas
    }
}
