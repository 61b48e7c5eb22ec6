//! The singular of a word, as computed by `singularize` of pattern.en.
//!
//! Words and rules are those of pattern 3.6 (`pattern/text/en/inflect.py`, © 2010 University of
//! Antwerp, Tom De Smedt, BSD license), which has the rules from Bermi Ferrer's Inflector (© 2006
//! Bermi Ferrer Martinez, MIT license). Their errors are kept, because published results were
//! computed with them.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::pattern;

/// Patterns with replacements. The first match is used.
#[rustfmt::skip]
const RULES: [(&str, &str); 40] = [
    (r"(?i)(.)ae$", "${1}a"),
    (r"(?i)(.)itis$", "${1}itis"),
    (r"(?i)(.)eaux$", "${1}eau"),
    (r"(?i)(quiz)zes$", "${1}"),
    (r"(?i)(matr)ices$", "${1}ix"),
    (r"(?i)(ap|vert|ind)ices$", "${1}ex"),
    (r"(?i)^(ox)en", "${1}"),
    (r"(?i)(alias|status)es$", "${1}"),
    (r"(?i)([octop|vir])i$", "${1}us"),
    (r"(?i)(cris|ax|test)es$", "${1}is"),
    (r"(?i)(shoe)s$", "${1}"),
    (r"(?i)(o)es$", "${1}"),
    (r"(?i)(bus)es$", "${1}"),
    (r"(?i)([m|l])ice$", "${1}ouse"),
    (r"(?i)(x|ch|ss|sh)es$", "${1}"),
    (r"(?i)(m)ovies$", "${1}ovie"),
    (r"(?i)(.)ombies$", "${1}ombie"),
    (r"(?i)(s)eries$", "${1}eries"),
    (r"(?i)([^aeiouy]|qu)ies$", "${1}y"),
    (r"([aeo]l)ves$", "${1}f"),
    (r"([^d]ea)ves$", "${1}f"),
    (r"arves$", "arf"),
    (r"erves$", "erve"),
    (r"([nlw]i)ves$", "${1}fe"),
    (r"(?i)([lr])ves$", "${1}f"),
    (r"([aeo])ves$", "${1}ve"),
    (r"(?i)(sive)s$", "${1}"),
    (r"(?i)(tive)s$", "${1}"),
    (r"(?i)(hive)s$", "${1}"),
    (r"(?i)([^f])ves$", "${1}fe"),
    (r"(?i)(^analy)ses$", "${1}sis"),
    (r"(?i)((a)naly|(b)a|(d)iagno|(p)arenthe|(p)rogno|(s)ynop|(t)he)ses$", "${1}${2}sis"),
    (r"(?i)(.)opses$", "${1}opsis"),
    (r"(?i)(.)yses$", "${1}ysis"),
    (r"(?i)(h|d|r|o|n|b|cl|p)oses$", "${1}ose"),
    (r"(?i)(fruct|gluc|galact|lact|ket|malt|rib|sacchar|cellul)ose$", "${1}ose"),
    (r"(?i)(.)oses$", "${1}osis"),
    (r"(?i)([ti])a$", "${1}um"),
    (r"(?i)(n)ews$", "${1}ews"),
    (r"(?i)s$", ""),
];

/// These words, and every word that is the end of one of them, stay unchanged.
#[rustfmt::skip]
const UNINFLECTED: [&str; 73] = [
    "advice", "bison", "bread", "bream", "breeches", "britches", "butter", "carp", "chassis", "cheese",
    "christmas", "clippers", "cod", "contretemps", "corps", "debris", "diabetes", "djinn", "eland",
    "electricity", "elk", "equipment", "flounder", "fruit", "furniture", "gallows", "garbage", "georgia",
    "graffiti", "gravel", "happiness", "headquarters", "herpes", "high-jinks", "homework", "information",
    "innings", "jackanapes", "ketchup", "knowledge", "love", "luggage", "mackerel", "mathematics",
    "mayonnaise", "measles", "meat", "mews", "mumps", "mustard", "news", "pincers", "pliers", "proceedings",
    "progress", "rabies", "research", "rice", "salmon", "sand", "scissors", "series", "shears", "software",
    "species", "swine", "swiss", "trout", "tuna", "understanding", "water", "whiting", "wildebeest",
];

