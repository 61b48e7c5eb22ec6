"""JPEG files of many kinds and Pillow's decoded pixels, for crates/bpo-distort/tests/jpeg.rs.

    python tools/golden/jpeg.py examples/data/photos crates/bpo-distort/tests/data/jpeg

Crops each photograph, saves each crop with other settings, and writes levels.json: width, height and the SHA-256 of the
pixels, row by row, after EXIF orientation and convert("RGB"). It also has the photographs themselves.

Needs pillow (tools/requirements.txt).
"""

import argparse
import hashlib
import json
from pathlib import Path

from PIL import Image, ImageOps

# name: mode, size, options of Pillow's encoder
KINDS = {
    "420": ("RGB", (61, 47), dict(quality=75, subsampling=2)),
    "420-progressive": ("RGB", (50, 33), dict(quality=60, subsampling=2, progressive=True)),
    "422": ("RGB", (47, 40), dict(quality=85, subsampling=1)),
    "444-coarse": ("RGB", (33, 17), dict(quality=8, subsampling=0)),
    "restarts": ("RGB", (64, 48), dict(quality=75, subsampling=2, restart_marker_blocks=2)),
    "rgb": ("RGB", (29, 31), dict(quality=90, keep_rgb=True, subsampling=0)),
    "grey": ("L", (37, 23), dict(quality=80)),
    "cmyk": ("CMYK", (40, 24), dict(quality=80)),
    "one-pixel": ("RGB", (1, 1), dict(quality=75, subsampling=2)),
    "turned": ("RGB", (48, 20), dict(quality=75, orientation=6)),
}


def levels(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return {"width": image.width, "height": image.height, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("photos", type=Path)
    ap.add_argument("out", type=Path)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    photos = sorted(args.photos.glob("*.jpg"))
    for i, (name, (mode, (width, height), options)) in enumerate(KINDS.items()):
        image = Image.open(photos[i % len(photos)]).convert("RGB")
        image = image.crop((100, 90, 100 + 3 * width, 90 + 3 * height)).resize((width, height)).convert(mode)
        if orientation := options.pop("orientation", None):
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = orientation
        image.save(args.out / f"{name}.jpg", **options)
    found = {path.name: levels(path) for path in photos + sorted(args.out.glob("*.jpg"))}
    (args.out / "levels.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
