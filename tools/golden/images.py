"""How Pillow and transformers read images of many kinds and sizes, for crates/bpo-model/tests/processor.rs and
crates/bpo-distort/tests/resize.rs.

    python tools/golden/images.py crates/bpo-model/tests/data/images

Writes the missing files, and images.json with the results for

- `formula`: images that the test computes itself, under several configurations of the processor: pixels before rescaling
  and normalization;
- `files`: those in the folder, the JPEG files of bpo-distort's tests and the photographs, under LLaVA-1.5's configuration:
  normalized values. They are loaded like transformers' `load_image`, for comparison also like LLaVA and BPO (`llava`), and
  16-bit grey by its upper byte (`upper`).

Each result has the shape, the SHA-256 of the values (uint8, float32), and some evenly spaced values.

Needs torch, torchvision, transformers and pillow (tools/requirements.txt).
"""

import argparse
import hashlib
import json
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, LlavaImageProcessorPil
from transformers.image_utils import load_image

from common import quiet

ROOT = Path(__file__).resolve().parents[2]

# of the formula: smaller, larger, thin, exact, odd, and so tall that Pillow 13 resizes the columns first
SIZES = [
    (1, 1), (1, 50), (50, 1), (3, 200), (200, 3), (24, 24), (25, 24), (31, 17), (103, 69), (69, 104), (320, 241), (40, 103),
    (30, 200), (200, 30),
]
# more of them, each also as a file of one of the kinds of SPREAD: one wide, one high, primes, extreme proportions, near the sizes
# of the configurations and twice these
SPREAD_SIZES = [
    (1, 2), (2, 1), (1, 97), (127, 1), (1, 311), (263, 1), (2, 2), (2, 211), (3, 5), (7, 4), (11, 181), (173, 13), (5, 23),
    (23, 23), (24, 23), (26, 29), (47, 48), (49, 47), (61, 59), (97, 101), (149, 113), (131, 251), (337, 89), (211, 419),
    (640, 37),
]
SQUARE = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
KINDS = {
    "bicubic": SQUARE,
    "bilinear": SQUARE | {"resample": 2},
    "lanczos": SQUARE | {"resample": 1},
    "nearest": SQUARE | {"resample": 0},
    "box": SQUARE | {"resample": 4},
    "hamming": SQUARE | {"resample": 5},
    "odd": {"size": 23, "crop_size": 23},
    "small": {"size": 17, "crop_size": {"height": 24, "width": 21}},
    "stretched": {"size": {"height": 29, "width": 26}, "crop_size": {"height": 24, "width": 21}},
    "unresized": {"do_resize": False, "crop_size": {"height": 20, "width": 25}},
    "padded": SQUARE | {"image_processor_type": "LlavaImageProcessor", "do_pad": True},
}
LLAVA = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}


def formula(width, height):
    """Every byte is ((x x + 3 y) (c + 1) + 7 x y) mod 256, with a dark band where (x / 8 + y / 8) is odd."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    value = ((x * x + 3 * y) * (c + 1) + 7 * x * y) % 256
    return np.where((x // 8 + y // 8) % 2 == 1, value // 4, value).astype(np.uint8)


def smooth(width, height):
    """Gradients and waves of three colours."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return (128 + 60 * np.sin((x + 3 * c) / 5) + 60 * np.sin((y * (c + 1)) / 9)).astype(np.uint8)