/// A word that ends in one of these and an s stays unchanged. `^pie` and `^tie`, meant as patterns,
/// match nothing.
#[rustfmt::skip]
const IE: [&str; 44] = [
    "^pie", "^tie", "alergie", "auntie", "beanie", "birdie", "bogie", "bombie", "collie", "cookie", "cutie",
    "doggie", "eyrie", "freebie", "goonie", "groupie", "hankie", "hippie", "hoagie", "hottie", "indie",
    "junkie", "laddie", "laramie", "lingerie", "meanie", "newbie", "nightie", "oldie", "pixie", "quickie",
    "reverie", "rookie", "softie", "sortie", "stoolie", "sweetie", "techie", "toughie", "valkyrie", "veggie",
    "weenie", "yuppie", "zombie",
];

/// Word endings with their replacements.
#[rustfmt::skip]
const IRREGULAR: [(&str, &str); 41] = [
    ("atlantes", "atlas"), ("atlases", "atlas"), ("axes", "axe"), ("beeves", "beef"), ("brethren", "brother"),
    ("children", "child"), ("corpora", "corpus"), ("corpuses", "corpus"), ("ephemerides", "ephemeris"),
    ("feet", "foot"), ("ganglia", "ganglion"), ("geese", "goose"), ("genera", "genus"), ("genii", "genie"),
    ("graffiti", "graffito"), ("helves", "helve"), ("kine", "cow"), ("leaves", "leaf"), ("loaves", "loaf"),
    ("men", "man"), ("mongooses", "mongoose"), ("monies", "money"), ("moves", "move"), ("mythoi", "mythos"),
    ("numena", "numen"), ("occipita", "occiput"), ("octopodes", "octopus"), ("opera", "opus"),
    ("opuses", "opus"), ("our", "my"), ("oxen", "ox"), ("penes", "penis"), ("penises", "penis"),
    ("people", "person"), ("sexes", "sex"), ("soliloquies", "soliloquy"), ("teeth", "tooth"),
    ("testes", "testis"), ("trilbys", "trilby"), ("turves", "turf"), ("zoa", "zoon"),
];

/// If one of these follows a hyphen, the word before the hyphen is inflected.
#[rustfmt::skip]
const PREPOSITIONS: [&str; 40] = [
    "about", "above", "across", "after", "among", "around", "at", "athwart", "before", "behind", "below",
    "beneath", "beside", "besides", "between", "betwixt", "beyond", "but", "by", "during", "except", "for",
    "from", "in", "into", "near", "of", "off", "on", "onto", "out", "over", "since", "till", "to", "under",
    "until", "unto", "upon", "with",
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| RULES.iter().map(|(found, replacement)| (pattern(found), *replacement)).collect());

/// The singular of a lower-case token.
pub(super) fn singular(word: &str) -> String {
    if let Some((first, rest)) = word.split_once('-')
        && PREPOSITIONS.contains(&rest.split('-').next().unwrap_or(rest))
    {
        return format!("{}-{rest}", singular(first));
    }
    if let Some(stem) = word.strip_suffix('\'') {
        return format!("{}'s", singular(stem));
    }
    if UNINFLECTED.iter().any(|known| known.ends_with(word)) {
        return word.to_owned();
    }
    if word.strip_suffix('s').is_some_and(|stem| IE.iter().any(|known| stem.ends_with(known))) {
        return word.to_owned();
    }
    let irregular = IRREGULAR.iter().find_map(|(many, one)| Some(word.strip_suffix(many)?.to_owned() + one));
    if let Some(one) = irregular {
        return one;
    }
    let fits = COMPILED.iter().find(|(rule, _)| rule.is_match(word).unwrap_or(false));
    fits.map_or_else(|| word.to_owned(), |(rule, one)| rule.replace(word, *one).into_owned())
}
