"""Base of modules that read texts in a way of their own and hand the tokens to a stock `Transformer`, which they hold."""

from typing import Any

import torch
from sentence_transformers.base.modules import InputModule
from sentence_transformers.sentence_transformer.modules import Transformer

Features = dict[str, Any]


class Around(InputModule):
    """Holds `body`; saves it where a plain model lies, and its own settings beside it.

    A subclass names its settings in `config_keys`, takes them after `body`, and says in `preprocess` what the body reads.
    """

    body: Transformer

    def __init__(self, body: Transformer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.body = body

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]  # the library declares an attribute
        return self.body.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        return self.body.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.body.max_seq_length = value

    def get_embedding_dimension(self) -> int:
        return int(self.body.get_embedding_dimension())

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.body.save(output_path, safe_serialization=safe_serialization)
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "Around":  # type: ignore[override]  # the library's are looser
        settings = cls.load_config(model_name_or_path, subfolder=subfolder, local_files_only=True)
        dtype = kwargs.get("model_kwargs") or {"dtype": torch.float32}
        body = Transformer.load(model_name_or_path, subfolder=subfolder, local_files_only=True, model_kwargs=dtype)
        return cls(body, **settings)
