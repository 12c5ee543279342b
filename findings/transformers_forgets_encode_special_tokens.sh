#!/bin/sh
# transformers 5.24.0 with tokenizers 0.23.3: `encode_special_tokens` set on the backend tokenizer is undone by the next call.
#
# Guess: `tokenizer.backend_tokenizer.encode_special_tokens = True` makes "[SEP]" in a user's text plain text from then on.
# Seen: the backend's own `encode` splits it; the wrapper's call gives the separator's id again and has set the attribute back to False.
# Only `split_special_tokens=True` in every call makes it text.
# Why it matters: whoever guards against special tokens in users' text by the documented switch of the backend has no guard.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 transformers==5.24.0 tokenizers==0.23.3
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = {"[UNK]": 0, "[SEP]": 1, "map": 2, "[": 3, "SEP": 4, "]": 5}
backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, sep_token="[SEP]", unk_token="[UNK]")
own = tokenizer.backend_tokenizer
own.encode_special_tokens = True
seen = {
    "backend": own.encode("[SEP] map", add_special_tokens=False).ids,
    "wrapper": tokenizer("[SEP] map", add_special_tokens=False)["input_ids"],
    "switch after it": own.encode_special_tokens,
    "asked in the call": tokenizer("[SEP] map", add_special_tokens=False, split_special_tokens=True)["input_ids"],
}
print(transformers.__version__, seen)
assert seen == {"backend": [3, 4, 5, 2], "wrapper": [1, 2], "switch after it": False, "asked in the call": [3, 4, 5, 2]}, seen
PY
