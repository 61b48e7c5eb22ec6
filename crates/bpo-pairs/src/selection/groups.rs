//! Groups of samples that share images, for splits without an image on both sides.

use std::collections::HashMap;

use super::is_within;
use crate::seed::item_seed;

/// Groups of samples that share an image, directly or through others.
///
/// A split by groups has no image on both sides. A sample without an image is in a group with the
/// other turns of its conversation, whose ids differ after `#`. Memory grows by about 30 bytes for
/// each image.
#[derive(Clone, Debug, Default)]
pub struct ImageGroups {
    places: HashMap<u64, u32>,
    /// For each image the place of another one of its group, or its own.
    parents: Vec<u32>,
    /// For each image that is its own parent, the smallest hash of its group.
    smallest: Vec<u64>,
}

impl ImageGroups {
    /// Puts the images of a sample into one group.
    pub fn add(&mut self, id: &str, images: &[String]) {
        let mut names = names(id, images);
        let Some(first) = names.next() else { return };
        let mut root = self.place(first);
        for name in names {
            let other = self.place(name);
            root = self.join(root, other);
        }
    }

    /// Returns whether the group of a sample is within the first `percent` of all groups in the
    /// random order of a seed. A sample that was not [added](Self::add) is in a group of its own
    /// first image.
    pub fn is_within(&self, percent: f64, seed: u64, id: &str, images: &[String]) -> bool {
        let Some(hash) = names(id, images).next() else { return false };
        let group = self.places.get(&hash).map_or(hash, |&place| self.smallest[self.root(place) as usize]);
        is_within(percent, "split", seed, &group.to_string())
    }

    fn place(&mut self, hash: u64) -> u32 {
        let next = self.parents.len() as u32;
        let place = *self.places.entry(hash).or_insert(next);
        if place == next {
            self.parents.push(next);
            self.smallest.push(hash);
        }
        self.shorten(place)
    }

    fn root(&self, mut place: u32) -> u32 {
        while self.parents[place as usize] != place {
            place = self.parents[place as usize];
        }
        place
    }

    /// Returns the root of a place, and makes it the parent of all places on the way.
    fn shorten(&mut self, mut place: u32) -> u32 {
        let root = self.root(place);
        while place != root {
            place = std::mem::replace(&mut self.parents[place as usize], root);
        }
        root
    }

    fn join(&mut self, one: u32, other: u32) -> u32 {
        // the smaller hash is the root, so that the order of the samples has no influence
        let (root, child) = if self.smallest[one as usize] <= self.smallest[other as usize] {
            (one, other)
        } else {
            (other, one)
        };
        self.parents[child as usize] = root;
        root
    }
}

/// Returns the hashes of the names of a sample's images, or that of its conversation.
fn names<'a>(id: &'a str, images: &'a [String]) -> impl Iterator<Item = u64> + 'a {
    let conversation = id.rsplit_once('#').map_or(id, |(conversation, _)| conversation);
    let own = images.is_empty().then(|| item_seed(0, format!("conversation/{conversation}")));
    images.iter().map(|image| item_seed(0, format!("image/{}", plain(image)))).chain(own)
}

/// Returns an image's path without `.` and empty parts, and without the number of a frame.
fn plain(image: &str) -> String {
    let video = match image.rsplit_once('#') {
        Some((video, frame)) if !frame.is_empty() && frame.bytes().all(|byte| byte.is_ascii_digit()) => video,
        _ => image,
    };
    let parts: Vec<&str> = video.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}
