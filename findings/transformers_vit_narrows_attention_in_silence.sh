#!/bin/sh
# transformers 5.24.0: a ViT whose width is no multiple of its heads is built with narrower attention, without a word.
#
# Guess: `ViTConfig(hidden_size=18, num_attention_heads=4)` is refused, as Llama's and BERT's configs of the kind are or used to be.
# Seen: it is built and runs; queries, keys and values are 16 wide (4 heads of 18 // 4), the output projection goes from 16 to 18.
# BERT of the same sizes raises ValueError.
# Why it matters: whoever searches over widths gets models of another kind than asked for at every width that does not divide.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import torch
import transformers
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

sizes = {"hidden_size": 18, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 8}
model = ViTModel(ViTConfig(**sizes, image_size=8, patch_size=4))
shapes = {name: tuple(one.shape) for name, one in model.named_parameters() if "attention" in name and name.endswith("weight")}
width = model(pixel_values=torch.zeros(1, 3, 8, 8)).last_hidden_state.shape[-1]
try:
    BertModel(BertConfig(**sizes))
    bert = "built"
except ValueError as error:
    bert = type(error).__name__
seen = {"attention": sorted(set(shapes.values())), "states": width, "BERT": bert}
print(transformers.__version__, seen)
assert seen == {"attention": [(16, 18), (18, 16)], "states": 18, "BERT": "ValueError"}, seen
PY
