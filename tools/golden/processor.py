"""How transformers reads a checkpoint's processor files: which file takes precedence, which tokens are added, what a chat
template prints.

    python processor.py OUT.json

Each case has files that replace those of the tiny checkpoint in crates/bpo-model/tests/golden/tiny-llava, and the result of
transformers for them. Dates in templates are left out: bpo prints a fixed day.
"""

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import tokenizers
import transformers
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, LlavaProcessor

TINY = Path(__file__).parents[2] / "crates/bpo-model/tests/golden/tiny-llava"
CONFIG = {"tokenizer_class": "TokenizersBackend", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TEXTS = ["The dog  <x>  sat.", "a<x>b", " <image> cat </s> two", "The thing </s>s", "<y> and <image>", "<s> dog<z>dog"]


def token(content, **flags):
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, **plain, **flags}


# name: files
TOKENS = {
    "as it is": {"tokenizer_config.json": CONFIG},
    "lstrip": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"2": token("</s>", lstrip=True)}}},
    "rstrip": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"320": token("<image>", rstrip=True)}}},
    "single word": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"2": token("</s>", single_word=True)}}},
    "normalized": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"320": token("<image>", normalized=True)}}},
    "not special": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"320": token("<image>", special=False)}}},
    "new": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"322": token("<x>", lstrip=True, rstrip=True), "323": token("<y>", special=False, normalized=True)}}},
    "new, named": {"tokenizer_config.json": CONFIG | {"z_token": "<z>", "x_token": "<x>", "extra_special_tokens": ["<y>"]}},
    "new, by name": {"tokenizer_config.json": CONFIG | {"extra_special_tokens": {"z_token": "<z>", "x_token": "<x>"}}},
    "additional": {"tokenizer_config.json": CONFIG | {"additional_special_tokens": ["<y>", "<x>"]}},
    "map": {"tokenizer_config.json": CONFIG, "special_tokens_map.json": {"eos_token": "<x>", "pad_token": {"content": "<y>", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False}}},
    "map, unread": {"tokenizer_config.json": CONFIG | {"added_tokens_decoder": {"2": token("</s>")}}, "special_tokens_map.json": {"eos_token": "<x>"}},
    "added_tokens.json": {"tokenizer_config.json": CONFIG | {"pad_token": "<x>"}, "added_tokens.json": {"<x>": 322, "<y>": 323}},
    "a word of the vocabulary": {"tokenizer_config.json": CONFIG | {"x_token": "▁dog"}},
    "add_bos_token off": {"tokenizer_config.json": CONFIG | {"add_bos_token": False}},
    "add_bos_token on": {"tokenizer_config.json": CONFIG | {"add_bos_token": True}, "no_post_processor": True},
    "no add_bos_token": {"tokenizer_config.json": CONFIG, "no_post_processor": True},
}

ONE = "{{ 'one ' }}{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}"
TWO = ONE.replace("one", "two")
TEMPLATE_FILES = {
    "jinja": {"chat_template.jinja": ONE},
    "json before jinja": {"chat_template.json": {"chat_template": ONE}, "chat_template.jinja": TWO},
    "processor before json": {"processor_config.json": {"chat_template": ONE}, "chat_template.json": {"chat_template": TWO}},
    "processor before jinja": {"processor_config.json": {"chat_template": ONE}, "chat_template.jinja": TWO},
    "jinja before tokenizer": {"chat_template.jinja": ONE, "tokenizer_config.json": CONFIG | {"chat_template": TWO}},
    "json before tokenizer": {"chat_template.json": {"chat_template": ONE}, "tokenizer_config.json": CONFIG | {"chat_template": TWO}},
    "jinja before additional": {"chat_template.jinja": ONE, "additional_chat_templates/default.jinja": TWO},
    "additional before tokenizer": {"additional_chat_templates/default.jinja": ONE, "additional_chat_templates/rag.jinja": TWO, "tokenizer_config.json": CONFIG | {"chat_template": TWO}},
}

