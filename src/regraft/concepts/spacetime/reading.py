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
    n, m, length, _ = hidden.shape
    model = getattr(tower.encoder, "text_model", tower.encoder)
    hidden = hidden + model.embeddings.position_embedding.weight[:length]
    before, tail = hidden[:, 0, :start], hidden[:, :, start:].flatten(0, 1)
    shown = torch.ones(length - start, length, dtype=torch.bool, device=hidden.device).tril(start)
    for layer in list(model.encoder.layers)[: -1 if leave_last else None]:
        before, tail = _layer(layer, before, tail, shown, m)
    return torch.cat([before[:, None].expand(-1, m, -1, -1), tail.reshape(n, m, length - start, -1)], 2)


def _layer(layer: Any, before: torch.Tensor, tail: torch.Tensor, shown: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer of the tower over a beginning (n, start, width) and what follows it (n m, rest, width)."""
    attention = layer.self_attn

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], attention.num_heads, -1).transpose(1, 2)

    first, rest = layer.layer_norm1(before), layer.layer_norm1(tail)
    (k, v), (k_rest, v_rest) = ([heads(attention.k_proj(x)), heads(attention.v_proj(x))] for x in (first, rest))
    keys, values = (torch.cat([a.repeat_interleave(m, 0), b], 2) for a, b in ((k, k_rest), (v, v_rest)))
    found = scaled_dot_product_attention(heads(attention.q_proj(rest)), keys, values, attn_mask=shown, scale=attention.scale)
    tail = tail + attention.out_proj(found.transpose(1, 2).flatten(2))
    if before.shape[1]:
        found = scaled_dot_product_attention(heads(attention.q_proj(first)), k, v, is_causal=True, scale=attention.scale)
        before = before + attention.out_proj(found.transpose(1, 2).flatten(2))
        before = before + layer.mlp(layer.layer_norm2(before))
    return before, tail + layer.mlp(layer.layer_norm2(tail))


def _finished(pipeline: Any, tower: Tower, hidden: torch.Tensor) -> torch.Tensor:
    """As the U-Net reads it: behind the last norm, but for XL."""
    if hasattr(pipeline, "text_encoder_2"):
        return hidden
    return getattr(tower.encoder, "text_model", tower.encoder).final_layer_norm(hidden)  # type: ignore[no-any-return]
