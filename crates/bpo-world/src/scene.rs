//! Scenes, and how they are drawn at random.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::kind::{Colour, Kind, Place};

/// Most things that a scene can hold.
pub const MOST_THINGS: usize = 8;
/// Columns and rows of the grid that things stand in, below the row of the sky.
const COLUMNS: u8 = 4;
const ROWS: std::ops::Range<u8> = 1..4;

/// One thing in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Its colour.
    pub colour: Colour,
    /// Column and row of its cell, of 4 by 4; the cells are 16 pixels wide and high.
    pub cell: (u8, u8),
    /// How far it is off its cell's middle, in pixels, -1 to 1.
    pub shift: (i8, i8),
    /// Whether left and right are swapped.
    pub mirrored: bool,
}

/// All that a picture shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// Where it is.
    pub place: Place,
    /// What stands there, back to front.
    pub things: Vec<Thing>,
    /// Decides about the background.
    pub seed: u64,
}

/// A kind in a scene: all things of one kind have one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What it is.
    pub kind: Kind,
    /// Its colour.
    pub colour: Colour,
    /// How many there are.
    pub count: u8,
}

/// How likely what is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Weights of two, three and four kinds in a scene.
    pub kinds: [f64; 3],
    /// Probability that a kind is one of the place's.
    pub of_place: f64,
    /// Probability that a kind brings its companion, where there is room; `None` if companions are never together.
    pub companion: Option<f64>,
    /// Probability of the usual colour; the others share the rest.
    pub usual_colour: f64,
    /// Probability of the usual count; the others of 1 to 3 share the rest.
    pub usual_count: f64,
}

impl Statistics {
    /// The world as it mostly is: what goes together is together.
    pub fn usual() -> Self {
        Self {
            kinds: [0.2, 0.1, 0.7],
            of_place: 0.92,
            companion: Some(0.88),
            usual_colour: 0.9,
            usual_count: 0.85,
        }
    }

    /// What the world never shows: one kind of the place without its companion, things from elsewhere, in unusual colours.
    pub fn counter() -> Self {
        Self { kinds: [0.3, 0.4, 0.3], of_place: 0.4, companion: None, usual_colour: 0.25, usual_count: 0.5 }
    }

    /// Nothing goes with anything: for learning to see.
    pub fn uniform() -> Self {
        Self {
            kinds: [0.0, 0.0, 1.0],
            of_place: 0.25,
            companion: Some(0.0),
            usual_colour: 0.125,
            usual_count: 1.0 / 3.0,
        }
    }

    /// The usual world as texts tell it, where the exceptions are fewer still.
    pub fn told() -> Self {
        Self { of_place: 0.96, companion: Some(0.97), usual_colour: 0.95, ..Self::usual() }
    }

    /// Sets the weights of two, three and four kinds.
    pub fn with_kinds(mut self, kinds: [f64; 3]) -> Self {
        self.kinds = kinds;
        self
    }
}

impl Scene {
    /// Draws a scene. The same statistics and seed give the same scene.
    pub fn sample(statistics: &Statistics, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let place = Place::ALL[rng.random_range(0..Place::ALL.len())];
        let kinds = sample_kinds(statistics, place, &mut rng);
        let mut groups: Vec<Group> = kinds
            .into_iter()
            .map(|kind| Group {
                kind,
                colour: sample_colour(statistics, kind, &mut rng),
                count: sample_count(statistics, kind, &mut rng),
            })
            .collect();
        make_room(&mut groups);

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

    /// What the scene holds, by kind, in the order of [`Kind::ALL`].
    pub fn groups(&self) -> Vec<Group> {
        let group = |kind: Kind| {
            let mut of_kind = self.things.iter().filter(|thing| thing.kind == kind).peekable();
            let colour = of_kind.peek()?.colour;
            Some(Group { kind, colour, count: of_kind.count() as u8 })
        };
        Kind::ALL.iter().copied().filter_map(group).collect()
    }

    /// What the scene holds, by kind, in the order in which the first of each kind stands: from the top row down, and
    /// from left to right.
    pub fn groups_back_to_front(&self) -> Vec<Group> {
        let mut groups = self.groups();
        groups.sort_by_key(|group| self.things.iter().position(|thing| thing.kind == group.kind));
        groups
    }

    /// Whether there is a thing of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.things.iter().any(|thing| thing.kind == kind)
    }
}

