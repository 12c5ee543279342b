"""Toy encoder and decoder on disk, made once."""

import pytest

from toys import models


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "bert"
    models.bert().save_pretrained(folder)
    models.wordpiece().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "llama"
    models.llama().save_pretrained(folder)
    models.tokenizer().save_pretrained(folder)
    return folder
