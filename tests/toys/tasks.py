"""A tiny encoder with a WordPiece vocabulary, made ontologies, and labelled sentences in which only the ontologies' words matter."""

import random

import pytest
import torch
from transformers import BertConfig, BertModel

from regraft.checkpoint import Checkpoint
from regraft.tokenizer import Tokenizer
from regraft.vocab.k_tokeniser import Ontology
from regraft.vocab.tasks import Labelled, LabelledData, Subject, Tagged
from toys.ontologies import DRUGS, ENGLISH, SIGNS, SMALL, wordpiece


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoder")
    tokenizer = wordpiece()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size, **shape, **quiet)).save_pretrained(place)
    tokenizer.save(place)
    return place


@pytest.fixture(scope="session")
def checkpoint(folder):
    return Checkpoint.open(folder)


@pytest.fixture(scope="session")
def subject(checkpoint):
    ontologies = [Ontology.from_phrases("drugs", DRUGS), Ontology.from_phrases("signs", SIGNS)]
    return Subject(checkpoint, Tokenizer.from_directory(checkpoint.path), ontologies, SMALL)


def sentences(count: int, seed: int = 0) -> list[Tagged]:
    draw, found = random.Random(seed), []
    for _ in range(count):
        words, tags = draw.choice(ENGLISH).split(), []
        tags = ["O"] * len(words)
        for name, source in (("Drug", DRUGS), ("Sign", SIGNS)):
            if draw.random() < 0.7:
                place = draw.randint(0, len(words))
                words.insert(place, draw.choice(source))
                tags.insert(place, f"B-{name}")
        found.append(Tagged(tuple(words), tuple(tags)))
    return found


def texts(count: int, kind: str, seed: int = 0) -> list[Labelled]:
    found = []
    for sentence in sentences(count, seed):
        kinds = tuple(sorted({tag[2:] for tag in sentence.tags if tag != "O"}))
        found.append(Labelled(sentence.text, kinds if kind == "coding" else ("+".join(kinds) or "none",)))
    return found


@pytest.fixture(scope="session")
def data():
    return {
        "tagging": LabelledData("made", "tagging", tuple(sentences(40)), tuple(sentences(20, 1))),
        "coding": LabelledData("made", "coding", tuple(texts(40, "coding")), tuple(texts(20, "coding", 1))),
        "classification": LabelledData("made", "classification", tuple(texts(40, "classification")), tuple(texts(20, "classification", 1))),
    }
