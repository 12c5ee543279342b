"""Long texts in pieces: each piece is encoded by itself, the vectors are averaged by how many tokens each piece adds."""

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor

from regraft.errors import ParameterError
from regraft.text.modules.around import Around, Features

AT_ONCE = 16  # pieces that go through the model together


class Chunked(Around):
    """Reads texts of any length; gives `sentence_embedding` (B, d) itself, so that token states of few pieces are kept."""

    config_file_name = "config_sentence_chunked.json"
    config_keys: list[str] = ["pooling", "overlap"]  # noqa: RUF012  # as the library declares it

    def __init__(self, body: Transformer, pooling: Any = "mean", overlap: int = 0) -> None:
        super().__init__(body)
        self.pooling, self.overlap = pooling, overlap
        self.pool = Pooling(self.get_embedding_dimension(), pooling)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        pieces: list[str] = []
        text_of: list[int] = []
        weights: list[int] = []
        for number, text in enumerate(inputs):
            for piece, new in self.pieces(str(text), prompt or ""):
                pieces.append((prompt or "") + piece)
                text_of.append(number)
                weights.append(new)
        order = sorted(range(len(pieces)), key=lambda one: -len(pieces[one]))
        return {
            "pieces": [pieces[one] for one in order],
            "text_of": torch.tensor([text_of[one] for one in order]),
            "weights": torch.tensor([float(weights[one]) for one in order]),
        }

    def pieces(self, text: str, prompt: str = "") -> list[tuple[str, int]]:
        """Pieces of a text and how many tokens each adds to those before. Raises `ParameterError` for an overlap as long as a piece."""
        tokenizer = self.tokenizer
        most = self.max_seq_length
        ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"] if text else []
        room = len(ends) if most is None else most - len(tokenizer(prompt)["input_ids"])
        if len(ends) <= room:
            return [(text, max(1, len(ends)))]
        if room <= self.overlap:
            raise ParameterError(f"overlap={self.overlap}: a piece has {room} tokens; make the overlap smaller")
        starts = range(0, len(ends) - self.overlap, room - self.overlap)
        cut = [(ends[start][0], ends[min(start + room, len(ends)) - 1][1], min(start + room, len(ends)) - start) for start in starts]
        return [(text[a:b], new - (self.overlap if number else 0)) for number, (a, b, new) in enumerate(cut)]

    def forward(self, features: Features, **kwargs: Any) -> Features:
        pieces, text_of, weights = features["pieces"], features["text_of"], features["weights"]
        device = next(self.body.parameters()).device
        found: list[Tensor] = []
        for start in range(0, len(pieces), AT_ONCE):
            read = self.body.preprocess(pieces[start : start + AT_ONCE])
            read = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in read.items()}
            found.append(self.pool(self.body(read))["sentence_embedding"])
        states = torch.cat(found) * weights.to(device)[:, None]
        count = int(text_of.max()) + 1
        total = states.new_zeros(count, states.shape[1]).index_add(0, text_of.to(device), states)
        by = weights.new_zeros(count).index_add(0, text_of, weights)
        return features | {"sentence_embedding": total / by.to(device)[:, None]}
