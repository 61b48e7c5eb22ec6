//! Scenes: the contents of one picture.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::kind::{Colour, Kind, Place};
use crate::statistics::Statistics;

/// The largest number of things in a scene.
pub const MAX_THINGS: usize = 8;
/// Columns of the grid that things are placed on.
const COLUMNS: u8 = 4;
/// Rows of the grid that things are placed on. Row 0 is the sky.
const ROWS: std::ops::Range<u8> = 1..4;

/// One object in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// The kind of object.
    pub kind: Kind,
    /// Its colour.
    pub colour: Colour,
    /// Column and row of its cell in a grid of 4 x 4 cells. A cell has 16 x 16 pixels.
    pub cell: (u8, u8),
    /// Offset from the centre of the cell in pixels, horizontal and vertical, from -1 to 1.
    pub shift: (i8, i8),
    /// Whether left and right are swapped.
    pub mirrored: bool,
}

/// The contents of one picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// The place.
    pub place: Place,
    /// The objects, sorted by row and column: from back to front.
    pub things: Vec<Thing>,
    /// Seed of the background.
    pub seed: u64,
}

/// All objects of one kind in a scene. They have the same colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The kind of object.
    pub kind: Kind,
    /// The colour.
    pub colour: Colour,
    /// The number of objects.
    pub count: u8,
}

impl Scene {
    /// Samples a scene. The same statistics and seed give the same scene.
    pub fn sample(statistics: &Statistics, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let place = Place::ALL[rng.random_range(0..Place::ALL.len())];
        let kinds = statistics.sample_kinds(place, &mut rng);
        let mut groups: Vec<Group> = kinds
            .into_iter()
            .map(|kind| Group {
                kind,
                colour: statistics.sample_colour(kind, &mut rng),
                count: statistics.sample_count(kind, &mut rng),
            })
            .collect();
        limit_things(&mut groups);

        let mut cells: Vec<(u8, u8)> =
            ROWS.flat_map(|row| (0..COLUMNS).map(move |column| (column, row))).collect();
        cells.shuffle(&mut rng);
        let each = groups.iter().flat_map(|group| std::iter::repeat_n(group, group.count.into()));
        let mut things: Vec<Thing> = each
            .zip(cells)
            .map(|(group, cell)| Thing {
                kind: group.kind,
                colour: group.colour,
                cell,
                shift: (rng.random_range(-1..=1), rng.random_range(-1..=1)),
                mirrored: rng.random_bool(0.3),
            })
            .collect();
        things.sort_by_key(|thing| (thing.cell.1, thing.cell.0));
        Self { place, things, seed: rng.random() }
    }

    /// The objects of the scene by kind, in the order of [`Kind::ALL`].
    pub fn groups(&self) -> Vec<Group> {
        let group = |kind: Kind| {
            let mut of_kind = self.things.iter().filter(|thing| thing.kind == kind).peekable();
            let colour = of_kind.peek()?.colour;
            Some(Group { kind, colour, count: of_kind.count() as u8 })
        };
        Kind::ALL.iter().copied().filter_map(group).collect()
    }

    /// The objects of the scene by kind, in the order of the first object of each kind: rows from
    /// top to bottom, columns from left to right.
    pub fn groups_back_to_front(&self) -> Vec<Group> {
        let mut groups = self.groups();
        groups.sort_by_key(|group| self.things.iter().position(|thing| thing.kind == group.kind));
        groups
    }

    /// Whether the scene has an object of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.things.iter().any(|thing| thing.kind == kind)
    }
}

/// Removes objects from the largest group until at most [`MAX_THINGS`] are left.
fn limit_things(groups: &mut [Group]) {
    while groups.iter().map(|group| usize::from(group.count)).sum::<usize>() > MAX_THINGS {
        if let Some(largest) = groups.iter_mut().max_by_key(|group| group.count) {
            largest.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_share_a_cell() {
        for statistics in [Statistics::usual(), Statistics::counter(), Statistics::uniform()] {
            for scene in (0..4000).map(|seed| Scene::sample(&statistics, seed)) {
                let mut cells: Vec<_> = scene.things.iter().map(|thing| thing.cell).collect();
                cells.sort_unstable();
                cells.dedup();
                assert_eq!(cells.len(), scene.things.len());
                assert!((2..=MAX_THINGS).contains(&cells.len()), "{}", cells.len());
            }
        }
    }
}
