//! The singular of English nouns, as far as names of objects need it.

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

/// Words that end in s and are no plural, or are the same in both numbers.
const UNCHANGED: [&str; 16] = [
    "bus", "gas", "lens", "tennis", "scissors", "pants", "jeans", "shorts", "sheep", "series", "skis",
    "this", "is", "has", "was", "his",
];

/// Words in ie, oe and che whose plural only adds an s.
const PLAIN: [&str; 12] = [
    "pie", "tie", "movie", "cookie", "zombie", "brownie", "smoothie", "selfie", "shoe", "toe", "canoe",
    "cache",
];

/// The singular of a lower-case word; the word itself if it is no plural.
///
/// Compounds of irregular words are irregular too: policemen, grandchildren.
pub fn singular(word: &str) -> String {
    if UNCHANGED.contains(&word) {
        return word.to_owned();
    }
    // a compound ends in one of these; a longer word may end in the others by chance
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
    // only these take "es" for "s": boxes, benches, dishes, glasses, buzzes, potatoes
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
    fn plurals_of_every_form() {
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
