"""A hypernetwork: graphs in, the tensors of their models out.

`forward` predicts every tensor of several models together, for training; `encode` and `tensor` predict one after the other, for a model
that is larger than memory.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from regraft.grow.predict.graph import Graph, Shape, Shapes, Slot, as_4d, rows
from regraft.grow.predict.hypernetwork.decoder import Flat
from regraft.grow.predict.hypernetwork.encoder import Encoder
from regraft.grow.predict.hypernetwork.features import batch
from regraft.grow.predict.hypernetwork.fitting import Asked, Outcome, as_parameter, asked, repeated, rounded
from regraft.grow.predict.hypernetwork.normalise import normalised
from regraft.grow.predict.predictor import Predictor


class Hypernet(nn.Module):
    """Encoder and decoder of `predictor`, freshly drawn: use `torch.manual_seed` for the same ones again."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        d = predictor.of("d")
        self.encoder = Encoder(d, predictor.of("L"), predictor.of("H"), classes=predictor.classes, layer_norm=predictor.layer_norm)
        self.decoder = predictor.decoder()
        self.flat = Flat(d, predictor.max_1d) if self._has_flat() else None

    def _has_flat(self) -> bool:
        return self.predictor.use_1d_decoder or not self.predictor.decoder_serves_vectors

    def encode(self, models: Sequence[tuple[Graph, Shapes]], pad: int = 0) -> list[torch.Tensor]:
        """A vector for each node of each graph: (nodes, d) each."""
        features = batch(models, cutoff=self.predictor.virtual_edges, classes=self.predictor.classes, pad=pad)
        encoded = self.encoder(features.to(self.encoder.operation.weight.device))
        return [encoded[one, : len(graph)] for one, (graph, _) in enumerate(models)]

    def forward(
        self,
        models: Sequence[tuple[Graph, Shapes]],
        *,
        initializer_range: float = 0.02,
    ) -> list[dict[str, torch.Tensor]]:
        """Every tensor that the graphs have a node for, by name, one dict a model; gradients reach this network."""
        encoded = self.encode(models)
        wanted: dict[tuple[Shape, bool], list[tuple[int, Slot]]] = defaultdict(list)
        vectors: dict[tuple[Shape, bool], list[torch.Tensor]] = defaultdict(list)
        for one, (graph, shapes) in enumerate(models):
            for places in graph.slots.values():
                for number, slot in places:
                    ask = asked(slot, shapes)
                    key = (self._rounded(ask), ask.pair)
                    wanted[key].append((one, slot))
                    vectors[key].append(encoded[one][number])
        found: list[dict[str, torch.Tensor]] = [{} for _ in models]
        for (shape, pair), slots in wanted.items():
            entries = self._entries(torch.stack(vectors[shape, pair]), Asked(shape, pair))  # type: ignore[arg-type]  # four numbers
            for mine, (one, slot) in zip(entries, slots, strict=True):
                found[one][slot.name] = self._finished(mine, slot, models[one][1], initializer_range)
        return found

    def tensor(self, h: torch.Tensor, slot: Slot, shapes: Shapes, *, initializer_range: float = 0.02) -> torch.Tensor:
        """One parameter of a model with `shapes` from its node's vector `h` (d,)."""
        entries = self._entries(h[None], asked(slot, shapes))[0]
        return self._finished(entries, slot, shapes, initializer_range)

    def outcome(self, slot: Slot, shapes: Shapes) -> Outcome:
        """Whether a tensor is predicted entry by entry, cut out of more, or repeated."""
        ask = asked(slot, shapes)
        out, into, height, width = ask.shape
        if ask.pair and self.flat is not None:
            return "tiled" if out > 2 * self.flat.most else "sliced"
        most = self.decoder.limits(height, width)
        kernel = getattr(self.decoder, "kernel", None)
        if out > most[0] or into > most[1] or (kernel is not None and max(height, width) > kernel):
            return "tiled"
        return "predicted" if self.decoder.exact else "sliced"

    def _rounded(self, ask: Asked) -> Shape:
        out, into, height, width = ask.shape
        most = self.decoder.limits(height, width)
        return ask.shape if ask.pair else (rounded(out, most[0]), rounded(into, most[1]), height, width)

    def _entries(self, h: torch.Tensor, ask: Asked) -> torch.Tensor:
        """(n, out, in, height, width) for n node vectors; a pair is (n, 2, c, 1, 1)."""
        out, into, height, width = ask.shape
        if ask.pair and self.flat is not None:
            c = min(out // 2, self.flat.most)
            return repeated(self.flat(h, c)[..., None, None].transpose(1, 2), out // 2, 2).transpose(1, 2)
        most = self.decoder.limits(height, width)
        entries = self.decoder.matrix(h, min(out, most[0]), min(into, most[1]), height, width)
        entries = repeated(entries, out, into)
        return entries.reshape(len(h), 2, out // 2, 1, 1) if ask.pair else entries

    def _finished(self, entries: torch.Tensor, slot: Slot, shapes: Shapes, initializer_range: float) -> torch.Tensor:
        """The entries of one slot, possibly more than it needs, as its parameter."""
        into = as_4d(slot, shapes)[1]
        if slot.role in ("scale", "bias"):
            entries = entries[0 if slot.role == "scale" else 1]
        own = torch.from_numpy(rows(slot, shapes)).to(entries.device) if slot.fused else slice(as_4d(slot, shapes)[0])
        entries = normalised(entries[own, :into], slot.role, self.predictor.normalise, initializer_range)
        return as_parameter(entries, slot, shapes[slot.name])
