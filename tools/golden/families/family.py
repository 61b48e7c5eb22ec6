"""Shared by the scripts that make a golden case of a model family for crates/bpo-model/tests/suite/families.rs.

A script builds a tiny model of random weights and calls `write_case`. A case is a directory:

  published/         the checkpoint in the layout of the published ones, weights in float32
  v5/                the files that transformers 5 saves in place of these, without weights
  v5_names.json      the name that each weight has in transformers 5, by its published name
  golden.json        prompts, answers, ids, log-probabilities in nats (float64), greedy ids and texts
  adapter/           an adapter that PEFT wrote, with drawn weights
  golden.safetensors every SAMPLE-th pixel value of each photograph, and all shapes
Photographs are in photos beside the cases. The directory is tests/families of bpo-model, or BPO_FAMILIES.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import jinja2
import peft
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import quiet, synthetic_image  # noqa: E402
from make_llava import corpus  # noqa: E402

import transformers  # noqa: E402
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor  # noqa: E402

FAMILIES = Path(os.environ.get("BPO_FAMILIES", Path(__file__).parents[3] / "crates/bpo-model/tests/families"))
SEED = int(os.environ.get("FAMILY_SEED", "0"))
SAMPLE = 41
NEW_TOKENS = 10
# width, height
PHOTOS = {"wide": (150, 67), "tall": (41, 118), "square": (64, 64), "small": (19, 23), "large": (211, 180)}
CASES = [
    {"images": ["wide"], "prompt": "What is the red dog near?"},
    {"images": ["tall"], "prompt": "Describe the street in detail.", "history": [["How many cats?", "There is one."]]},
    {"images": ["square"], "prompt": "Is there a bus?"},
    {"images": ["small"], "prompt": "What is the colour of the car?"},
    {"images": ["large"], "prompt": "Where is the clock?"},
    {"images": [], "prompt": "What is a dog?"},
    {"images": ["wide", "tall"], "prompt": "Which of the two shows a dog?"},
    {"images": ["small", "large", "small"], "prompt": "What is the same?", "history": [["And now?", "Two cats."]]},
]
ANSWERS = ["The image shows a red dog near the table.", "There is one bus, and 27 people are in the street."]
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# the linears of the language model, by their names in transformers 5
TARGETS = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")


def byte_level(pieces, added, regex=QWEN2, bos=None):
    """A byte-level BPE tokenizer, as Qwen2's and Llama 3's, with `added` special tokens behind its pieces."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, show_progress=False, special_tokens=[], initial_alphabet=alphabet
    )
    tok.train_from_iterator(corpus(0), trainer)
    tok.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in added])
    if bos:
        begin = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tok.token_to_id(bos))])
        tok.post_processor = Sequence([ByteLevel(trim_offsets=False), begin])
    return tok


def added_tokens(tok):
    """The `added_tokens_decoder` of tokenizer_config.json."""
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    added = sorted(tok.get_added_tokens_decoder().items())
    return {str(i): {field: getattr(token, field) for field in fields} for i, token in added}


def is_tied(config):
    return config.tie_word_embeddings or getattr(config.get_text_config(), "tie_word_embeddings", False)