HALF, QUARTER = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
IMAGE_FILES = {
    "nested before old": {"processor_config.json": {"image_processor": {"image_mean": HALF, "image_processor_type": "CLIPImageProcessor"}}, "preprocessor_config.json": {"image_mean": QUARTER, "image_processor_type": "CLIPImageProcessor"}},
    "null is no nested": {"processor_config.json": {"image_processor": None}, "preprocessor_config.json": {"image_mean": HALF, "image_processor_type": "CLIPImageProcessor"}},
    "not nested": {"processor_config.json": {"image_mean": QUARTER}, "preprocessor_config.json": {"image_mean": HALF, "image_processor_type": "CLIPImageProcessor"}},
}

USER = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What's <b>this</b> & \"that\"?"}]}]
CHAT = USER + [
    {"role": "assistant", "content": [{"type": "text", "text": "Ein Café/猫\n\t\x07 </x>."}]},
    {"role": "user", "content": [{"type": "text", "text": " And? "}]},
]
EACH = "{% for m in messages %}"
TEXT = "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}"
TEMPLATES = [
    EACH + "{{ m | tojson }}\n{% endfor %}",
    EACH + "{{ m.content | tojson(indent=2) }}{% endfor %}",
    EACH + "{{ m | tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) }}{% endfor %}",
    EACH + "{{ m['content'][-1]['text'] | tojson }}{% endfor %}",
    EACH + "{{ m | tojson(indent=4, sort_keys=true) }}{% endfor %}",
    "{{ {'b': 1, 'a': [1.0, 1e22, 0.1, -3, true, false, none], 'c': {}, 'd': []} | tojson }}" + EACH + TEXT + "{% endfor %}",
    "{{ {'b': [], 'a': {}, 'c': [1, [2]]} | tojson(indent=1) }}" + EACH + TEXT + "{% endfor %}",
    "{{ {'a': 'x'} | tojson(none) }}{{ '\\u2028\\x7f/\\\\' | tojson }}" + EACH + TEXT + "{% endfor %}",
    "{% if tools is not none %}tools{% endif %}{% if documents is not none %}documents{% endif %}" + EACH + TEXT + "{% endfor %}",
    "{% if tools is defined %}defined{% endif %}{% if tools %}some{% endif %}{% if documents is none %}none{% endif %}" + EACH + TEXT + "{% endfor %}",
    "{% if not tools is defined %}{% set tools = none %}{% endif %}{{ 'x' if tools else 'y' }}" + EACH + TEXT + "{% endfor %}",
    "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}|{{ image_token }}|{{ x_token }}|{{ sep_token }}" + EACH + TEXT + "{% endfor %}",
    "{{ 'no' if sep_token is defined else 'yes' }}{{ image_token is defined }}" + EACH + TEXT + "{% endfor %}",
    EACH + "{{ m['content'][-1]['text'] | e }}{% endfor %}",
    EACH + "{{ m['content'][-1]['text'] | escape }}{{ 1 | e }}{{ none | e }}{{ true | e }}{% endfor %}",
    EACH + "{% for c in m['content'] if c['type'] == 'text' %}{{ m['role'] | capitalize }}: {% generation %}{{ c['text'] | trim }}{{ eos_token }}{% endgeneration %}\n{% endfor %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    "{%- if messages[0]['role'] == 'system' -%}{{ messages[0].content }}{%- else -%}{{ raise_exception('never') if messages | length > 9 }}{%- endif -%}" + EACH + TEXT + "{% endfor %}",
    "{% set ns = namespace(n=0, seen=false) %}" + EACH + "{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ loop.last }}{{ loop.index0 }}" + TEXT + "{% endfor %}{{ ns.n }}{{ ns.seen }}",
    EACH + "{% if loop.index == 2 %}{% continue %}{% endif %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text.strip().split(' ')[0] }}{% break %}{% endif %}{% endfor %}{% endfor %}",
    EACH + "{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{{ c.text.upper() }}{% endfor %}{% for c in m.content | rejectattr('type', '==', 'text') %}<image>{% endfor %}{% endfor %}",
    "{{ true }} {{ none }} {{ 1.0 }} {{ [1, 'a', none, true] }} {{ {'a': 'b'} }}" + EACH + TEXT + "{% endfor %}",
    "{{ 'a' ~ true ~ none ~ 1.5 ~ ['x'] }} {{ true | string }} {{ [true, 'a', none] | join(', ') }} {{ ['it\\'s', 'q\"'] }}" + EACH + TEXT + "{% endfor %}",
    "{% macro show(c) %}[{{ c.text }}]{% endmacro %}" + EACH + "{% for c in m.content %}{% if 'text' in c %}{{ show(c) }}{% elif c.type == 'image' %}{{ image_token }}{% endif %}{% endfor %}{% endfor %}",
    EACH + "{{ m.role.replace('user', 'U').title() }}{{ m['content'] is string }}{{ m['content'] is iterable }}{{ m is mapping }}{{ m.get('name', 'none') }}{% for k, v in m.items() %}{{ k }}{% endfor %}" + TEXT + "{% endfor %}",
    "{% for m in messages[::-1] %}{{ loop.revindex }}{% for c in m['content'] if c.text is defined and c.text %}{{ c.text }}{{ c.text[:4] }}{{ c.text[-1] }}{% endfor %}{% endfor %}",
    "{{ dict(a=1, b='x') | tojson }}{{ {'a': 1}.items() | list | tojson }}{{ range(3) | list }}" + EACH + TEXT + "{% endfor %}",
    EACH + "{{ m.content | map(attribute='type') | join(',') }}{{ m.content | length }}{{ (m.content | first).type }}" + TEXT + "{% endfor %}",
    "  {% if true %}\n   a\n  {% endif %}\n" + EACH + "\n    {%- for c in m.content %}\n      {{- c.text | default('none') }}\n    {%- endfor %}\n{% endfor %}\n\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n" + EACH + TEXT + "{% endfor %}",
    "{% set x %}<{{ messages | length }}>{% endset %}{{ x }}{{ x | length }}" + EACH + "{{ '%s: %d' | format(m.role, 3) }}" + TEXT + "{% endfor %}",
    "{{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ 6 / 2 }} {{ 1 == 1.0 }} {{ 'a' in 'cat' }} {{ 'x' * 3 }} {{ not none }}" + EACH + TEXT + "{% endfor %}",
    "{{ missing }}{{ missing | default('d') }}{{ messages[0].missing }}{{ 'x' if missing }}{{ missing is none }}" + EACH + TEXT + "{% endfor %}",
    EACH + "{{ m.content | tojson | length }}{{ (m | tojson) + '<' }}{{ m.role | tojson | upper }}" + TEXT + "{% endfor %}",
    "{% filter upper %}a{{ bos_token }}{% endfilter %}{{ 'a,b'.split(',') }}{{ 'x\\ny'.splitlines() | tojson }}{{ 'ab'.find('b') }}{{ 'a-b'.rsplit('-', 1)[-1] }}{{ 'abc'.removeprefix('a') }}" + EACH + TEXT + "{% endfor %}",
]
# name: (what ends a turn, template); the token is new to the tiny checkpoint unless it is EOS
TURN = "{% for m in messages %}{{ OPEN + m['role'] + '\n' + m['content'] + END }}{% endfor %}{% if add_generation_prompt %}{{ OPEN + 'assistant\n' }}{% endif %}"
ENDS = {
    "llama 3": ("<|eot_id|>", TURN.replace("OPEN", "'# '").replace("END", "'<|eot_id|>'")),
    "chatml": ("<|im_end|>", TURN.replace("OPEN", "'# '").replace("END", "'<|im_end|>\n'")),
    "smolvlm": ("<end_of_utterance>", TURN.replace("OPEN", "'# '").replace("END", "'<end_of_utterance>\n'")),
    "gemma": ("<end_of_turn>", TURN.replace("OPEN", "'# '").replace("END", "'<end_of_turn>\n'")),
    "llama 2": ("</s>", TURN.replace("OPEN", "'# '").replace("END", "' ' + eos_token")),
}
MAP = CONFIG | {"pad_token": "<pad>", "image_token": "<image>", "x_token": {"__type": "AddedToken", **token("<x>")}}


