#!/bin/sh
# diffusers 0.42.1: in training a diffusion transformer drops labels in each block by a coin of its own, so no image is ever without its class.
#
# Guess: `DiTTransformer2DModel` in train mode drops the label of a tenth of the images, as classifier-free guidance asks, and those images
# teach what is drawn without a class.
# Seen: every block looks its label up, and drops it, for itself, and the output layer once more. With 12 blocks most images lose their label
# somewhere, and not one in a thousand loses it everywhere: what a pipeline later calls "no class" was never learned whole.
# Why it matters: guidance subtracts that prediction. Setting the look-ups' `dropout_prob` to 0 and passing the null label oneself trains it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0 diffusers==0.42.1
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import diffusers
import torch
from diffusers import DiTTransformer2DModel

torch.manual_seed(0)
classes, images, blocks = 10, 1000, 12
model = DiTTransformer2DModel(
    num_attention_heads=2, attention_head_dim=4, in_channels=3, num_layers=blocks, sample_size=4, patch_size=2, num_embeds_ada_norm=classes,
    norm_num_groups=1,
).train()
seen = []
for name, part in model.named_modules():
    if name.endswith("class_embedder.embedding_table"):
        part.register_forward_hook(lambda module, given, out: seen.append(given[0].clone()))
with torch.no_grad():
    model(torch.randn(images, 3, 4, 4), timestep=torch.zeros(images).long(), class_labels=torch.zeros(images).long())
dropped = torch.stack(seen) == classes
told = {"look-ups": len(seen), "dropped at one, on average": round(dropped.float().mean().item(), 2),
        "dropped somewhere": dropped.any(0).float().mean().item() > 0.5, "dropped everywhere": int(dropped.all(0).sum())}
print(diffusers.__version__, told)
assert told["look-ups"] == blocks + 1
assert 0.08 < told["dropped at one, on average"] < 0.12
assert told["dropped somewhere"] and told["dropped everywhere"] == 0
PY