@torch.no_grad()
def draw(model):
    """Draws every parameter, biases and norms too, so that a loader that misses one is caught."""
    rng = torch.Generator().manual_seed(SEED)
    tied = is_tied(model.config)
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=rng)
        if parameter.ndim <= 1:
            is_scale = "norm" in name and name.endswith("weight")
            value = value * 0.1 + 1.0 if is_scale else value * 0.1
        elif "embed" in name and "patch" not in name:
            value = value * (0.1 if tied or "position" in name else 1.0)
        else:
            value = value / parameter[0].numel() ** 0.5
        if name.split(".")[-2] in ("o_proj", "down_proj"):
            value = value * 0.5
        parameter.copy_(value)
    return model.eval()


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_case(
    name, model, config, files, tokenizer, rename, several=True, cases=None, adapter=None, pixels=None
):
    """Writes the case `name`.

    `config` is config.json; `files` are the other files of the checkpoint (JSON, or text); `rename` turns the name of a
    weight in transformers 5 into the published one; `adapter` has other settings of PEFT's LoraConfig; `pixels` takes
    the processor's output for one image and returns its pixel values as they are stored here, tile after tile."""
    write_photos()
    out = FAMILIES / name
    shutil.rmtree(out, ignore_errors=True)
    published = out / "published"
    published.mkdir(parents=True)
    tensors = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    if is_tied(model.config):
        tensors.pop("lm_head.weight", None)
    names = {rename(key): key for key in tensors}
    save_file({rename(key): value for key, value in tensors.items()}, published / "model.safetensors", {"format": "pt"})
    write_json(published / "config.json", config)
    (published / "tokenizer.json").write_text(tokenizer.to_str())
    for file, content in files.items():
        path = published / file
        path.write_text(content) if isinstance(content, str) else write_json(path, content)
    write_v5(published, out / "v5", names)
    write_json(out / "v5_names.json", names)
    cases = [dict(case) for case in cases or CASES if several or len(case["images"]) < 2]
    write_golden(published, out, cases, adapter or {}, pixels)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{name}: {size / 1024:.0f} KiB")


def write_v5(published, out, names):
    """Writes the files of `published` as transformers 5 saves them, without weights."""
    out.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        model = AutoModelForImageTextToText.from_pretrained(published, dtype=torch.float32)
        model.save_pretrained(temporary)
        AutoProcessor.from_pretrained(published).save_pretrained(temporary)
        # names of saved files are not always those of the modules
        saved = load_file(Path(temporary, "model.safetensors"))
        held = load_file(published / "model.safetensors")
        for key in held:
            same = [other for other, value in saved.items() if value.shape == held[key].shape and value.equal(held[key])]
            if names[key] not in same:
                assert same, f"transformers 5 does not save {key}"
                names[key] = same[0]
        same_tokenizer = json.loads(Path(temporary, "tokenizer.json").read_text()) == json.loads(
            (published / "tokenizer.json").read_text()
        )
        for file in sorted(Path(temporary).iterdir()):
            if file.suffix != ".safetensors" and not (file.name == "tokenizer.json" and same_tokenizer):
                shutil.copy(file, out)


class Reference:
    """transformers' processor with the Pillow backend, and its model."""

    def __init__(self, dir):
        self.processor = AutoProcessor.from_pretrained(dir)
        self.processor.image_processor = AutoImageProcessor.from_pretrained(dir, backend="pil")
        self.model = AutoModelForImageTextToText.from_pretrained(dir, dtype=torch.float32).eval()
        self.images = {name: Image.open(FAMILIES / "photos" / f"{name}.png").convert("RGB") for name in PHOTOS}
        self.strings = False

    def message(self, role, text, images=0):
        if self.strings:
            return {"role": role, "content": "<image>\n" * images + text}
        return {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}

    def render(self, case, answer=None):
        messages, images = [], len(case["images"])
        for question, said in case.get("history", []):
            messages += [self.message("user", question, images), self.message("assistant", said)]
            images = 0
        messages.append(self.message("user", case["prompt"], images))
        if answer is not None:
            messages.append(self.message("assistant", answer))
        holder = self.processor if self.processor.chat_template else self.processor.tokenizer
        return holder.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)

    def texts(self, case):
        """The prompt, and the prompt with each answer."""
        try:
            prompt = self.render(case)
            self.strings |= "{'type'" in prompt or case["prompt"] not in prompt
        except jinja2.TemplateError:
            self.strings = True
        # templates that take strings get an <image> for each image
        prompt = self.render(case)
        end, texts = self.processor.tokenizer.eos_token, []
        for answer in ANSWERS:
            text = self.render(case, answer)
            if not text.startswith(prompt):
                text = prompt + text[text.rindex(answer) - 1 :]
            texts.append(text.rstrip().removesuffix(end).rstrip() + end)
        return prompt, texts

    def inputs(self, text, case):
        images = [self.images[name] for name in case["images"]]
        inputs = self.processor(images=[images] if images else None, text=[text], return_tensors="pt")
        bos = self.processor.tokenizer.bos_token_id
        if bos is not None and inputs["input_ids"][0, :2].tolist() == [bos, bos]:
            for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
                if key in inputs:
                    inputs[key] = inputs[key][:, 1:]
        return inputs

    def double(self, inputs):
        return {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}


