//! The known name that a misspelt one may mean.

/// The smallest Jaro-Winkler similarity for a suggestion.
const SIMILAR: f64 = 0.7;

/// Returns the known name that is most similar to `name`, if there is a similar one. The case of letters does not
/// matter, nor whether words are joined by hyphens or underscores.
///
/// ```
/// use bpo_pairs::nearest_name;
///
/// assert_eq!(nearest_name("simgoid", &["hinge", "sigmoid"]), Some("sigmoid"));
/// assert_eq!(nearest_name("Llava_Hound", &["llava-hound"]), Some("llava-hound"));
/// assert_eq!(nearest_name("xyz", &["hinge", "sigmoid"]), None);
/// ```
pub fn nearest_name<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let name = plain(name);
    let similarity = |known: &'a str| (strsim::jaro_winkler(&name, &plain(known)), known);
    let similar = known.iter().copied().map(similarity).filter(|(similarity, _)| *similarity >= SIMILAR);
    similar.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, known)| known)
}
