//! What images show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use bpo_pairs::format::json::for_each;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::EvalError;
use crate::objects::ObjectTable;

/// Names of images and the objects that each shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    images: BTreeMap<String, BTreeSet<String>>,
    /// COCO's names by their numbers.
    numbers: BTreeMap<u64, String>,
}

#[derive(Deserialize)]
struct Record {
    image: String,
    objects: Vec<String>,
}

/// `instances_*.json` and `captions_*.json` of COCO, the keys needed here.
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
    /// Only in panoptic files.
    segments_info: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct CocoCategory {
    id: u64,
    name: String,
    /// Only in files of key points.
    keypoints: Option<IgnoredAny>,
}

impl Truth {
    /// Reads `{"image": "...", "objects": ["cup", ...]}`, an array or one object a line. More keys are not looked at.
    ///
    /// # Errors
    /// [`EvalError::Read`] and [`EvalError::Records`].
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let mut truth = Self::default();
        for_each(path, open(path)?, &mut |record: Record| {
            truth.add(&record.image, record.objects);
            Ok(())
        })?;
        Ok(truth)
    }

    /// Reads a file of COCO: objects are the categories of an image's annotations and, in a file of captions, what the
    /// captions mention. CHAIR takes both; see [`merge`](Self::merge).
    ///
    /// # Errors
    /// [`EvalError::Read`], [`EvalError::Json`], [`EvalError::NoSuchId`] for an annotation of nothing in the file,
    /// [`EvalError::CocoKind`] for files of another kind (panoptic, key points, questions), and
    /// [`EvalError::CaptionsNeedTable`] for captions where the table is empty.
    pub fn from_coco(path: &Path, table: &ObjectTable) -> Result<Self, EvalError> {
        let coco: Coco = serde_json::from_reader(open(path)?)
            .map_err(|source| EvalError::Json { path: path.into(), source })?;
        check_kind(path, &coco, table)?;
        let names: BTreeMap<u64, &str> =
            coco.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
        let categories: BTreeMap<u64, &str> =
            coco.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
        // an image without annotations shows nothing, which is known too
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

    /// Adds objects to an image, which need not be there yet.
    pub fn add(&mut self, image: &str, objects: impl IntoIterator<Item = String>) {
        if let Some(number) = number(image) {
            self.numbers.insert(number, image.to_owned());
        }
        self.images.entry(image.to_owned()).or_default().extend(objects);
    }

    /// Adds all of another truth.
    pub fn merge(&mut self, other: Self) {
        other.images.into_iter().for_each(|(image, objects)| self.add(&image, objects));
    }

    /// What an image shows. Of a path its last part counts too, and of COCO's names their number: `123`,
    /// `COCO_val2014_000000000123.jpg` and `000000000123.jpg` are one image.
    pub fn of(&self, image: &str) -> Option<&BTreeSet<String>> {
        let last = image.rsplit(['/', '\\']).next().unwrap_or(image);
        self.images
            .get(image)
            .or_else(|| self.images.get(last))
            .or_else(|| self.images.get(self.numbers.get(&number(last)?)?))
    }

    /// All images in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.images.iter().map(|(image, objects)| (image.as_str(), objects))
    }

    /// Everything that any image shows.
    pub fn objects(&self) -> BTreeSet<String> {
        self.images.values().flatten().cloned().collect()
    }

    /// Checks that answers can be held against this truth with a table: some image must show an object that the table has.
    ///
    /// # Errors
    /// [`EvalError::Nothing`] if no image shows anything, and [`EvalError::UnknownObjects`] if the table has other objects.
    pub fn check(&self, table: &ObjectTable) -> Result<(), EvalError> {
        let objects = self.objects();
        if objects.is_empty() {
            return Err(EvalError::Nothing { why: "no image of the truth shows an object".into() });
        }
        match objects.iter().any(|object| table.find(object).is_some()) {
            true => Ok(()),
            false => Err(EvalError::UnknownObjects { examples: objects.into_iter().take(5).collect() }),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// Refuses files that do not say, or only in part, which objects their images show.
fn check_kind(path: &Path, coco: &Coco, table: &ObjectTable) -> Result<(), EvalError> {
    let refused = |found: String| Err(EvalError::CocoKind { path: path.into(), found });
    if coco.annotations.iter().any(|annotation| annotation.segments_info.is_some()) {
        return refused("a panoptic file (annotations have segments_info)".into());
    }
    if !coco.categories.is_empty() && coco.categories.iter().all(|category| category.keypoints.is_some()) {
        return refused("a file of key points, which has only the categories that have some".into());
    }
    let empty =
        |annotation: &CocoAnnotation| annotation.category_id.is_none() && annotation.caption.is_none();
    if let Some(place) = coco.annotations.iter().position(empty) {
        return refused(format!("annotation {} has neither category_id nor caption", place + 1));
    }
    let has_captions = coco.annotations.iter().any(|annotation| annotation.caption.is_some());
    match has_captions && table.is_empty() {
        true => Err(EvalError::CaptionsNeedTable { path: path.into() }),
        false => Ok(()),
    }
}

/// The number that a COCO name is, or ends in: `42`, `000000000042.jpg`, `COCO_val2014_000000000042.jpg`.
pub(crate) fn number(name: &str) -> Option<u64> {
    let stem = name.split('.').next()?;
    let digits = match stem.strip_prefix("COCO_") {
        Some(rest) => rest.rsplit('_').next()?,
        None => stem,
    };
    digits.parse().ok()
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, EvalError> {
    File::open(path).map(BufReader::new).map_err(|source| EvalError::Read { path: path.into(), source })
}
