"""Shared by the peers: a model of given dimensions with random weights, its processor, and the protocol.

The benchmark passes the dimensions as a config.json. The words of the tokenizer are single tokens (`w300` is token 300), so
lengths are exact.
"""

import json
import sys
import time

import datasets
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers import PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"


def quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def model_of(config_file, device, dtype):
    config = LlavaConfig.from_dict(json.load(open(config_file)))
    with torch.device(device):
        model = LlavaForConditionalGeneration._from_config(config, dtype=dtype)
    return model.eval()


def processor_of(config):
    image, pad, vocab = config.image_token_index, config.text_config.pad_token_id, config.text_config.vocab_size
    special = {0: "<unk>", 1: BOS, 2: EOS, image: "<image>", pad: "<pad>"}
    words = {special.get(id, f"w{id}"): id for id in range(vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token=BOS, eos_token=EOS, pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"}, padding_side="left", model_max_length=4096,
    )
    side = config.vision_config.image_size
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer, patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )


def task():
    """Parses `CONFIG.json`, three numbers and `cpu|cuda:N f32|bf16`; returns the numbers, whether the device is CUDA, and the model."""
    quiet()
    config_file, device, dtype = sys.argv[1], sys.argv[5], sys.argv[6]
    model = model_of(config_file, device, torch.bfloat16 if dtype == "bf16" else torch.float32)
    return *map(int, sys.argv[2:5]), device.startswith("cuda"), model


def ids_of(config, words):
    """Token ids with the placeholder of the image expanded."""
    ids = processor_of(config).tokenizer(words, add_special_tokens=False)["input_ids"]
    image = config.image_token_index
    at = ids.index(image)
    return ids[:at] + [image] * config.image_seq_length + ids[at + 1 :]


def pixels_of(model, rows):
    side = model.config.vision_config.image_size
    pixels = torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pixels.to(model.device, model.dtype)


def prompt_of(text):
    """An image and `text` tokens, including <s>."""
    return " ".join([BOS, "<image>"] + [f"w{300 + place}" for place in range(1, text)])


def answer_of(number, tokens):
    return " ".join([f"w{400 + (37 * number + 11 * place) % 3000}" for place in range(1, tokens)] + [EOS])


def peak_mb(cuda):
    if cuda:
        return torch.cuda.max_memory_reserved() / 2**20
    # getrusage also counts the parent process before it started this one
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Asked:
    """The protocol of benches/src/contender.rs: answers each line with the seconds of the work that follows it."""

    def __init__(self, cuda):
        self.cuda = cuda

    def now(self):
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def ready(self):
        print("ready", flush=True)
        return self._next()

    def done(self):
        print(self.now() - self.began, flush=True)
        return self._next()

    def _next(self):
        """The next request, or None if the other side has closed the pipe."""
        for line in sys.stdin:
            if line.strip() == "peak":
                print(peak_mb(self.cuda), flush=True)
            else:
                self.began = self.now()
                return line.strip()
        return None
