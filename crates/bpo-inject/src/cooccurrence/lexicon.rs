//! Lists of English words. All lists are ours.

/// Function words, and words that fit any image: never replaced, and no replacements.
const FUNCTION_WORDS: &str = "\
    about above across after against all along also although among and another any anyone anything appear appears are \
    around because been before behind being below beneath beside besides between beyond both but can could did does \
    doing done down during each either else enough even ever every everything few for from further had has have having \
    her here hers herself him himself his how however into inside its itself just least less like lot lots many may \
    maybe might more most much must near nearby neither never next none nor not nothing now off often once one only \
    onto opposite other others ought our out outside over own per perhaps possibly quite rather same several shall she \
    should since some someone something somewhat still such than that the their theirs them themselves then there these \
    they thing things this those though through throughout thus too toward towards under underneath until upon upright \
    very was were what when where whether which while who whom whose why will with within without would yes yet you \
    your \
    answer appearance area atmosphere background bit center centre close composition contrast corner day description \
    detail details distance edge effect element elements evidence example fact feel feeling focus foreground form \
    front group image impression indication instance kind lack left middle moment number ones overall pair part parts \
    photo photograph picture piece pieces place position presence question reason response right scene sense setting \
    side sides sort sorts style text total type types use various variety view viewer way ways";

/// Common verbs in the forms of captions, without those that are nouns too ("watch", "park").
const VERBS: &str = "\
    add adds allow allows appear become becomes began begin begins belong belongs bring brings capture captures carries \
    carry carve carved cast casts catch catches come comes contain contains convey conveys cover covers create creates \
    depict depicts describe display displays draw draws drawn drive drives eat eats emphasize enjoy enjoys face faces \
    fall falls feature features fill fills fly flies follow follows gave gaze gazes get gets give given gives go goes \
    gone grab grow grows grown hang hangs held help helps hide hides hint hints hit hits hold holds hung include includes \
    indicate indicates invite invites keep keeps kept laid lay lays lead leads lean leans leave leaves let lets lie lies \
    lit located look looks made make makes meet meets move moves need needs occupies occupy offer offers overlook \
    overlooks own owns pass passes play plays point points pose poses prepare prepares provide provides pull pulls push \
    pushes put puts reach reaches read reads reflect reflects rest rests reveal reveals ride rides ring rise rises run \
    runs sat saw say says seem seems seen serve serves set sets share shares show shown shows sit sits sleep sleeps \
    smile smiles speak speaks spread spreads stand stands stay stays stood stretch stretches suggest suggests surround \
    surrounds swim swims take taken takes talk talks tell tells throw throws tie took touch touches travel travels try \
    tries turn turns understand wait waits walk walks want wants wear wears went work works worn write writes written";

const BE: &[&str] = &["is", "are", "was", "were", "looks", "seems", "appears", "very", "quite", "so"];
const DETERMINERS: &[&str] =
    &["a", "an", "the", "this", "that", "these", "those", "its", "his", "her", "their", "no"];

/// Colors.
pub(super) const COLORS: &[&str] = &[
    "beige",
    "black",
    "blue",
    "brown",
    "gold",
    "golden",
    "gray",
    "green",
    "grey",
    "orange",
    "pink",
    "purple",
    "red",
    "silver",
    "turquoise",
    "white",
    "yellow",
];

/// Colors that are things too: they are colors only before a noun or after "is".
pub(super) const COLORS_OR_THINGS: &[&str] = &["gold", "orange", "silver"];

/// Pairs of similar colors.
pub(super) const SAME_COLORS: &[&[&str]] = &[&["gray", "grey", "silver"], &["gold", "golden", "yellow"]];

