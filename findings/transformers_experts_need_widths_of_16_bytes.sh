#!/bin/sh
# transformers 5.24.0 with torch 2.13.0 on a CPU: a mixture of experts of a small odd width cannot be run by default.
#
# Guess: Mixtral's config takes any `intermediate_size`, as Llama's does.
# Seen: in float32 a width of 6 raises RuntimeError ("strides should be multiple of 16 bytes") in the first forward pass, 8 runs;
# `experts_implementation="eager"` runs both, with the same logits for 8.
# Why it matters: experts cut out of a dense model have the width that the cut gives, and building the model says nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import torch
import transformers
from transformers import MixtralConfig, MixtralForCausalLM


def run(width, how):
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32, hidden_size=8, intermediate_size=width, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        num_local_experts=2, num_experts_per_tok=1,
    )
    if how is not None:
        config._experts_implementation = how
    try:
        return MixtralForCausalLM(config).eval()(torch.tensor([[1, 2, 3]])).logits.detach()
    except RuntimeError as error:
        return str(error).splitlines()[0]


odd, even, eager, both = run(6, None), run(8, None), run(6, "eager"), run(8, "eager")
seen = {"6": odd, "6, eager": tuple(eager.shape), "8": "like eager" if torch.allclose(even, both, atol=1e-6) else "other"}
print(transformers.__version__, seen)
assert seen == {"6": "strides should be multiple of 16 bytes", "6, eager": (1, 3, 32), "8": "like eager"}, seen
PY
