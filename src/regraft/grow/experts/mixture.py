"""Experts as a mixture architecture of `transformers`, which `AutoModelForCausalLM` opens without us.

Enters: a Llama-like model and the weights of its experts. Leaves: names, values and a config of Mixtral (every layer a mixture, from Llama
or Mistral), Qwen2-MoE (chosen layers, from Llama or Qwen2; it always has a shared expert, here one of one neuron that gives 0) or
Qwen3-MoE.

All three take the softmax over all experts before top-k; with the chosen divided by their sum (Mixtral does so always, the others with
`norm_topk_prob`, set here) that is the softmax over the chosen: weights sum to 1, so that equal copies give the dense model for every
router.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.errors import ParameterError
from regraft.grow.experts.ffn import FeedForward
from regraft.grow.experts.grower import Dense, Grown

KINDS = {"llama": ("mixtral", "qwen2_moe"), "mistral": ("mixtral", None), "qwen2": (None, "qwen2_moe"), "qwen3": (None, "qwen3_moe")}
CLASSES = {"mixtral": "MixtralForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM"}
MIXTRAL = {"router": "block_sparse_moe.gate", "experts": "block_sparse_moe.experts", "key": "w1", "up": "w3", "value": "w2"}
QWEN = {"router": "mlp.gate", "experts": "mlp.experts", "key": "gate_proj", "up": "up_proj", "value": "down_proj"}
PARTS = ("key", "up", "value")


@dataclass(frozen=True)
class Expert:
    """A gated expert: `key` and `up` (e, d), `value` (d, e)."""

    key: Tensor
    up: Tensor
    value: Tensor


def can_be_mixture(dense: Dense) -> bool:
    """Whether `transformers` has a mixture architecture of this model's kind."""
    return dense.config.model_type in KINDS


def as_mixture(
    dense: Dense,
    places: Sequence[int],
    *,
    top_k: int,
    experts_of: Callable[[FeedForward], Sequence[Expert]],
    router_of: Callable[[FeedForward], Tensor],
) -> Grown:
    """`dense` with a mixture in the layers `places`; `router_of` gives rows (experts, d).

    Raises `ParameterError` where no mixture architecture computes what the dense model does.
    """
    blocks = dense.layers
    kind = _kind(dense, everywhere=len(places) == len(blocks))
    names = MIXTRAL if kind == "mixtral" else QWEN
    added: dict[str, Tensor] = {}
    dropped: set[str] = set()
    count, width = 0, 0
    for place in places:
        block = blocks[place]
        experts, layer = experts_of(block), block.path.removesuffix(".mlp")
        count, width = len(experts), experts[0].key.shape[0]
        added[f"{layer}.{names['router']}.weight"] = router_of(block)
        for number, expert in enumerate(experts):
            added |= {f"{layer}.{names['experts']}.{number}.{names[part]}.weight": getattr(expert, part) for part in PARTS}
        dropped |= {name for name, _ in block.neuron_dims()}
        if kind == "qwen2_moe":
            added |= _silent_expert(layer, experts[0].key.new_zeros(1, block.dim))
    fields = _config(dense, kind) | {"num_experts_per_tok": top_k}
    if kind == "mixtral":
        fields |= {"num_local_experts": count, "intermediate_size": width}
    else:
        others = [place for place in range(len(blocks)) if place not in places]
        fields |= {"num_experts": count, "moe_intermediate_size": width, "norm_topk_prob": True, "mlp_only_layers": others}
        fields |= {"decoder_sparse_step": 1}
    if kind == "qwen2_moe":
        fields |= {"shared_expert_intermediate_size": 1, "qkv_bias": dense.config.model_type == "qwen2"}
    odd = width * experts[0].key.element_size() % 16
    note = f"{width} neurons an expert are too odd for grouped products: open it with experts_implementation='eager'"
    return Grown(added=added, dropped=frozenset(dropped), config=fields, notes=(note,) if odd else ())


def _kind(dense: Dense, *, everywhere: bool) -> str:
    config, name = dense.config, dense.config.model_type
    if name not in KINDS:
        raise ParameterError(f"{name}: transformers has no mixture architecture like it: {', '.join(KINDS)} have one; leave form out")
    whole, some = KINDS[name]
    kind = (whole or some) if everywhere else (some or whole)
    if kind is None or (kind == "mixtral" and not everywhere):
        raise ParameterError(f"layers: {name} becomes Mixtral, in which every layer is a mixture: take layers=all")
    odd = [one for one in ("mlp_bias", "attention_bias", "use_sliding_window") if getattr(config, one, False)]
    if kind != "mixtral" and name in ("llama", "mistral") and getattr(config, "sliding_window", None):
        odd.append("sliding_window")
    if odd:
        raise ParameterError(f"{odd[0]} of this model's config has no counterpart in {CLASSES[kind]}: leave form out")
    return kind


def _config(dense: Dense, kind: str) -> dict[str, Any]:
    """What the mixture's config takes over from the dense one, also where that left it to its own defaults."""
    import transformers

    own, given = transformers.CONFIG_MAPPING[kind]().to_dict(), dense.config.to_dict()
    shared = {key: given[key] for key in own if key in given and key not in ("architectures", "transformers_version", "layer_types")}
    return shared | {"model_type": kind, "architectures": [CLASSES[kind]]}


def _silent_expert(layer: str, row: Tensor) -> dict[str, Tensor]:
    parts = {"gate_proj": row, "up_proj": row, "down_proj": row.t().contiguous()}
    silent = {f"{layer}.mlp.shared_expert.{name}.weight": value.clone() for name, value in parts.items()}
    return silent | {f"{layer}.mlp.shared_expert_gate.weight": row.clone()}
