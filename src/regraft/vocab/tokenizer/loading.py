"""Does `transformers` read the files the way we do?

Its model-specific classes (GPT2Tokenizer, LlamaTokenizer, ...) rebuild normalizer and pre-tokenizer from code and take only vocabulary and
merges from `tokenizer.json`. Where that gives other ids than the file, the generic class, which follows the file, is named instead.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.vocab.tokenizer.model import Tokenizer

GENERIC_CLASS = "PreTrainedTokenizerFast"  # known to transformers 4 and 5
_PROBES = [
    "Hello, world! It's 2024.",
    " two  spaces\n\nand\ttabs ",
    "na\u00efve cafe\u0301 \u4e2d\u6587 \u0ba8\u0bbf \U0001f600",
    "x = [1, 23, 456];",
]


def make_loadable(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, with `tokenizer_class` made generic if `AutoTokenizer` would otherwise encode differently, and a note if so."""
    probes = [*_PROBES, *(text[:2000] for text in texts[:50])]
    if agrees_with_transformers(tokenizer, probes):
        return tokenizer, []
    config = _read(tokenizer, "tokenizer_config.json")
    named = config.get("tokenizer_class") or "the model's own tokenizer class"
    generic = {**config, "tokenizer_class": GENERIC_CLASS}
    companions = {**tokenizer.companions, "tokenizer_config.json": json.dumps(generic, ensure_ascii=False, indent=2).encode("utf-8")}
    changed = tokenizer.with_spec(tokenizer.spec, companions)
    if agrees_with_transformers(changed, probes):
        return changed, [f"tokenizer_class is now {GENERIC_CLASS}: {named} does not follow tokenizer.json"]
    return changed, [
        f"AutoTokenizer of this transformers builds {named} for model type '{tokenizer.model_type}' whatever the files say, and it does "
        f"not follow tokenizer.json: load the tokenizer with {GENERIC_CLASS}.from_pretrained"
    ]


def agrees_with_transformers(tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    """Whether `transformers.AutoTokenizer` gives `texts` the same ids as `tokenizer`, special tokens apart."""
    from transformers import AutoTokenizer  # takes seconds to import

    with tempfile.TemporaryDirectory(prefix="regraft-") as directory:
        tokenizer.save(directory)
        if tokenizer.model_type:
            (Path(directory) / "config.json").write_text(json.dumps({"model_type": tokenizer.model_type}))
        try:
            loaded = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            return all(loaded.encode(text, add_special_tokens=False) == tokenizer.encode(text) for text in texts)
        except Exception:  # a class that cannot even build itself from the files does not agree with them
            return False


def _read(tokenizer: Tokenizer, name: str) -> dict[str, Any]:
    try:
        content = json.loads(tokenizer.companions.get(name, b"{}"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
