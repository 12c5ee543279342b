"""The first tokens of each text kept from the pooling that follows."""

from typing import Any

from sentence_transformers.base.modules import Module

from regraft.text.modules.around import Features


class SkipFirst(Module):
    """Takes the first `count` tokens that are not padding out of `attention_mask` (B, T); the last one always stays."""

    config_keys: list[str] = ["count"]  # noqa: RUF012  # as the library declares it

    def __init__(self, count: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = count

    def forward(self, features: Features, **kwargs: Any) -> Features:
        mask = features["attention_mask"]
        number = mask.cumsum(1)
        kept = number > number[:, -1:].sub(1).clamp(max=self.count)
        return features | {"attention_mask": mask * kept}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        self.save_config(output_path)