def summed_logp(model, inputs, start):
    """The log-probability of the ids from `start` on, in nats."""
    logits = model(**inputs, use_cache=False).logits[0, start - 1 : -1].double()
    return torch.log_softmax(logits, -1).gather(-1, inputs["input_ids"][0, start:, None]).sum().item()


def with_adapter(dir, out, settings):
    """Writes an adapter, and returns the model with it."""
    config = peft.LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": TARGETS, **settings})
    model = AutoModelForImageTextToText.from_pretrained(dir, dtype=torch.float32)
    torch.manual_seed(SEED)
    model = peft.get_peft_model(model, config).eval()
    rng = torch.Generator().manual_seed(SEED + 1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    saved = json.loads((out / "adapter_config.json").read_text())
    write_json(out / "adapter_config.json", {**saved, "base_model_name_or_path": "base"})
    return model


@torch.no_grad()
def write_golden(dir, out, cases, adapter, of_pixels):
    reference = Reference(dir)
    for case in cases:
        prompt, texts = reference.texts(case)
        inputs = reference.inputs(prompt, case)
        ids = inputs["input_ids"][0].tolist()
        generated = reference.model.generate(
            **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, output_logits=True
        )
        top = torch.stack([step[0].topk(2).values for step in generated.logits])
        margin = (top[:, 0] - top[:, 1]).min().item()
        assert margin > 1e-3, f"draw another seed: the best two tokens differ by {margin}"
        case["prompt_ids"] = ids
        case["greedy_ids"] = generated.sequences[0, len(ids) :].tolist()
        case["greedy_text"] = reference.processor.tokenizer.decode(case["greedy_ids"], skip_special_tokens=True)
        case["answers"] = [{"text": answer, "rendered": text} for answer, text in zip(ANSWERS, texts)]
    # sums in float64, so that only the tested code rounds
    reference.model.double()
    for case in cases:
        start = len(case["prompt_ids"])
        for answer in case["answers"]:
            inputs = reference.inputs(answer.pop("rendered"), case)
            answer["ids"] = inputs["input_ids"][0].tolist()
            answer["inputs"] = reference.double(inputs)
            assert answer["ids"][:start] == case["prompt_ids"], "the answer continues the prompt's tokens"
            answer["logp"] = summed_logp(reference.model, answer["inputs"], start)
    adapted = with_adapter(dir, out / "adapter", adapter).double()
    for case in cases:
        for answer in case["answers"]:
            answer["adapted_logp"] = summed_logp(adapted, answer.pop("inputs"), len(case["prompt_ids"]))
    tensors = {}
    for name in PHOTOS:
        inputs = reference.inputs(reference.texts({"images": [name], "prompt": "?"})[0], {"images": [name]})
        pixels = of_pixels(inputs) if of_pixels else inputs["pixel_values"]
        tensors[f"{name}.shape"] = torch.tensor(pixels.shape)
        tensors[f"{name}.pixels"] = pixels.flatten()[::SAMPLE].clone()
    save_file(tensors, out / "golden.safetensors")
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    head = json.dumps({"seed": SEED, "sample": SAMPLE, "versions": versions})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (out / "golden.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')


def write_photos():
    """Writes the photographs that are missing."""
    (FAMILIES / "photos").mkdir(parents=True, exist_ok=True)
    for seed, (name, (width, height)) in enumerate(PHOTOS.items()):
        path = FAMILIES / "photos" / f"{name}.png"
        if not path.exists():
            synthetic_image(width, height, seed).quantize(48).convert("RGB").save(path, optimize=True)


quiet()
