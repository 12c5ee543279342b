#!/bin/sh
# sentence-transformers 6.2.0: texts that an instruct model embeds are put into its chat template, system prompt and all.
#
# Guess: `SentenceTransformer(DIR)` of a decoder tokenizes a text as it is; a chat template is for chats.
# Seen: with a `chat_template` in the tokenizer's folder, the one word "map" is read as "system : be helpful user : map"; the same weights
# and vocabulary without the template read "map". Nothing says so, and mean pooling averages over the template too.
# Why it matters: the base model and its instruct model are not embedded alike, and figures for "mean pooling of an instruct model" hold a
# system prompt in every text.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0 tokenizers==0.23.3 sentence-transformers==6.2.0
HF_HUB_OFFLINE=1 FOLDER="$folder" "$folder/venv/bin/python" - 2>/dev/null <<'PY'
import os

import sentence_transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

words = ["[UNK]", "[EOS]", "system", "user", "be", "helpful", "map", ":"]
backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
template = "system : be helpful {% for m in messages %}{{ m['role'] }} : {{ m['content'] }}{% endfor %}"


def read(name, chat_template):
    folder = os.path.join(os.environ["FOLDER"], name)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", eos_token="[EOS]", pad_token="[EOS]")
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    LlamaModel(config).save_pretrained(folder)
    ids = SentenceTransformer(folder, device="cpu").preprocess(["map"])["input_ids"][0].tolist()
    return " ".join(words[at] for at in ids)


seen = {"base": read("base", None), "instruct": read("instruct", template)}
print(sentence_transformers.__version__, seen)
assert seen == {"base": "map", "instruct": "system : be helpful user : map"}, seen
PY
