"""Tiny random models and tokenizers, made on the spot: what the tests of scoring and training run on."""

import random
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCE = "the cat sat on a mat with another hat and that rat ran far past an old map of the land café"
WORDS = SENTENCE.split()
ROWS = 304  # a few more rows than tokens: padding


@cache
def texts(count: int, seed: int = 0) -> list[str]:
    """Sentences of 3 to 30 words."""
    chance = random.Random(seed)
    return [" ".join(chance.choice(WORDS) for _ in range(chance.randint(3, 30))) for _ in range(count)]


@cache
def tokenizer(adds_bos: bool = False, separator: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 300 tokens; `separator`: it knows an end-of-text token; `adds_bos`: it puts a BOS first."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<eos>", "<bos>"] if separator or adds_bos else []
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(texts(200), trainer)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"eos_token": "<eos>", "bos_token": "<bos>"} if special else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@cache
def wordpiece() -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece that frames a text with [CLS] and [SEP]."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    backend.train_from_iterator([*texts(200), "caterpillar xyz"], trainer)
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )


def llama(seed: int = 0, tied: bool = True, layers: int = 5, rows: int = ROWS) -> LlamaForCausalLM:
    """Decoder with rotary positions, d = 16."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2, tie_word_embeddings=tied,
        pad_token_id=2, bos_token_id=1, eos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """Decoder with learned positions, d = 16."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=ROWS, n_embd=16, n_layer=2, n_head=2, n_positions=256, bos_token_id=0, eos_token_id=0, initializer_range=0.3
    )
    return GPT2LMHeadModel(config).eval()


def bert(seed: int = 0) -> BertForMaskedLM:
    """Encoder with a masked-LM head, d = 16."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=120, hidden_size=16, intermediate_size=32, num_hidden_layers=5, num_attention_heads=2, max_position_embeddings=256,
        initializer_range=0.3,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    with torch.no_grad():
        model.cls.predictions.bias.normal_()
    return model.eval()
