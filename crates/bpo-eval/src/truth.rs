//! Ground truth: the objects that images show.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{Limited, open_limited};
use bpo_pairs::format::json::for_each;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::EvalError;
use crate::objects::ObjectTable;

/// The objects of each image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    images: BTreeMap<String, BTreeSet<String>>,
    /// Image names by COCO number.
    numbers: BTreeMap<u64, String>,
}

#[derive(Deserialize)]
struct Record {
    image: String,
    objects: Vec<String>,
}

/// COCO's `instances_*.json` and `captions_*.json`, the keys that are needed.
#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    #[serde(default)]
    categories: Vec<CocoCategory>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoAnnotation {
    image_id: u64,
    category_id: Option<u64>,
    caption: Option<String>,
    /// Present in panoptic files only.
    segments_info: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct CocoCategory {
    id: u64,
    name: String,
    /// Present in keypoint files only.
    keypoints: Option<IgnoredAny>,
}

impl Truth {
    /// Reads records `{"image": "...", "objects": ["cup", ...]}` from a JSON array or JSON lines.
    /// Other keys are ignored.
    ///
    /// # Errors
    /// Returns [`EvalError::Read`] and [`EvalError::Records`].
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let mut truth = Self::default();
        let read = for_each(path, open(path)?, &mut |record: Record| {
            truth.add(&record.image, record.objects);
            Ok(())
        });
        read.map_err(|error| error.or_other_kind(path, "the objects of images", &[]))?;
        Ok(truth)
    }

    /// Reads a COCO file. The objects of an image are the categories of its annotations or, in a
    /// file of captions, the objects that the captions mention.
    ///
    /// CHAIR uses both files; see [`merge`](Self::merge).
    ///
    /// # Errors
    /// - [`EvalError::Read`], [`EvalError::Json`] for files that cannot be read.
    /// - [`EvalError::NoSuchId`] for an annotation of an unknown image or category.
    /// - [`EvalError::CocoKind`] for other COCO files (panoptic, keypoints, questions).
    /// - [`EvalError::CaptionsNeedTable`] for captions with an empty table.
    pub fn from_coco(path: &Path, table: &ObjectTable) -> Result<Self, EvalError> {
        let coco: Coco = serde_json::from_reader(open(path)?)
            .map_err(|source| EvalError::Json { path: path.into(), source })?;
        check_kind(path, &coco, table)?;
        let names: BTreeMap<u64, &str> =
            coco.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
        let categories: BTreeMap<u64, &str> =
            coco.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
        // An image without annotations is known to show no object.
        let mut truth = Self::default();
        coco.images.iter().for_each(|image| truth.add(&image.file_name, []));
        for (i, annotation) in coco.annotations.iter().enumerate() {
            let no_such = |what, id| EvalError::NoSuchId { path: path.into(), record: i + 1, what, id };
            let id = annotation.image_id;
            let image = names.get(&id).ok_or_else(|| no_such("image", id))?;
            if let Some(id) = annotation.category_id {
                let name = categories.get(&id).ok_or_else(|| no_such("category", id))?;
                truth.add(image, [(*name).to_owned()]);
            }
            if let Some(caption) = &annotation.caption {
                truth.add(image, table.mentions(caption).into_iter().map(|mention| mention.object));
            }
        }
        Ok(truth)
    }

    /// Adds objects to an image, and the image if it is new.
    pub fn add(&mut self, image: &str, objects: impl IntoIterator<Item = String>) {
        if let Some(number) = number(image) {
            self.numbers.insert(number, image.to_owned());
        }
        self.images.entry(image.to_owned()).or_default().extend(objects);
    }

    /// Adds all images and objects of another ground truth.
    pub fn merge(&mut self, other: Self) {
        other.images.into_iter().for_each(|(image, objects)| self.add(&image, objects));
    }

    /// The objects of an image, or `None` if the image is unknown.
    ///
    /// The name may be a path: its file name is looked up too. COCO names are looked up by number:
    /// `123`, `COCO_val2014_000000000123.jpg` and `000000000123.jpg` are the same image.
    pub fn of(&self, image: &str) -> Option<&BTreeSet<String>> {
        let last = image.rsplit(['/', '\\']).next().unwrap_or(image);
        self.images
            .get(image)
            .or_else(|| self.images.get(last))
            .or_else(|| self.images.get(self.numbers.get(&number(last)?)?))
    }

    /// The images with their objects, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.images.iter().map(|(image, objects)| (image.as_str(), objects))
    }

    /// All objects of all images.
    pub fn objects(&self) -> BTreeSet<String> {
        self.images.values().flatten().cloned().collect()
    }

    /// Checks that the table has at least one object of this ground truth.
    ///
    /// # Errors
    /// Returns [`EvalError::Nothing`] without any object, and [`EvalError::UnknownObjects`] if the
    /// table has none of the objects.
    pub fn check(&self, table: &ObjectTable) -> Result<(), EvalError> {
        let objects = self.objects();
        if objects.is_empty() {
            return Err(EvalError::Nothing { why: "no image of the ground truth shows an object".into() });
        }
        if !objects.iter().any(|object| table.find(object).is_some()) {
            return Err(EvalError::UnknownObjects { examples: objects.into_iter().take(5).collect() });
        }
        Ok(())
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// Refuses COCO files that do not list all objects of their images.
fn check_kind(path: &Path, coco: &Coco, table: &ObjectTable) -> Result<(), EvalError> {
    let refused = |found: String| Err(EvalError::CocoKind { path: path.into(), found });
    if coco.annotations.iter().any(|annotation| annotation.segments_info.is_some()) {
        return refused("a panoptic file (annotations have segments_info)".into());
    }
    if !coco.categories.is_empty() && coco.categories.iter().all(|category| category.keypoints.is_some()) {
        return refused("a keypoint file, which has only the categories with keypoints".into());
    }
    let empty =
        |annotation: &CocoAnnotation| annotation.category_id.is_none() && annotation.caption.is_none();
    if let Some(place) = coco.annotations.iter().position(empty) {
        return refused(format!("annotation {} has neither category_id nor caption", place + 1));
    }
    let has_captions = coco.annotations.iter().any(|annotation| annotation.caption.is_some());
    if has_captions && table.is_empty() {
        return Err(EvalError::CaptionsNeedTable { path: path.into() });
    }
    Ok(())
}

/// The number of a COCO image name: `42`, `000000000042.jpg`, `COCO_val2014_000000000042.jpg`.
pub(crate) fn number(name: &str) -> Option<u64> {
    let stem = name.split('.').next()?;
    let digits = match stem.strip_prefix("COCO_") {
        Some(rest) => rest.rsplit('_').next()?,
        None => stem,
    };
    digits.parse().ok()
}

pub(crate) fn open(path: &Path) -> Result<BufReader<Limited>, EvalError> {
    Ok(BufReader::new(open_limited(path, Limits::DEFAULT.truth_bytes)?))
}
