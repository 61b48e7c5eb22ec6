//! The singular of English nouns, as far as names of objects need it.

const IRREGULAR: [(&str, &str); 14] = [
    ("people", "person"),
    ("men", "man"),
    ("women", "woman"),
    ("children", "child"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
    ("knives", "knife"),
    ("wolves", "wolf"),
    ("calves", "calf"),
    ("shelves", "shelf"),
    ("loaves", "loaf"),
    ("buses", "bus"),
];

/// Words that end in s and are no plural, or are the same in both numbers.
const UNCHANGED: [&str; 18] = [
    "bus", "gas", "lens", "tennis", "glasses", "scissors", "pants", "jeans", "shorts", "sheep", "series",
    "skis", "this", "is", "has", "was", "its", "his",
];

/// The singular of a lower-case word; the word itself if it is no plural.
pub fn singular(word: &str) -> String {
    if UNCHANGED.contains(&word) {
        return word.to_owned();
    }
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == word) {
        return (*one).to_owned();
    }
    // "pies" and "ties" keep their e, "puppies" and "berries" do not
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.chars().count() > 1) {
        return format!("{stem}y");
    }
    // only these take "es" for "s": boxes, benches, dishes, glasses, buzzes, potatoes
    let sibilant = ["xes", "ches", "shes", "sses", "zzes", "oes"];
    if sibilant.iter().any(|end| word.ends_with(end)) && word != "shoes" {
        return word[..word.len() - 2].to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if !stem.is_empty() && !stem.ends_with('s') && !stem.ends_with("u") => stem.to_owned(),
        _ => word.to_owned(),
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
