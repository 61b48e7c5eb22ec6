"""The Python side of benches/distort.rs: JPEG file to noisy pixel values with Pillow or torchvision.

The benchmark starts it and requests one pass over all images at a time, so that both sides see the same load of the machine:
a line `VARIANT THREADS` on standard input, the seconds of the pass on standard output.

    pillow       open, RGB, bicubic to the shortest edge, center crop; numpy normalizes and draws the noise (as LLaVA)
    torchvision  the unchanged CLIPImageProcessor of transformers 5; torch draws the noise
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def main():
    folder, size, kept, noise = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    torch.set_num_threads(1)  # what is measured is threads over images
    files = sorted(folder.glob("*.jpg"))
    processor = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )

    def pillow(path):
        image = Image.open(path).convert("RGB")
        width, height = image.size
        scale = size / min(width, height)
        image = image.resize((int(width * scale), int(height * scale)), Image.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        x = np.asarray(image.crop((left, top, left + size, top + size)), np.float32)
        x = ((x / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
        # one generator per image, because threads that share one wait for each other
        random = np.random.default_rng()
        return np.float32(kept) * x + np.float32(noise) * random.standard_normal(x.shape, np.float32)

    def torchvision(path):
        x = processor(Image.open(path), return_tensors="pt")["pixel_values"]
        return kept * x + noise * torch.randn(x.shape, generator=torch.Generator())

    variants = {"pillow": pillow, "torchvision": torchvision}
    pools = {threads: ThreadPoolExecutor(threads) for threads in (1, 2)}
    print("ready", flush=True)
    for line in sys.stdin:
        variant, threads = line.split()
        began = time.perf_counter()
        made = list(pools[int(threads)].map(variants[variant], files))
        assert all(x.shape[-2:] == (size, size) for x in made)
        print(time.perf_counter() - began, flush=True)


main()
