//! Plans where each position of the language model's input comes from: the embedding of a token, or
//! an image feature.

use crate::error::ModelError;

/// A plan: embed `text_ids`, append all image features, and gather rows of that table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Splice {
    /// Ids of all tokens that are not image tokens, row by row.
    pub(super) text_ids: Vec<u32>,
    /// For each position of each row, its row in the table: text first, then the features of image
    /// 0, image 1, and so on.
    pub(super) gather: Vec<u32>,
}

/// Plans the input of rows of token ids.
///
/// # Errors
/// [`ModelError::ImageTokens`] if a row has another number of image tokens than its image has
/// features (0 without an image).
pub(super) fn splice(
    rows: &[Vec<u32>],
    image_of_row: &[Option<usize>],
    image_token: u32,
    per_image: usize,
) -> Result<Splice, ModelError> {
    let is_text = |id: &&u32| **id != image_token;
    let text_ids: Vec<u32> = rows.iter().flatten().filter(is_text).copied().collect();
    let mut gather = Vec::with_capacity(rows.iter().map(Vec::len).sum());
    let mut text = 0;
    for (row, image) in rows.iter().zip(image_of_row) {
        let expected = if image.is_some() { per_image } else { 0 };
        let found = row.len() - row.iter().filter(is_text).count();
        if found != expected {
            return Err(ModelError::ImageTokens { expected, found });
        }
        let mut feature = text_ids.len() + image.unwrap_or(0) * per_image;
        for id in row {
            let source = if *id == image_token { &mut feature } else { &mut text };
            gather.push(*source as u32);
            *source += 1;
        }
    }
    Ok(Splice { text_ids, gather })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IMAGE: u32 = 99;

    #[test]
    fn features_stand_where_image_tokens_are() {
        let rows = [vec![1, IMAGE, IMAGE, 2], vec![IMAGE, 3, IMAGE, 4]];
        let plan = splice(&rows, &[Some(1), Some(0)], IMAGE, 2).unwrap();
        assert_eq!(plan.text_ids, [1, 2, 3, 4]);
        assert_eq!(plan.gather, [0, 6, 7, 1, 4, 2, 5, 3]);
    }

    #[test]
    fn a_row_without_an_image_is_text() {
        let plan = splice(&[vec![5, 6]], &[None], IMAGE, 2).unwrap();
        assert_eq!(plan.gather, [0, 1]);
    }

    #[test]
    fn a_wrong_number_of_image_tokens_is_an_error() {
        for (row, image, expected, found) in
            [(vec![1, IMAGE], Some(0), 2, 1), (vec![IMAGE], None, 0, 1), (vec![1], Some(0), 2, 0)]
        {
            match splice(&[row], &[image], IMAGE, 2) {
                Err(ModelError::ImageTokens { expected: e, found: f }) => {
                    assert_eq!((e, f), (expected, found))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn every_position_finds_its_own_row(
            texts in prop::collection::vec(prop::collection::vec(0u32..50, 1..6), 1..5),
            per_image in 1usize..4,
            at in 0usize..6,
        ) {
            let rows: Vec<Vec<u32>> = texts
                .iter()
                .map(|text| {
                    let mut row = text.clone();
                    let at = at.min(row.len());
                    row.splice(at..at, std::iter::repeat_n(IMAGE, per_image));
                    row
                })
                .collect();
            let images: Vec<_> = (0..rows.len()).rev().map(Some).collect();
            let plan = splice(&rows, &images, IMAGE, per_image).unwrap();
            // a table whose rows say what they are
            let mut table: Vec<(u32, usize)> = plan.text_ids.iter().map(|id| (*id, 0)).collect();
            table.extend((0..rows.len()).flat_map(|image| (0..per_image).map(move |k| (1000 + image as u32, k))));
            let mut gathered = plan.gather.iter().map(|row| table[*row as usize]);
            for (row, image) in rows.iter().zip(&images) {
                let mut k = 0;
                for id in row {
                    let got = gathered.next().unwrap();
                    if *id == IMAGE {
                        prop_assert_eq!(got, (1000 + image.unwrap() as u32, k));
                        k += 1;
                    } else {
                        prop_assert_eq!(got, (*id, 0));
                    }
                }
            }
        }
    }
}
