"""Toy models on disk, made once."""

import pytest
import torch
from transformers import AutoModel, ViTConfig, ViTForImageClassification

from toys import models


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A llama of 5 layers, a GPT-2 of 2, a BERT of 5 and a ViT of 3, with their tokenizers."""
    root = tmp_path_factory.mktemp("grow")
    for name, model, tokenizer in (
        ("llama", models.llama(), models.tokenizer()),
        ("gpt2", models.gpt2(), models.tokenizer()),
        ("bert", models.bert(), models.wordpiece()),
    ):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8, "patch_size": 4}
    ViTForImageClassification(ViTConfig(**small, num_labels=3)).save_pretrained(root / "vit")
    return root


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A file of a few hundred short documents."""
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("\n\n".join(models.texts(300)), "utf-8")
    return path


@pytest.fixture(scope="session")
def opened():
    """Opens what was written with plain transformers; everything in the files must be used, and nothing be missing."""

    def load(folder, kind=AutoModel):
        model, told = kind.from_pretrained(folder, output_loading_info=True)
        assert not told["missing_keys"]
        assert not told["mismatched_keys"]
        return model.eval()

    return load