/// Numbers from 2. "One" is a pronoun too, and its noun is a singular.
pub(super) const NUMBERS: &[&str] =
    &["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

pub(super) const ORDINALS: &[&str] =
    &["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

/// Groups of words that exclude each other and fit the same places.
pub(super) const OPPOSITES: &[(&str, &str)] = &[
    ("above", "below"),
    ("big", "small"),
    ("bottom", "top"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("bright", "dim"),
    ("brother", "sister"),
    ("clean", "dirty"),
    ("closed", "open"),
    ("cloudy", "sunny"),
    ("cold", "hot"),
    ("dark", "bright"),
    ("daughter", "son"),
    ("day", "night"),
    ("daytime", "nighttime"),
    ("dry", "wet"),
    ("east", "west"),
    ("empty", "full"),
    ("evening", "morning"),
    ("father", "mother"),
    ("female", "male"),
    ("few", "many"),
    ("happy", "sad"),
    ("husband", "wife"),
    ("indoor", "outdoor"),
    ("indoors", "outdoors"),
    ("inside", "outside"),
    ("king", "queen"),
    ("large", "small"),
    ("left", "right"),
    ("long", "short"),
    ("lower", "upper"),
    ("man", "woman"),
    ("men", "women"),
    ("metal", "wooden"),
    ("modern", "old"),
    ("new", "old"),
    ("north", "south"),
    ("old", "young"),
    ("over", "under"),
    ("round", "square"),
    ("running", "walking"),
    ("short", "tall"),
    ("sits", "stands"),
    ("sit", "stand"),
    ("sitting", "standing"),
    ("summer", "winter"),
    ("thick", "thin"),
    ("wide", "narrow"),
];

/// Pairs of words that change together with a pair of people.
pub(super) const MASCULINE: &[&str] =
    &["boy", "boys", "brother", "father", "husband", "king", "male", "man", "men", "son"];
pub(super) const FEMININE: &[&str] =
    &["daughter", "female", "girl", "girls", "mother", "queen", "sister", "wife", "woman", "women"];
pub(super) const MASCULINE_PRONOUNS: &[(&str, &str)] =
    &[("he", "she"), ("him", "her"), ("himself", "herself"), ("his", "her")];
pub(super) const FEMININE_PRONOUNS: &[(&str, &str)] =
    &[("she", "he"), ("her", "his"), ("herself", "himself")];

/// Groups of words for the same thing: the exchange of two is no error.
const SAME_THINGS: &[&str] = &[
    "adult boy boys child children crowd female girl girls guy guys individual individuals kid kids ladies lady male man \
     men people person player players woman women",
    "bike bicycle bikes bicycles cycle",
    "automobile car cars truck trucks vehicle vehicles van",
    "animal animals bird birds cat cats creature dog dogs kitten kittens pet pets puppy puppies",
    "couch sofa seat",
    "cup mug",
    "beverage coffee drink espresso juice tea",
    "road roads street streets path pathway",
    "ocean sea",
    "lake ocean river sea water waves",
    "home house building buildings structure structures",
    "big huge large massive",
    "little small tiny",
    "dish meal food plate plates dishes",
    "plant plants tree trees vegetation greenery foliage leaves bush bushes",
    "airplane aircraft plane jet",
    "phone smartphone cellphone device",
    "evening night sunset dusk",
];
/// Names of kinds. In a group with one, only these may name the same thing as the others: a cat is
/// an animal, but no dog.
const GENERAL: &[&str] = &[
    "adult",
    "animal",
    "animals",
    "beverage",
    "building",
    "buildings",
    "child",
    "children",
    "creature",
    "crowd",
    "drink",
    "food",
    "individual",
    "individuals",
    "people",
    "person",
    "pet",
    "pets",
    "plant",
    "plants",
    "player",
    "players",
    "structure",
    "structures",
    "vegetation",
    "vehicle",
    "vehicles",
    "water",
    "greenery",
    "device",
    "dish",
    "dishes",
    "meal",
    "kid",
    "kids",
];

/// Index of the lists.
#[derive(Clone, Debug)]
pub(super) struct Lexicon {
    fixed: Vec<&'static str>,
}

impl Lexicon {
    pub fn new() -> Self {
        let mut fixed: Vec<&str> =
            FUNCTION_WORDS.split_whitespace().chain(VERBS.split_whitespace()).collect();
        fixed.extend(COLORS.iter().chain(NUMBERS).chain(ORDINALS));
        fixed.extend(OPPOSITES.iter().flat_map(|&(a, b)| [a, b]));
        fixed.sort_unstable();
        fixed.dedup();
        Self { fixed }
    }

    /// Returns whether statistics may replace a word: probably a noun or an adjective.
    pub fn is_content(&self, lower: &str, after: Option<&str>) -> bool {
        let letters = lower.chars().count();
        if letters < 3 || !lower.chars().all(char::is_alphabetic) || self.fixed.binary_search(&lower).is_ok()
        {
            return false;
        }
        // Adverbs and participles; "the building" and "a speed" are nouns.
        let adverb = lower.ends_with("ly") && letters > 5;
        let participle = letters > 4 && lower.ends_with("ed") && !lower.ends_with("eed");
        let gerund =
            letters > 4 && lower.ends_with("ing") && !after.is_some_and(|word| DETERMINERS.contains(&word));
        !adverb && !participle && !gerund
    }
}

pub(super) fn is_be(lower: &str) -> bool {
    BE.contains(&lower)
}

/// Returns whether the exchange of two words may leave the sentence true.
pub(super) fn may_be_same(a: &str, b: &str) -> bool {
    if stem(a) == stem(b) {
        return true;
    }
    let general = GENERAL.contains(&a) || GENERAL.contains(&b);
    SAME_THINGS.iter().any(|group| {
        let has = |word| group.split_whitespace().any(|member| member == word);
        let things = !group.split_whitespace().any(|member| GENERAL.contains(&member));
        (general || things) && has(a) && has(b)
    })
}

/// Returns whether a noun is probably a plural.
pub(super) fn is_plural(lower: &str) -> bool {
    let irregular = ["children", "feet", "men", "mice", "people", "sheep", "teeth", "women"];
    let ends = |suffix: &str| lower.ends_with(suffix);
    irregular.contains(&lower) || (ends("s") && !ends("ss") && !ends("us") && !ends("is"))
}

fn stem(word: &str) -> &str {
    word.strip_suffix("es").or_else(|| word.strip_suffix('s')).unwrap_or(word).trim_end_matches('e')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_and_adjectives_are_content_words() {
        let lexicon = Lexicon::new();
        for word in
            ["cat", "wooden-free", "espresso", "tall", "the", "stands", "blurred", "slowly", "standing"]
        {
            let expected = ["cat", "espresso"].contains(&word);
            assert_eq!(lexicon.is_content(word, None), expected, "{word}");
        }
        assert!(lexicon.is_content("building", Some("the")));
        assert!(!lexicon.is_content("building", Some("are")));
    }

    #[test]
    fn synonyms_are_recognized() {
        for (a, b) in
            [("cat", "cats"), ("cup", "mug"), ("cat", "animal"), ("man", "person"), ("house", "houses")]
        {
            assert!(may_be_same(a, b), "{a} {b}");
        }
        for (a, b) in [("cat", "dog"), ("man", "woman"), ("cup", "spoon")] {
            assert!(!may_be_same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn plurals_are_recognized() {
        assert!(is_plural("cups") && is_plural("people") && !is_plural("glass") && !is_plural("cup"));
    }
}
