"""Explicit semantic analysis as a first module: texts in, their weights for named concepts out."""

from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from sentence_transformers.base.modules import InputModule

from regraft.text.explicit.esa import Esa
from regraft.text.modules.around import Features


class ExplicitSemantics(InputModule):
    """Texts -> `sentence_embedding` (B, K). `concepts` (K): the names of the dimensions."""

    config_keys: list[str] = ["words", "concepts"]  # noqa: RUF012  # as the library declares it
    save_in_root: bool = False
    max_seq_length: int | None = None

    def __init__(self, space: Esa, concepts: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokenizer = None  # type: ignore[assignment]  # words are counted, there are no tokens
        self.space, self.words, self.concepts = space, list(space.words), list(concepts)

    @property
    def modalities(self) -> list[Any]:
        return ["text"]

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]  # the library's are looser
        rows = self.space.vectors([(prompt or "") + str(text) for text in inputs])
        return {"sentence_embedding": torch.from_numpy(rows.toarray())}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        return features

    def get_embedding_dimension(self) -> int:
        return len(self.concepts)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        weights = self.space.weights
        arrays = {"idf": self.space.idf, "data": weights.data, "indices": weights.indices, "indptr": weights.indptr}
        save_file(
            {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, f"{output_path}/model.safetensors"
        )

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "ExplicitSemantics":  # type: ignore[override]  # the library's are looser
        told = cls.load_config(model_name_or_path, subfolder=subfolder, local_files_only=True)
        file = cls.load_file_path(model_name_or_path, "model.safetensors", subfolder=subfolder, local_files_only=True)
        held = {name: tensor.numpy() for name, tensor in load_file(str(file)).items()}
        shape = (len(told["words"]), len(told["concepts"]))
        weights = csr_array((held["data"], held["indices"], held["indptr"]), shape=shape)
        return cls(Esa(tuple(told["words"]), held["idf"], weights), told["concepts"])
