"""What Pillow and transformers make of images of awkward sizes, for crates/bpo-model/tests/processor.rs.

    pip install pillow==13.0.0 transformers==5.23.0 torch==2.9.0 torchvision==0.24.0 safetensors==0.8.0
    python tools/image_golden.py crates/bpo-model/tests/data/images.safetensors

Writes a uint8 tensor [3, height, width] per image and configuration, before rescaling and normalization, named
`KIND.WIDTHxHEIGHT`. The configurations are in the file's metadata, by KIND. The images are a formula that the test
repeats, so only the results are stored.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoImageProcessor, LlavaImageProcessorPil

SIZES = [(1, 1), (1, 50), (50, 1), (3, 200), (200, 3), (24, 24), (25, 24), (31, 17), (103, 69), (69, 104), (320, 241)]
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
    "unresized": {"do_resize": False, "crop_size": {"height": 20, "width": 25}},
    "padded": SQUARE | {"image_processor_type": "LlavaImageProcessor", "do_pad": True},
}


def image(width, height):
    """Every byte is ((x x + 3 y) (c + 1) + 7 x y) mod 256, with a dark band where (x / 8 + y / 8) is odd."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    value = ((x * x + 3 * y) * (c + 1) + 7 * x * y) % 256
    return Image.fromarray(np.where((x // 8 + y // 8) % 2 == 1, value // 4, value).astype(np.uint8))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", type=Path)
    args = ap.parse_args()
    out = {}
    for kind, config in KINDS.items():
        cls = LlavaImageProcessorPil if kind == "padded" else AutoImageProcessor
        with tempfile.TemporaryDirectory() as dir:
            full = {"image_processor_type": "CLIPImageProcessor", "do_rescale": False, "do_normalize": False} | config
            Path(dir, "preprocessor_config.json").write_text(json.dumps(full))
            processor = cls.from_pretrained(dir) if kind == "padded" else cls.from_pretrained(dir, backend="pil")
        KINDS[kind] = full
        for width, height in SIZES:
            pixels = processor(image(width, height), return_tensors="np")["pixel_values"][0]
            assert pixels.min() >= 0 and pixels.max() <= 255 and (pixels == np.round(pixels)).all()
            out[f"{kind}.{width}x{height}"] = np.ascontiguousarray(pixels.astype(np.uint8))
    save_file(out, args.out, {kind: json.dumps(config) for kind, config in KINDS.items()})


if __name__ == "__main__":
    main()