def texts(files):
    """As written: the order of keys tells that of new tokens."""
    return {name: content if isinstance(content, str) else json.dumps(content) for name, content in files.items()}


def write(dir, files):
    for name, content in texts(files).items():
        if name == "no_post_processor":
            tokenizer = json.loads((dir / "tokenizer.json").read_text())
            (dir / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
            continue
        path = dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())


def checkpoint(files, base=("tokenizer.json",)):
    dir = Path(tempfile.mkdtemp())
    for name in base:
        shutil.copy(TINY / name, dir / name)
    write(dir, files)
    return dir


def tokens(files):
    tok = AutoTokenizer.from_pretrained(checkpoint(files))
    added = {
        str(i): [t.content, t.lstrip, t.rstrip, t.normalized, t.single_word, t.special]
        for i, t in sorted(tok.added_tokens_decoder.items())
    }
    return {
        "files": texts(files), "added": added, "map": tok.special_tokens_map,
        "ids": [tok(text, add_special_tokens=False).input_ids for text in TEXTS], "empty": tok("").input_ids,
    }


def template(source):
    tok = AutoTokenizer.from_pretrained(checkpoint({"tokenizer_config.json": MAP}))
    out = {"template": source}
    for name, messages in (("user", USER), ("chat", CHAT)):
        try:
            out[name] = tok.apply_chat_template(messages, chat_template=source, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            out[name + "_error"] = type(error).__name__
    return out


def template_files(files):
    base = {"tokenizer_config.json": CONFIG, "preprocessor_config.json": {"image_processor_type": "CLIPImageProcessor"}}
    dir = checkpoint(base | files)
    processor = LlavaProcessor.from_pretrained(dir)
    # a processor without a template leaves it to the tokenizer
    speaker = processor if processor.chat_template is not None else processor.tokenizer
    said = [{"role": "user", "content": [{"type": "text", "text": "said"}]}]
    return {"files": texts(files), "said": speaker.apply_chat_template(said, tokenize=False)}


def end(text, source):
    new = {} if text == "</s>" else {"added_tokens_decoder": {"322": token(text)}}
    files = {"tokenizer_config.json": CONFIG | new | {"chat_template": source}}
    tok = AutoTokenizer.from_pretrained(checkpoint(files))
    said = ["What is it?", "The dog.", "Where?", "A room."]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    prompt = tok.apply_chat_template(messages[:3], tokenize=False, add_generation_prompt=True)
    whole = tok.apply_chat_template(messages, tokenize=False)
    # what follows the end token is no part of the answer
    whole = whole[: whole.rindex(text) + len(text)]
    ids = [tok(text, add_special_tokens=False).input_ids for text in (prompt, whole)]
    assert ids[1][: len(ids[0])] == ids[0]
    return {"files": texts(files), "end": text, "prompt_ids": ids[0], "answer_ids": ids[1][len(ids[0]) :]}


def main():
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    images = {
        name: {"files": texts(files), "image_mean": list(AutoImageProcessor.from_pretrained(checkpoint(files)).image_mean)}
        for name, files in IMAGE_FILES.items()
    }
    out = {
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "texts": TEXTS,
        "tokens": {name: tokens(files) for name, files in TOKENS.items()},
        "template_files": {name: template_files(files) for name, files in TEMPLATE_FILES.items()},
        "images": images,
        "ends": {name: end(*case) for name, case in ENDS.items()},
        "tokenizer_config": MAP,
        "messages": {"user": USER, "chat": CHAT},
        "templates": [template(source) for source in TEMPLATES],
    }
    Path(sys.argv[1]).write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
