"""Golden cases of language models without images, for crates/bpo-model/tests/suite/language_models.rs:
python language_models.py [NAME ...]

  llama    ChatML with a system text of its own, as SmolLM2; the embedding is the head; rotary positions as Llama 3.1's
  mistral  [INST] with a system text that is refused, as Mistral-7B-Instruct-v0.2; BOS; a sliding window
  qwen2    ChatML with a system text of its own, as Qwen2.5; a head of its own
  qwen3    ChatML and reasoning, as Qwen3; norms of queries and keys; no `model_type` beside `architectures`

A case is a directory: the files of a checkpoint, and golden.json with prompts, answers, ids, log-probabilities in nats
(float64), greedy ids and texts. The directory is tests/language_models of bpo-model, or BPO_LANGUAGE_MODELS.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
import transformers
from family import ANSWERS, LLAMA3, NEW_TOKENS, QWEN2, SEED, added_tokens, byte_level, draw, summed_logp, write_json
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

OUT = Path(
    os.environ.get("BPO_LANGUAGE_MODELS", Path(__file__).parents[3] / "crates/bpo-model/tests/language_models")
)
CASES = [
    {"prompt": "What is the red dog near?"},
    {"prompt": "Describe the street in detail.", "history": [["How many cats?", "There is one."]]},
    {"prompt": "Is there a bus?", "system": "You change one detail of a text."},
    {"prompt": "Write <image> and </s> as they are."},
]
SIZES = {
    "hidden_act": "silu", "hidden_size": 24, "intermediate_size": 32, "max_position_embeddings": 4096,
    "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
}
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML_WITH_SYSTEM = (
    "{%% if messages[0]['role'] != 'system' %%}{{ '<|im_start|>system\n%s<|im_end|>\n' }}{%% endif %%}"
    "{%% for message in messages %%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<|im_start|>assistant\n' }}{%% endif %%}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate: user, assistant, user, ...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported.') }}{% endif %}{% endfor %}"
)
REASONING = (
    "{% if messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}{% elif message.role == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + message.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def chatml(bos, regex=QWEN2, more=()):
    tok = byte_level(320, CHATML + list(more), regex)
    settings = {
        "added_tokens_decoder": added_tokens(tok), "bos_token": bos, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return tok, settings


def case(name, architecture, sizes, tok, settings, generation, has_type=True):
    kind = name
    config = {**SIZES, **sizes, "architectures": [architecture], "vocab_size": tok.get_vocab_size() + 4}
    # drawn with the defaults of its class, then saved by hand, as published files leave keys out
    model = draw(AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind].from_dict({**config, "model_type": kind})))
    out = OUT / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tensors = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    write_json(out / "config.json", {**config, "model_type": kind})
    write_json(out / "tokenizer_config.json", settings)
    write_json(out / "generation_config.json", generation)
    (out / "tokenizer.json").write_text(tok.to_str())
    write_golden(out)
    if not has_type:
        write_json(out / "config.json", config)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{name}: {size / 1024:.0f} KiB")


def messages(case):
    system = [{"role": "system", "content": case["system"]}] if "system" in case else []
    turns = [
        {"role": role, "content": text}
        for turn in case.get("history", [])
        for role, text in zip(("user", "assistant"), turn)
    ]
    return [*system, *turns, {"role": "user", "content": case["prompt"]}]


@torch.no_grad()
def write_golden(out):
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    # no text of these cases may be a special token
    cases = [dict(case) for case in CASES if "</s>" not in case["prompt"] or tokenizer.eos_token != "</s>"]
    if "Only user" in tokenizer.chat_template:
        cases = [case for case in cases if "system" not in case]
    encode = lambda text: tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]  # noqa: E731
    for case in cases:
        prompt = tokenizer.apply_chat_template(messages(case), tokenize=False, add_generation_prompt=True)
        ids = encode(prompt)
        generated = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
            return_dict_in_generate=True, output_logits=True,
        )
        top = torch.stack([step[0].topk(2).values for step in generated.logits])
        margin = (top[:, 0] - top[:, 1]).min().item()
        assert margin > 1e-3, f"draw another seed: the best two tokens differ by {margin}"
        case["prompt_ids"] = ids[0].tolist()
        case["greedy_ids"] = generated.sequences[0, ids.shape[1] :].tolist()
        case["greedy_text"] = tokenizer.decode(case["greedy_ids"], skip_special_tokens=True)
    model.double()
    for case in cases:
        case["answers"] = []
        for answer in ANSWERS:
            conversation = [*messages(case), {"role": "assistant", "content": answer}]
            text = tokenizer.apply_chat_template(conversation, tokenize=False).rstrip("\n")
            ids, start = encode(text), len(case["prompt_ids"])
            assert ids[0, :start].tolist() == case["prompt_ids"], "the answer continues the prompt's tokens"
            logp = summed_logp(model, {"input_ids": ids}, start)
            case["answers"].append({"text": answer, "ids": ids[0].tolist(), "logp": logp})
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    head = json.dumps({"seed": SEED, "versions": versions})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (out / "golden.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')


def llama():
    tok, settings = chatml("<|im_start|>", LLAMA3)
    settings["chat_template"] = CHATML_WITH_SYSTEM % "You are a helpful assistant."
    end = tok.token_to_id("<|im_end|>")
    rope = {
        "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64,
        "rope_type": "llama3",
    }
    sizes = {
        "attention_bias": False, "bos_token_id": tok.token_to_id("<|im_start|>"), "eos_token_id": end,
        "rope_scaling": rope, "rope_theta": 100000.0, "tie_word_embeddings": True,
    }
    case("llama", "LlamaForCausalLM", sizes, tok, settings, {"eos_token_id": end})


def mistral():
    tok = byte_level(320, ["<unk>", "<s>", "</s>"], LLAMA3, bos="<s>")
    settings = {
        "added_tokens_decoder": added_tokens(tok), "bos_token": "<s>", "chat_template": INST, "eos_token": "</s>",
        "clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
    }
    begin, end = tok.token_to_id("<s>"), tok.token_to_id("</s>")
    sizes = {
        "bos_token_id": begin, "eos_token_id": end, "head_dim": 8, "rope_theta": 1000000.0, "sliding_window": 16,
        "tie_word_embeddings": False,
    }
    case("mistral", "MistralForCausalLM", sizes, tok, settings, {"bos_token_id": begin, "eos_token_id": end})


def qwen2():
    tok, settings = chatml(None)
    settings["chat_template"] = CHATML_WITH_SYSTEM % "You are Qwen, created by Alibaba Cloud."
    text, _, end = [tok.token_to_id(token) for token in CHATML]
    sizes = {
        "bos_token_id": text, "eos_token_id": end, "max_window_layers": 2, "rope_theta": 1000000.0,
        "sliding_window": 16, "tie_word_embeddings": False, "use_sliding_window": True,
    }
    case("qwen2", "Qwen2ForCausalLM", sizes, tok, settings, {"eos_token_id": [end, text], "repetition_penalty": 1.1})


def qwen3():
    tok, settings = chatml(None, more=["<think>", "</think>"])
    settings["chat_template"] = REASONING
    text, _, end = [tok.token_to_id(token) for token in CHATML]
    sizes = {
        "attention_bias": False, "bos_token_id": text, "eos_token_id": end, "head_dim": 8, "max_window_layers": 3,
        "rope_scaling": None, "rope_theta": 5000000, "sliding_window": None, "tie_word_embeddings": False,
        "use_sliding_window": False,
    }
    case("qwen3", "Qwen3ForCausalLM", sizes, tok, settings, {"eos_token_id": [end, text]}, has_type=False)


if __name__ == "__main__":
    for make in (llama, mistral, qwen2, qwen3):
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
