"""Pixel values of frames of videos: python frames.py [CASE ...]

The cases are those of family.py, which must exist. Writes frames.safetensors in each case whose family prepares frames in
another way than photographs: every SAMPLE-th value of each photograph as a frame, and `edge`, the size that frames are
resized to first (no value where the family has none).

The frames of SmolVLM are those of the image processor without splitting, which SmolVLMVideoProcessor repeats with
torchvision. Those of LLaVA-NeXT are those of CLIP's image processor: LlavaNextVideoVideoProcessor does the same with
torchvision, which crops images with an odd margin one pixel further. Those of InternVL are those of its image processor
without splitting, which InternVLVideoProcessor repeats with torchvision.
"""

import sys

import torch
from family import FAMILIES, PHOTOS, SAMPLE
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

EDGE = 70


def of_smolvlm(dir):
    images = AutoImageProcessor.from_pretrained(dir, backend="pil")
    size = {"longest_edge": EDGE}
    return lambda image: images(image, do_image_splitting=False, size=size, return_tensors="pt")["pixel_values"], [EDGE]


def own_settings(dir):
    images = AutoImageProcessor.from_pretrained(dir, backend="pil")
    own = {key: getattr(images, key) for key in ("image_mean", "image_std", "resample", "size", "crop_size")}
    return {key: value for key, value in own.items() if value is not None}


def of_onevision(dir):
    videos = LlavaOnevisionVideoProcessor(**own_settings(dir))
    return lambda image: videos(videos=[[image]], return_tensors="pt")["pixel_values_videos"], []


def of_next(dir):
    images = CLIPImageProcessorPil(**own_settings(dir))
    return lambda image: images(image, return_tensors="pt")["pixel_values"], []


def of_internvl(dir):
    images = AutoImageProcessor.from_pretrained(dir, backend="pil")
    return lambda image: images(image, crop_to_patches=False, return_tensors="pt")["pixel_values"], []


MAKERS = {
    "idefics3": of_smolvlm, "internvl": of_internvl, "llava_next": of_next, "llava_onevision": of_onevision,
    "smolvlm": of_smolvlm,
}


def write(dir):
    maker = MAKERS.get(AutoConfig.from_pretrained(dir / "published").model_type)
    if maker is None:
        return
    prepare, edge = maker(dir / "published")
    tensors = {"edge": torch.tensor(edge, dtype=torch.float32)}
    for name in PHOTOS:
        image = Image.open(FAMILIES / "photos" / f"{name}.png").convert("RGB")
        tensors[name] = prepare(image).flatten()[::SAMPLE].float().clone()
    save_file(tensors, dir / "frames.safetensors")
    print(dir.name, {name: list(value.shape) for name, value in tensors.items()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dir in sorted(path.parent for path in FAMILIES.glob("*/golden.json")):
        if not sys.argv[1:] or dir.name in sys.argv[1:]:
            write(dir)
