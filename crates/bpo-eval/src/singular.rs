//! The singular of English nouns, for names of objects.

/// Irregular plurals with their singulars.
const IRREGULAR: [(&str, &str); 20] = [
    ("people", "person"),
    ("men", "man"),
    ("children", "child"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
    ("oxen", "ox"),
    ("knives", "knife"),
    ("wives", "wife"),
    ("wolves", "wolf"),
    ("calves", "calf"),
    ("halves", "half"),
    ("leaves", "leaf"),
    ("loaves", "loaf"),
    ("scarves", "scarf"),
    ("shelves", "shelf"),
    ("thieves", "thief"),
    ("buses", "bus"),
    ("gases", "gas"),
];

/// Words in s that are not plurals, or are equal in singular and plural.
const UNCHANGED: [&str; 16] = [
    "bus", "gas", "lens", "tennis", "scissors", "pants", "jeans", "shorts", "sheep", "series", "skis",
    "this", "is", "has", "was", "his",
];

/// Words in ie, oe and che whose plural adds only an s.
const PLAIN: [&str; 12] = [
    "pie", "tie", "movie", "cookie", "zombie", "brownie", "smoothie", "selfie", "shoe", "toe", "canoe",
    "cache",
];

/// The singular of a lower-case word, or the word itself if it is not a plural.
///
/// Compounds of irregular words are irregular: policemen, grandchildren.
pub(crate) fn singular(word: &str) -> String {
    if UNCHANGED.contains(&word) {
        return word.to_owned();
    }
    // Compounds end in one of these. Longer words end in the other plurals only by chance.
    let compounds = ["men", "children", "people"];
    let known = IRREGULAR.iter().find_map(|(many, one)| {
        let stem = word.strip_suffix(many)?;
        (stem.is_empty() || compounds.contains(many)).then(|| format!("{stem}{one}"))
    });
    if let Some(one) = known {
        return one;
    }
    let Some(stem) = word.strip_suffix('s') else { return word.to_owned() };
    if PLAIN.contains(&stem) {
        return stem.to_owned();
    }
    if let Some(stem) = stem.strip_suffix("ie").filter(|stem| stem.chars().count() > 1) {
        return format!("{stem}y");
    }
    // Only these take "es": boxes, benches, dishes, glasses, buzzes, potatoes.
    let sibilant = ["xe", "che", "she", "sse", "zze", "oe"];
    if sibilant.iter().any(|end| stem.ends_with(end)) {
        return stem[..stem.len() - 1].to_owned();
    }
    match stem {
        "" => word.to_owned(),
        stem if stem.ends_with(['s', 'u']) => word.to_owned(),
        stem => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::singular;

    #[test]
    fn singulars_of_regular_and_irregular_plurals() {
        for (many, one) in [
            ("cups", "cup"),
            ("benches", "bench"),
            ("boxes", "box"),
            ("potatoes", "potato"),
            ("shoes", "shoe"),
            ("puppies", "puppy"),
            ("pies", "pie"),
            ("cookies", "cookie"),
            ("movies", "movie"),
            ("canoes", "canoe"),
            ("toes", "toe"),
            ("wine", "wine"),
            ("glasses", "glass"),
            ("scarves", "scarf"),
            ("leaves", "leaf"),
            ("women", "woman"),
            ("policemen", "policeman"),
            ("grandchildren", "grandchild"),
            ("people", "person"),
            ("knives", "knife"),
            ("buses", "bus"),
            ("bus", "bus"),
            ("grass", "grass"),
            ("scissors", "scissors"),
            ("vases", "vase"),
            ("oranges", "orange"),
            ("cup", "cup"),
            ("s", "s"),
            ("", ""),
        ] {
            assert_eq!(singular(many), one, "{many}");
        }
    }
}
