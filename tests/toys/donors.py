"""Tiny models on disk whose tokenizers are WordPiece lists of words, to be each other's donors."""

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from regraft.checkpoint import Checkpoint
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import match_tokens
from regraft.vocab.initializer import Aids, Context, Source, Target

LETTERS = list("abcdefghij")
SHARED = [a + b for a in "abcdefg" for b in "abcdefg"]
OLD_WORDS = ["[UNK]", *LETTERS, *["##" + letter for letter in LETTERS], *SHARED]
NEW_WORDS = [a + b + c for a in "abc" for b in "defg" for c in "hij"]
DONOR_WORDS = ["[UNK]", *NEW_WORDS, *SHARED]


def save_model(folder, words, dim=8, encoder=False, tied=False, seed=0):
    """A model whose table (and, if untied, head) is random; returns the folder."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(words), "hidden_size": dim, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    if encoder:
        model = transformers.BertModel(transformers.BertConfig(**size))
    else:
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**size, num_key_value_heads=2, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder)
    backend = Backend(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(folder / "tokenizer.json"))
    return folder


def edit_table(folder, change, head=False):
    """Rewrite the input table (or head) of a saved model with `change(table)`, in place."""
    checkpoint = Checkpoint.open(folder)
    name = (checkpoint.layout.head if head else checkpoint.layout.input)[0]
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def task(model, words, donor=None, role="input", texts=None):
    """(source, target, context) for giving `model` the vocabulary `words` beside its own."""
    from regraft.corpus import Corpus

    checkpoint, old = Checkpoint.open(model), Tokenizer.from_directory(model)
    vocab = dict(old.model_vocab)
    for word in words:
        vocab.setdefault(word, len(vocab))
    new = old.with_spec({**old.spec, "model": {**old.model, "vocab": vocab}})
    ids = match_tokens(old, new)
    ids[[i for i in range(len(ids)) if new.pieces[i] in words]] = -1
    layout = checkpoint.layout
    table = checkpoint.read(layout.head[0] if role == "head" and layout.head else layout.input[0])
    source = Source(table=table, tokenizer=old, role=role, tied=layout.tied)
    target = Target(ids=(ids < 0).nonzero()[0], tokenizer=new, source_ids=ids, old_tokenizer=old)
    corpus = None if texts is None else Corpus.from_texts(texts, held_out=0.2)
    return source, target, Context(corpus=corpus, aids=Aids(donor=donor))
