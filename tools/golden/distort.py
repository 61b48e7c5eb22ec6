"""Pillow's results of distorting photographs, for crates/bpo-distort/tests/pillow.rs.

    python tools/golden/distort.py examples/data/photos crates/bpo-distort/tests/data/pillow.json

For each image and distortion that Pillow also has: the SHA-256 of the pixels, row by row. The images are photographs and
tall crops of them, whose columns Pillow 13 resizes first. The other image of a mix or a swap is the next one of the kind.

Needs pillow (tools/requirements.txt).
"""

import argparse
import hashlib
import io
import json
from pathlib import Path

from PIL import Image, ImageEnhance

# photograph, and left, top, width and height of the crop
IMAGES = {
    "cat": ("cat.jpg", None),
    "coffee": ("coffee.jpg", None),
    "rocket": ("rocket.jpg", None),
    "tower": ("coffee.jpg", (200, 0, 100, 400)),
    "strip": ("rocket.jpg", (270, 0, 90, 420)),
}
OTHERS = {"cat": "coffee", "coffee": "rocket", "rocket": "cat", "tower": "strip", "strip": "cat"}


def jpeg(quality):
    def store(image, _):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return store


def enhance(kind, factor):
    return lambda image, _: kind(image).enhance(factor)


def pixelate(scale):
    def run(image, _):
        small = (int(image.width * scale), int(image.height * scale))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return run


def grayscale(amount):
    return lambda image, _: Image.blend(image, image.convert("L").convert("RGB"), amount)


def swap(image, other):
    return other.resize(image.size, Image.Resampling.BILINEAR)


def mix(share):
    return lambda image, other: Image.blend(image, swap(image, other), share)


CASES = {
    **{f"jpeg:quality={q}": jpeg(q) for q in (1, 7, 10, 15, 18, 25, 50, 75, 95, 100)},
    **{f"brightness:factor={f}": enhance(ImageEnhance.Brightness, f) for f in (0, 0.1, 0.35, 0.7, 1.3, 4)},
    **{f"contrast:factor={f}": enhance(ImageEnhance.Contrast, f) for f in (0, 0.05, 0.4, 1.3, 4)},
    **{f"saturation:factor={f}": enhance(ImageEnhance.Color, f) for f in (0, 0.15, 0.7, 1.3, 4)},
    **{f"pixelate:scale={s}": pixelate(s) for s in (0.05, 0.25, 0.3, 0.4, 0.5, 0.6, 0.9)},
    **{f"grayscale:amount={a}": grayscale(a) for a in (0.2, 0.6, 1)},
    **{f"mix:share={s}": mix(s) for s in (0.2, 0.5, 0.8)},
    "swap": swap,
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("photos", type=Path)
    ap.add_argument("out", type=Path)
    args = ap.parse_args()
    images = {}
    for name, (photo, piece) in IMAGES.items():
        images[name] = Image.open(args.photos / photo).convert("RGB")
        if piece:
            left, top, width, height = piece
            images[name] = images[name].crop((left, top, left + width, top + height))
    found = {}
    for name, (photo, piece) in IMAGES.items():
        digests = {}
        for text, run in CASES.items():
            levels = run(images[name], images[OTHERS[name]]).convert("RGB").tobytes()
            digests[text] = hashlib.sha256(levels).hexdigest()
        found[name] = {"photo": photo, "piece": piece, "other": OTHERS[name], "digests": digests}
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