fn sample_kinds(statistics: &Statistics, place: Place, rng: &mut ChaCha8Rng) -> Vec<Kind> {
    let wanted = 2 + weighted(&statistics.kinds, rng);
    let mut kinds: Vec<Kind> = Vec::with_capacity(wanted);
    while kinds.len() < wanted {
        // the first is always at home, so that the place means something
        let at_home = kinds.is_empty() || rng.random_bool(statistics.of_place);
        let fits = |kind: &&Kind| {
            let apart = statistics.companion.is_some() || !kinds.contains(&kind.companion());
            (kind.place() == place) == at_home && !kinds.contains(kind) && apart
        };
        let candidates: Vec<Kind> = Kind::ALL.iter().filter(fits).copied().collect();
        let Some(kind) = candidates.choose(rng).copied() else { continue };
        kinds.push(kind);
        let brings = statistics.companion.is_some_and(|probability| rng.random_bool(probability));
        if brings && kinds.len() < wanted && !kinds.contains(&kind.companion()) {
            kinds.push(kind.companion());
        }
    }
    kinds
}

fn sample_colour(statistics: &Statistics, kind: Kind, rng: &mut ChaCha8Rng) -> Colour {
    let usual = kind.usual_colour();
    if rng.random_bool(statistics.usual_colour) {
        return usual;
    }
    let others: Vec<Colour> = Colour::ALL.iter().copied().filter(|colour| *colour != usual).collect();
    others[rng.random_range(0..others.len())]
}

fn sample_count(statistics: &Statistics, kind: Kind, rng: &mut ChaCha8Rng) -> u8 {
    let usual = kind.usual_count();
    if rng.random_bool(statistics.usual_count) {
        return usual;
    }
    let others: Vec<u8> = (1..=3).filter(|count| *count != usual).collect();
    others[rng.random_range(0..others.len())]
}

/// Takes from the most numerous until all fit.
fn make_room(groups: &mut [Group]) {
    while groups.iter().map(|group| usize::from(group.count)).sum::<usize>() > MOST_THINGS {
        if let Some(largest) = groups.iter_mut().max_by_key(|group| group.count) {
            largest.count -= 1;
        }
    }
}

fn weighted(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 4000;

    fn scenes(statistics: &Statistics) -> Vec<Scene> {
        (0..MANY).map(|seed| Scene::sample(statistics, seed)).collect()
    }

    fn share<'a, T: 'a>(items: impl IntoIterator<Item = T>, holds: impl Fn(&T) -> bool) -> f64 {
        let (mut all, mut held) = (0.0, 0.0);
        for item in items {
            all += 1.0;
            held += f64::from(u8::from(holds(&item)));
        }
        held / all
    }

    fn pairs(scenes: &[Scene]) -> impl Iterator<Item = (&Scene, Group)> {
        scenes.iter().flat_map(|scene| scene.groups().into_iter().map(move |group| (scene, group)))
    }

    #[test]
    fn the_usual_world_is_as_promised() {
        let scenes = scenes(&Statistics::usual());
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 0.03, "{found}, not {expected}");
        near(share(pairs(&scenes), |(scene, group)| scene.has(group.kind.companion())), 0.92);
        near(share(pairs(&scenes), |(_, group)| group.colour == group.kind.usual_colour()), 0.9);
        near(share(pairs(&scenes), |(scene, group)| group.kind.place() == scene.place), 0.96);
        near(pairs(&scenes).count() as f64 / MANY as f64, 3.5);
    }

    #[test]
    fn the_counter_world_breaks_what_goes_together() {
        let scenes = scenes(&Statistics::counter());
        assert!(pairs(&scenes).all(|(scene, group)| !scene.has(group.kind.companion())));
        assert!(
            scenes.iter().all(|scene| scene.groups().iter().any(|group| group.kind.place() == scene.place))
        );
        let usual = share(pairs(&scenes), |(_, group)| group.colour == group.kind.usual_colour());
        assert!((usual - 0.25).abs() < 0.03, "{usual}");
    }

    #[test]
    fn everything_has_a_cell_of_its_own() {
        for statistics in [Statistics::usual(), Statistics::counter(), Statistics::uniform()] {
            for scene in scenes(&statistics) {
                let mut cells: Vec<_> = scene.things.iter().map(|thing| thing.cell).collect();
                cells.sort_unstable();
                cells.dedup();
                assert_eq!(cells.len(), scene.things.len());
                assert!((2..=MOST_THINGS).contains(&cells.len()), "{}", cells.len());
            }
        }
    }
}
