use proptest::prelude::*;

use super::*;

/// The default of LLaVA-NeXT.
fn next() -> Tiling {
    let sides = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]];
    let resolutions = sides.map(|tiles| tiles.map(|count| count * 336)).to_vec();
    Tiling { resolutions, side: 336, patches: 24, max_tiles: None }
}

/// The default of LLaVA-OneVision.
fn onevision(max_tiles: usize) -> Tiling {
    let resolutions =
        (1..7).flat_map(|rows| (1..7).map(move |columns| [rows * 384, columns * 384])).collect();
    Tiling { resolutions, side: 384, patches: 27, max_tiles: Some(max_tiles) }
}

type Resolution = [usize; 2];

/// Width and height of images; for LLaVA-NeXT the best resolution and the number of tokens; for
/// LLaVA-OneVision the same, with `anyres_max_9` and with `anyres_max_4`. All are computed by
/// transformers 5.23: `select_best_resolution`, and `_get_number_of_features` of both processors.
const TRANSFORMERS: [([u32; 2], Resolution, usize, Resolution, usize, usize); 27] = [
    ([640, 480], [672, 672], 2340, [768, 768], 2929, 2929),
    ([480, 640], [672, 672], 2352, [768, 768], 2943, 2943),
    ([336, 336], [336, 672], 1176, [384, 384], 1485, 1485),
    ([672, 672], [672, 672], 2928, [768, 768], 3699, 3699),
    ([1000, 37], [336, 1008], 722, [384, 1152], 975, 975),
    ([37, 1000], [1008, 336], 792, [1152, 384], 1053, 1053),
    ([1, 1], [336, 672], 1176, [384, 384], 1485, 1485),
    ([2, 300], [336, 672], 600, [384, 384], 783, 783),
    ([5000, 4000], [672, 672], 2438, [1920, 2304], 7281, 3657),
    ([1366, 768], [672, 672], 1850, [768, 1536], 5967, 3649),
    ([427, 640], [672, 672], 2160, [768, 768], 2727, 2727),
    ([640, 427], [672, 672], 2144, [768, 768], 2709, 2709),
    ([333, 500], [672, 336], 1476, [768, 384], 1849, 1849),
    ([1999, 2001], [672, 672], 2928, [2304, 2304], 7371, 3699),
    ([3, 2], [336, 672], 1464, [384, 384], 1261, 1261),
    ([4032, 3024], [672, 672], 2340, [1920, 2304], 7309, 3627),
    ([997, 331], [336, 1008], 2328, [384, 1152], 2943, 2943),
    ([640, 640], [672, 672], 2928, [768, 768], 3699, 3699),
    ([200, 199], [336, 672], 1176, [384, 384], 1485, 1485),
    ([700, 3], [336, 1008], 576, [384, 768], 784, 784),
    ([1920, 1080], [672, 672], 1948, [1152, 1920], 7269, 3649),
    ([611, 640], [672, 672], 2832, [768, 768], 3591, 3591),
    ([1, 4000], [336, 672], 600, [384, 384], 783, 783),
    ([4000, 1], [336, 672], 576, [384, 384], 757, 757),
    ([1, 2000], [336, 672], 600, [2304, 384], 1053, 1053),
    ([2000, 1], [336, 672], 576, [384, 2304], 892, 892),
    ([100_000, 1], [336, 672], 576, [384, 384], 757, 757),
];

#[test]
fn resolutions_and_tokens_are_those_of_transformers() {
    for ([width, height], of_next, tokens, of_onevision, most_9, most_4) in TRANSFORMERS {
        for (tiling, resolution, tokens) in [
            (next(), of_next, tokens),
            (onevision(9), of_onevision, most_9),
            (onevision(4), of_onevision, most_4),
        ] {
            let grid = tiling.grid(width, height).unwrap();
            assert_eq!(grid.tiles.map(|count| count * tiling.side), resolution, "{width}x{height}");
            assert_eq!(grid.tokens(), tokens, "{width}x{height}");
        }
    }
}

#[test]
fn features_of_the_grid_are_read_across_tiles() {
    // two tiles of 2 x 2 patches beside each other, without their first row
    let grid = TileGrid { tiles: [1, 2], patches: 2, first: [1, 0], shown: [1, 4], resized: None };
    assert_eq!(grid.shown_features().collect::<Vec<_>>(), [6, 7, 10, 11]);
    assert_eq!((grid.tiles(), grid.tokens()), (3, 4 + 5));
    let whole = TileGrid::whole(2);
    assert_eq!((whole.tiles(), whole.tokens(), whole.shown_features().count()), (1, 4 + 1, 0));
}

#[test]
fn images_without_a_place_are_errors() {
    let nowhere = Tiling { resolutions: Vec::new(), ..next() };
    assert!(matches!(nowhere.grid(9, 9), Err(ProcessorError::NoResolution { .. })));
    assert!(matches!(next().grid(0, 9), Err(ProcessorError::EmptyImage { .. })));
    // one row of patches, and room for no row
    let row = Tiling { resolutions: vec![[1, 1000]], side: 1, patches: 1, max_tiles: Some(1) };
    assert!(matches!(row.grid(1000, 1), Err(ProcessorError::NoResolution { .. })));
}

#[test]
fn pythons_arithmetic() {
    assert_eq!((round_7(2.99999996), round_7(2.99999995)), (3.0, 2.9999999));
    // 1.0 // 0.1 is 9.0 in Python
    assert_eq!((floor_div(1.0, 0.1), floor_div(7.0, 2.0), floor_div(6.0, 2.0)), (9, 3, 3));
}

proptest! {
    /// Every size gives an error or a grid whose features are within its tiles.
    #[test]
    fn grids_are_within_their_tiles(
        width in 1u32.., height in 1u32.., bits in 0u32..32, max_tiles in prop::option::of(1usize..12),
        sides in prop::collection::vec([1usize..5, 1usize..5], 1..9), side in 1usize..50, patches in 1usize..9,
    ) {
        let resolutions = sides.iter().map(|tiles| tiles.map(|count| count * side)).collect();
        let tiling = Tiling { resolutions, side, patches, max_tiles };
        let (width, height) = ((width >> bits).max(1), (height >> bits).max(1));
        if let Ok(grid) = tiling.grid(width, height) {
            let features = grid.tiles() * patches * patches;
            prop_assert!(grid.shown_features().all(|feature| (patches * patches..features).contains(&feature)));
            prop_assert_eq!(grid.shown_features().count(), grid.shown[0] * grid.shown[1]);
            let size = [height as usize, width as usize];
            let resolution = grid.tiles.map(|count| count * side);
            let fitted = fitted(size, resolution);
            prop_assert!((0..2).all(|axis| (1..=resolution[axis]).contains(&fitted[axis])));
        }
    }
}
