//! Plans where each position of the language model's input comes from: the embedding of a token, or
//! an image feature.

use std::ops::Range;

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

impl Splice {
    /// The positions that take a feature, counted over all rows, and the row of the feature.
    pub(super) fn features(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let text = self.text_ids.len() as u32;
        let row = move |(place, row): (u32, &u32)| Some((place, row.checked_sub(text)?));
        (0..).zip(&self.gather).filter_map(row)
    }
}

/// Plans the input of rows of token ids. The image tokens of a row take the features of its images,
/// in their order.
///
/// `features` are the rows of the table of features that belong to each image.
///
/// # Errors
/// [`ModelError::ImageTokens`] if a row has another number of image tokens than its images have
/// features.
pub(super) fn splice(
    rows: &[Vec<u32>],
    images_of_row: &[&[usize]],
    image_token: Option<u32>,
    features: &[Range<usize>],
) -> Result<Splice, ModelError> {
    let is_text = |id: &&u32| Some(**id) != image_token;
    let text_ids: Vec<u32> = rows.iter().flatten().filter(is_text).copied().collect();
    let mut gather = Vec::with_capacity(rows.iter().map(Vec::len).sum());
    let mut text = 0;
    for (row, images) in rows.iter().zip(images_of_row) {
        let expected = images.iter().map(|image| features[*image].len()).sum();
        let found = row.len() - row.iter().filter(is_text).count();
        if found != expected {
            return Err(ModelError::ImageTokens { expected, found });
        }
        let mut own = images.iter().flat_map(|image| features[*image].clone());
        for id in row {
            // there are as many features as image tokens
            let feature = if Some(*id) == image_token { own.next() } else { None };
            gather.push(feature.map_or(text, |feature| text_ids.len() + feature) as u32);
            text += usize::from(feature.is_none());
        }
    }
    Ok(Splice { text_ids, gather })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IMAGE: u32 = 99;
    const TOKEN: Option<u32> = Some(IMAGE);

    #[test]
    fn features_stand_where_image_tokens_are() {
        let rows = [vec![1, IMAGE, IMAGE, 2], vec![IMAGE, 3, IMAGE, 4]];
        let plan = splice(&rows, &[&[1], &[0]], TOKEN, &[0..2, 2..4]).unwrap();
        assert_eq!(plan.text_ids, [1, 2, 3, 4]);
        assert_eq!(plan.gather, [0, 6, 7, 1, 4, 2, 5, 3]);
    }

    #[test]
    fn images_of_a_row_follow_each_other() {
        let rows = [vec![IMAGE, 1, IMAGE, IMAGE, 2]];
        let plan = splice(&rows, &[&[2, 0]], TOKEN, &[0..2, 2..4, 4..5]).unwrap();
        assert_eq!(plan.gather, [6, 0, 2, 3, 1]);
        assert_eq!(plan.features().collect::<Vec<_>>(), [(0, 4), (2, 0), (3, 1)]);
    }

    #[test]
    fn a_row_without_an_image_is_text() {
        let plan = splice(&[vec![5, 6]], &[&[]], TOKEN, &[0..2, 2..4]).unwrap();
        assert_eq!(plan.gather, [0, 1]);
    }

    #[test]
    fn a_wrong_number_of_image_tokens_is_an_error() {
        for (row, images, expected, found) in [
            (vec![1, IMAGE], &[0][..], 2, 1),
            (vec![IMAGE], &[], 0, 1),
            (vec![1], &[0], 2, 0),
            (vec![IMAGE; 2], &[0, 0], 4, 2),
        ] {
            match splice(&[row], &[images], TOKEN, &[0..2, 2..4]) {
                Err(ModelError::ImageTokens { expected: e, found: f }) => {
                    assert_eq!((e, f), (expected, found))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        /// Rows with any number of images of any number of tokens, at any place.
        #[test]
        fn every_position_finds_its_own_row(
            rows in prop::collection::vec(
                (prop::collection::vec(0u32..50, 1..6), prop::collection::vec((0usize..5, 0usize..6), 0..4)), 1..5,
            ),
            tokens in prop::collection::vec(1usize..4, 5),
        ) {
            let mut features = Vec::new();
            for count in &tokens {
                let start = features.last().map_or(0, |last: &Range<usize>| last.end);
                features.push(start..start + count);
            }
            let (mut ids, mut images, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            for (text, placed) in &rows {
                let mut placed = placed.clone();
                placed.sort_by_key(|(_, at)| (*at).min(text.len()));
                let (mut row, mut from) = (Vec::new(), 0);
                for (image, at) in &placed {
                    let at = (*at).min(text.len());
                    row.extend(text[from..at].iter().map(|id| (*id, None)));
                    row.extend((0..tokens[*image]).map(|k| (IMAGE, Some((*image, k)))));
                    from = at;
                }
                row.extend(text[from..].iter().map(|id| (*id, None)));
                ids.push(row.iter().map(|(id, _)| *id).collect::<Vec<_>>());
                images.push(placed.iter().map(|(image, _)| *image).collect::<Vec<_>>());
                expected.extend(row);
            }
            let images: Vec<&[usize]> = images.iter().map(Vec::as_slice).collect();
            let plan = splice(&ids, &images, TOKEN, &features).unwrap();
            // a table whose rows say what they are
            let mut table: Vec<_> = plan.text_ids.iter().map(|id| (*id, None)).collect();
            for (image, rows) in features.iter().enumerate() {
                table.extend((0..rows.len()).map(|k| (IMAGE, Some((image, k)))));
            }
            let found: Vec<_> = plan.gather.iter().map(|row| table[*row as usize]).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
