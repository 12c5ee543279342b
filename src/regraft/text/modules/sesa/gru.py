"""A gated recurrent network over word vectors; the library has LSTM only."""

from typing import Any

from sentence_transformers.base.modules import Module
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regraft.text.modules.around import Features


class GRU(Module):
    """`token_embeddings` (B, T, d) -> (B, T, h), or 2 h in both directions; tokens after `sentence_lengths` are not read."""

    config_keys: list[str] = ["embedding_dimension", "hidden_dim", "num_layers", "dropout", "bidirectional"]  # noqa: RUF012  # as the library declares it

    def __init__(
        self, embedding_dimension: int, hidden_dim: int, num_layers: int = 1, dropout: float = 0, bidirectional: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.embedding_dimension, self.hidden_dim, self.num_layers = embedding_dimension, hidden_dim, num_layers
        self.dropout, self.bidirectional = dropout, bidirectional
        self.encoder = nn.GRU(embedding_dimension, hidden_dim, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        lengths = features["sentence_lengths"].clamp(min=1).cpu()
        packed = pack_padded_sequence(features["token_embeddings"], lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=features["token_embeddings"].shape[1])
        return features | {"token_embeddings": states}

    def get_embedding_dimension(self) -> int:
        return self.hidden_dim * (1 + self.bidirectional)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "GRU":  # type: ignore[override]  # the library's are looser
        network = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, local_files_only=True))
        cls.load_torch_weights(model_name_or_path, subfolder=subfolder, local_files_only=True, model=network)
        return network
