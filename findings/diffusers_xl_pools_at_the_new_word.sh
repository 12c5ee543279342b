#!/bin/sh
# diffusers 0.42.1, transformers 5.24.0: a textual inversion loaded into SDXL's second tower moves the pooled vector from the prompt's end to
# the new word.
#
# Guess: `load_textual_inversion` adds a row to each tower, and only the places from the word on read differently; the pooled vector, which
# SDXL's U-Net gets beside the prompt, is still that of the end of the prompt.
# Seen: the published configurations of SDXL's second tower say `eos_token_id: 2`, for which the tower pools at the greatest id. A new word's
# id is greater than that of the end, so the pooled vector is the tower's output at the new word: what the prompt says after it never reaches
# it. With the tokenizer's own id as `eos_token_id` the pooled vector is that of the end.
# Why it matters: a concept taught with the pooled vector of the end (or with it frozen) is drawn with another one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0 diffusers==0.42.1 accelerate==1.15.0
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import json

import diffusers
import torch
import transformers
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

letters = "abcdefghijklmnopqrstuvwxyz<>-"
vocab = [*letters, *[f"{one}</w>" for one in letters], "<|startoftext|>", "<|endoftext|>"]
json.dump({token: place for place, token in enumerate(vocab)}, open("vocab.json", "w"))
open("merges.txt", "w").write("#version: 0.2\n")


class Loader(TextualInversionLoaderMixin):
    hf_device_map = None
    components: dict = {}


def pooled(end_id):
    tokenizer = CLIPTokenizer("vocab.json", "merges.txt", model_max_length=16)
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=16, bos_token_id=end - 1, eos_token_id=end if end_id is None else end_id, pad_token_id=end)
    tower = CLIPTextModelWithProjection(config).eval()
    Loader().load_textual_inversion(torch.ones(1, 16), token="<new>", tokenizer=tokenizer, text_encoder=tower)
    ids = tokenizer("a <new> b c", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        out = tower(ids)
        at = lambda place: tower.text_projection(out.last_hidden_state[:, place])
    word, end_place = ids[0].tolist().index(tokenizer.convert_tokens_to_ids("<new>")), ids[0].tolist().index(end)
    near = [bool(torch.allclose(out.text_embeds, at(place), atol=1e-5)) for place in (word, end_place)]
    return dict(zip(("at the new word", "at the end"), near))


published, own = pooled(2), pooled(None)
print(diffusers.__version__, transformers.__version__, {"eos_token_id 2": published, "eos_token_id of the tokenizer": own})
assert published == {"at the new word": True, "at the end": False}
assert own == {"at the new word": False, "at the end": True}
PY
