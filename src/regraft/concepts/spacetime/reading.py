"""What the towers make of a prompt whose word is another vector for every time and layer: all of them in one pass.

The towers look back only, so what stands before the word is the same for all of them and goes through once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize, scaled_dot_product_attention

from regraft.concepts.host.pipeline import Conditioning, Tower, encode, pieces, towers
from regraft.concepts.spacetime.networks import Vectors
from regraft.errors import ParameterError


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt as it enters the towers.

    Attributes
    ----------
    inputs : input rows (length, width) by tower, those of all words in them. places : where each word stands (length,), by tower and word.
    plain : what the pipeline itself makes of it.
    """

    prompt: str
    inputs: dict[str, torch.Tensor]
    places: dict[str, dict[str, torch.Tensor]]
    plain: Conditioning

    @property
    def words(self) -> list[str]:
        """Which of the words it holds."""
        return list(next(iter(self.places.values())))


@torch.no_grad()
def read(pipeline: Any, prompt: str, words: Sequence[str]) -> Reading:
    """A prompt in a pipeline that has `words`. Raises `ParameterError` where one stands behind the last place that is read."""
    inputs: dict[str, torch.Tensor] = {}
    places: dict[str, dict[str, torch.Tensor]] = {}
    hooks = []
    for tower in towers(pipeline):

        def keep(module: Any, args: Any, looked_up: torch.Tensor, key: str = tower.key) -> None:
            inputs[key] = looked_up[0]

        hooks.append(tower.encoder.get_input_embeddings().register_forward_hook(keep))
        ids, known = torch.tensor(pieces(pipeline, prompt, tower)), tower.tokenizer(pipeline)
        found = {word: ids == known.convert_tokens_to_ids(word) for word in words}
        places[tower.key] = {word: place.to(pipeline.unet.device) for word, place in found.items() if bool(place.any())}
        if lost := [word for word in words if word in prompt and word not in places[tower.key]]:
            raise ParameterError(f"{prompt!r} holds {lost[0]} behind the last place that is read: make it shorter")
    try:
        plain = encode(pipeline, [prompt])
    finally:
        for hook in hooks:
            hook.remove()
    return Reading(prompt, inputs, places, plain)


def contexts(pipeline: Any, readings: Sequence[Reading], vectors: Mapping[str, Vectors]) -> tuple[torch.Tensor, torch.Tensor]:
    """What each layer reads of n prompts with `vectors` in their words' places: keys and values (n, layers, length, width).

    Where nothing goes by the bypass, both are the same tensor. Stable Diffusion reads the last hidden state behind its norm, XL that before
    the last layer as it is, so there the bypass is added to what has no norm behind it (the paper knows one tower only).
    """
    parts = []
    for tower in towers(pipeline):
        inputs = torch.stack([one.inputs[tower.key] for one in readings])
        hidden, started = inputs[:, None], inputs.shape[1]
        masks = {word: _marked(readings, tower.key, word, inputs) for word in vectors}
        for word, given in vectors.items():
            hidden = torch.where(masks[word][:, None, :, None], given.base[tower.key][:, :, None].to(inputs), hidden)
            started = min(started, *(int(row.int().argmax()) for row in masks[word] if bool(row.any())), started)
        keys = _through(tower, hidden, started, hasattr(pipeline, "text_encoder_2"))
        values = keys
        for word, given in vectors.items():
            if given.bypass is not None and given.strength:
                added = given.strength * normalize(given.bypass[tower.key], dim=-1).to(keys)[:, :, None] * keys.norm(dim=-1, keepdim=True)
                values = torch.where(masks[word][:, None, :, None], values + added, values)
        parts.append([_finished(pipeline, tower, one) for one in ([keys] if values is keys else [keys, values])])
    keys = torch.cat([part[0] for part in parts], -1)
    return keys, keys if all(len(part) == 1 for part in parts) else torch.cat([part[-1] for part in parts], -1)


def _marked(readings: Sequence[Reading], key: str, word: str, inputs: torch.Tensor) -> torch.Tensor:
    nowhere = torch.zeros(inputs.shape[1], dtype=torch.bool, device=inputs.device)
    return torch.stack([one.places[key].get(word, nowhere) for one in readings])


def _through(tower: Tower, hidden: torch.Tensor, start: int, leave_last: bool) -> torch.Tensor:
    """Input rows (n, m, length, width), the first `start` of them alike over m, through a CLIP text tower: hidden states, no norm yet."""
    n, m, length, width = hidden.shape
    model = getattr(tower.encoder, "text_model", tower.encoder)
    hidden = hidden + model.embeddings.position_embedding.weight[:length]
    shape = Packed(n, m, start, length - start)
    packed = torch.cat([hidden[:, 0, :start].reshape(-1, width), hidden[:, :, start:].reshape(-1, width)])
    for layer in list(model.encoder.layers)[: -1 if leave_last else None]:
        packed = packed + shape.attention(layer.self_attn, layer.layer_norm1(packed))
        packed = packed + layer.mlp(layer.layer_norm2(packed))
    before, tails = shape.parted(packed)
    return torch.cat([before[:, None].expand(-1, m, -1, -1), tails.reshape(n, m, -1, width)], 2)


@dataclass(frozen=True)
class Packed:
    """Places of `n` prompts in one list: `start` of each, then `rest` of each of its `m` ends. What has no neighbors runs once."""

    n: int
    m: int
    start: int
    rest: int

    def parted(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Starts (n, start, width) and ends (n m, rest, width)."""
        count, width = self.n * self.start, packed.shape[-1]
        return packed[:count].reshape(self.n, self.start, width), packed[count:].reshape(self.n * self.m, self.rest, width)

    def attention(self, attention: Any, packed: torch.Tensor) -> torch.Tensor:
        """Causal attention of starts to themselves, and of each end to its start and itself."""
        heads = attention.num_heads

        def apart(x: torch.Tensor) -> list[torch.Tensor]:
            return [part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in self.parted(x)]

        (q, q_end), (k, k_end), (v, v_end) = (apart(to(packed)) for to in (attention.q_proj, attention.k_proj, attention.v_proj))
        shown = torch.ones(self.rest, self.start + self.rest, dtype=torch.bool, device=packed.device).tril(self.start)
        keys, values = (torch.cat([a.repeat_interleave(self.m, 0), b], 2) for a, b in ((k, k_end), (v, v_end)))
        found = [scaled_dot_product_attention(q_end, keys, values, attn_mask=shown, scale=attention.scale)]
        if self.start:
            found.insert(0, scaled_dot_product_attention(q, k, v, is_causal=True, scale=attention.scale))
        return attention.out_proj(torch.cat([one.transpose(1, 2).reshape(-1, packed.shape[-1]) for one in found]))  # type: ignore[no-any-return]


def _finished(pipeline: Any, tower: Tower, hidden: torch.Tensor) -> torch.Tensor:
    """As the U-Net reads it: behind the last norm, but for XL."""
    if hasattr(pipeline, "text_encoder_2"):
        return hidden
    return getattr(tower.encoder, "text_model", tower.encoder).final_layer_norm(hidden)  # type: ignore[no-any-return]