def blocks(width, height, side=16):
    """Flat blocks, which PNG packs well."""
    colours = np.random.default_rng(5).integers(0, 256, (height // side + 1, width // side + 1, 3), np.uint8)
    return colours.repeat(side, 0).repeat(side, 1)[:height, :width]


def alpha(width, height):
    """Clear, half clear and opaque parts."""
    y, x = np.mgrid[0:height, 0:width]
    return np.where(y < height // 3, 0, np.where(x < width // 2, 100, 255)).astype(np.uint8)


def wide_png(path, samples, colour_type):
    """A PNG of 16 bits a sample, which Pillow does not write for colours."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def save_16(path, image):
    wide_png(path, np.asarray(image).astype(np.uint16) * 257 ^ 90, 2)


def save_rgba(path, image):
    image.putalpha(Image.fromarray(alpha(*image.size)))
    image.save(path)


SPREAD = [
    ("grey.png", lambda path, image: image.convert("L").save(path)),
    ("rgba.png", save_rgba),
    ("rgb-16.png", save_16),
    ("turned-{turn}.jpg", lambda path, image: image.save(path, quality=90, exif=turned(int(path.stem.rsplit("-", 1)[1])))),
    ("cmyk.jpg", lambda path, image: image.convert("CMYK").save(path, quality=90)),
]


def make_spread():
    """Yields names and what writes them: each size as one kind of file, and each kind in sizes of every form."""
    for index, size in enumerate(SPREAD_SIZES):
        kind, write = SPREAD[(index + index // len(SPREAD)) % len(SPREAD)]
        # a turn by 90 degrees or 270, mirrored or not
        name = kind.format(turn=5 + index // len(SPREAD) % 4)
        image = Image.fromarray(smooth(*size) if size[0] * size[1] < 1000 else blocks(*size))
        yield f"{size[0]}x{size[1]}-{name}", lambda path, write=write, image=image: write(path, image)


def make():
    """Yields names and what writes them."""
    w, h = 45, 34
    photo = Image.open(ROOT / "examples/data/photos/cat.jpg").convert("RGB")
    rgb = photo.crop((130, 60, 130 + 4 * w, 60 + 4 * h)).resize((w, h))
    clear = Image.fromarray(alpha(w, h))
    grey = rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(clear)
    la = grey.copy()
    la.putalpha(clear)
    palette = rgb.quantize(40, dither=Image.Dither.NONE)
    wide = np.asarray(rgb).astype(np.uint16) * 257 ^ np.arange(w, dtype=np.uint16)[None, :, None] * 5
    wide_alpha = (alpha(w, h).astype(np.uint16) * 257)[..., None]
    saves = {
        "rgb.png": (rgb, {}),
        "one-wide.png": (Image.fromarray(smooth(1, 50)), {}),
        "one-high.png": (Image.fromarray(smooth(50, 1)), {}),
        "one.png": (Image.fromarray(smooth(1, 1)), {}),
        "exact.png": (Image.fromarray(blocks(336, 336)), {}),
        "one-more.png": (Image.fromarray(blocks(337, 336)), {}),
        "odd.png": (Image.fromarray(blocks(501, 397)), {}),
        "tall.png": (Image.fromarray(blocks(400, 1300)), {}),
        "wide.png": (Image.fromarray(blocks(1300, 400)), {}),
        "thin.png": (Image.fromarray(smooth(3, 300)), {}),
        "flat.png": (Image.fromarray(smooth(300, 3)), {}),
        "grey.png": (grey, {}),
        "grey-1.png": (grey.convert("1"), {}),
        "la.png": (la, {}),
        "rgba.png": (rgba, {}),
        "palette.png": (palette, {}),
        "palette-4.png": (rgb.quantize(13, dither=Image.Dither.NONE), {"bits": 4}),
        "palette-clear.png": (palette, {"transparency": bytes([0, 90] * 20)}),
        "key.png": (rgb, {"transparency": rgb.getpixel((w // 2, h // 2))}),
        "grey-key.png": (grey, {"transparency": grey.getpixel((w // 2, h // 2))}),
        "turned.png": (rgb, {"exif": turned(8)}),
        "grey-16.png": (Image.fromarray(np.ascontiguousarray(wide[..., 0])), {}),
        "grey-16.tiff": (Image.fromarray(np.ascontiguousarray(wide[..., 0])), {}),
        "frames.gif": (palette, {"save_all": True, "append_images": [palette.rotate(180)], "duration": 50}),
        "clear.gif": (palette, {"transparency": 3}),
        "grey.gif": (grey, {}),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (palette, {}),
        "grey.bmp": (grey, {}),
        "rgba.bmp": (rgba, {}),
        "rgb.tiff": (rgb, {"compression": "tiff_lzw"}),
        "rgba.tiff": (rgba, {"compression": "tiff_adobe_deflate"}),
        "grey.tiff": (grey, {}),
        "palette.tiff": (palette, {}),
        "cmyk.tiff": (rgb.convert("CMYK"), {}),
        "turned.tiff": (rgb, {"exif": turned(3)}),
        "lossless.webp": (rgb, {"lossless": True}),
        "lossy.webp": (rgb, {"quality": 80}),
        "rgba.webp": (rgba, {"lossless": True, "exact": True}),
        "turned.webp": (rgb, {"lossless": True, "exif": turned(6)}),
    }
    for name, (image, options) in saves.items():
        yield name, lambda path, image=image, options=options: image.save(path, **options)
    for name, colour_type, samples in [
        ("rgb-16.png", 2, wide),
        ("rgba-16.png", 6, np.concatenate([wide, wide_alpha], 2)),
        ("la-16.png", 4, np.concatenate([wide[..., :1], wide_alpha], 2)),
    ]:
        yield name, lambda path, samples=samples, kind=colour_type: wide_png(path, samples, kind)


def processor(config, cls=None):
    full = {"image_processor_type": "CLIPImageProcessor"} | config
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "preprocessor_config.json").write_text(json.dumps(full))
        if full["image_processor_type"] == "LlavaImageProcessor":
            return full, LlavaImageProcessorPil.from_pretrained(folder)
        return full, AutoImageProcessor.from_pretrained(folder, backend="pil")


def values(run, image):
    return run(image, return_tensors="np")["pixel_values"][0]


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def record(values):
    flat = values.reshape(-1)
    samples = flat[:: max(1, len(flat) // 16)][:16]
    assert values.dtype in (np.uint8, np.float32)
    return {"shape": list(values.shape), "sha256": digest(values), "samples": [value.item() for value in samples]}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", type=Path)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    quiet()
    warnings.simplefilter("ignore")

    configs, formulas = {}, {}
    for kind, config in KINDS.items():
        configs[kind], run = processor({"do_rescale": False, "do_normalize": False} | config)
        for width, height in SIZES + SPREAD_SIZES:
            pixels = values(run, Image.fromarray(formula(width, height)))
            assert pixels.min() >= 0 and pixels.max() <= 255 and (pixels == np.round(pixels)).all()
            formulas[f"{kind}.{width}x{height}"] = record(pixels.astype(np.uint8))

    for name, write in [*make(), *make_spread()]:
        if not (args.out / name).exists():
            write(args.out / name)
    configs["llava"], run = processor(LLAVA)
    paths = [path for path in args.out.iterdir() if path.suffix != ".json"]
    paths += (ROOT / "crates/bpo-distort/tests/data/jpeg").glob("*.jpg")
    paths += (ROOT / "examples/data/photos").glob("*.jpg")
    files = {}
    for path in sorted(path.resolve() for path in paths):
        image = Image.open(path)
        found = record(values(run, load_image(str(path))))
        # Without what Pillow remembers of transparency: the transformers of their time does not look at it.
        found["llava"] = digest(values(run, Image.fromarray(np.asarray(image.convert("RGB")))))
        if image.mode == "I;16":
            found["upper"] = digest(values(run, Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))))
        files[str(path.relative_to(ROOT))] = found
    report = {"configs": configs, "formula": formulas, "files": files}
    # one entry a line
    parts = (
        f' "{part}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(entry)}' for name, entry in entries.items()) + "\n }"
        for part, entries in report.items()
    )
    (args.out / "images.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
