"""A tokenizer as `transformers` loads it, and whether that reads the files the way we do.

Its model-specific classes (GPT2Tokenizer, LlamaTokenizer, ...) rebuild normalizer and pre-tokenizer from code and take only vocabulary and
merges from `tokenizer.json`. Where that gives other ids than the file, the generic class, which follows the file, is named instead.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.tokenizer.model import Tokenizer

GENERIC_CLASS = "PreTrainedTokenizerFast"  # known to transformers 4 and 5
_PROBES = [
    "Hello, world! It's 2024.",
    " two  spaces\n\nand\ttabs ",
    "na\u00efve cafe\u0301 \u4e2d\u6587 \u0ba8\u0bbf \U0001f600",
    "x = [1, 23, 456];",
]


def make_loadable(tokenizer: Tokenizer, texts: Sequence[str], *, same_pattern: bool = False) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, with `tokenizer_class` made generic if `AutoTokenizer` would otherwise encode differently, and a note if so.

    `same_pattern` also asks for the pre-tokenizer itself to be the file's: after widening, few texts tell the difference.
    """
    probes = [*_PROBES, *(text[:2000] for text in texts[:50])]
    built = _load(tokenizer)
    if _agrees(tokenizer, built, probes, same_pattern):
        return tokenizer, []
    config = _read(tokenizer, "tokenizer_config.json")
    named = config.get("tokenizer_class") or "the model's own tokenizer class"
    generic = {**config, "tokenizer_class": GENERIC_CLASS}
    companions = {**tokenizer.companions, "tokenizer_config.json": json.dumps(generic, ensure_ascii=False, indent=2).encode("utf-8")}
    spec = tokenizer.spec
    if spec.get("post_processor") is None and built is not None:
        # the class put special tokens around the text by code: the file must say it now
        spec = {**spec, "post_processor": json.loads(built.backend_tokenizer.to_str())["post_processor"]}
    changed = tokenizer.with_spec(spec, companions)
    if _agrees(changed, _load(changed), probes, same_pattern):
        return changed, [f"tokenizer_class is now {GENERIC_CLASS}: {named} does not follow tokenizer.json"]
    return changed, [
        f"AutoTokenizer of this transformers builds {named} for model type '{tokenizer.model_type}' whatever the files say, and it does "
        f"not follow tokenizer.json: load the tokenizer with {GENERIC_CLASS}.from_pretrained"
    ]


def agrees_with_transformers(tokenizer: Tokenizer, texts: Sequence[str], *, same_pattern: bool = False) -> bool:
    """Whether `transformers.AutoTokenizer` gives `texts` the same ids as `tokenizer`, special tokens apart."""
    return _agrees(tokenizer, _load(tokenizer), texts, same_pattern)


def _load(tokenizer: Tokenizer) -> Any:
    """What `AutoTokenizer` makes of the files, or None if the class cannot be built from them."""
    from transformers import AutoTokenizer  # takes seconds to import

    with tempfile.TemporaryDirectory(prefix="regraft-") as directory:
        tokenizer.save(directory)
        if tokenizer.model_type:
            (Path(directory) / "config.json").write_text(json.dumps({"model_type": tokenizer.model_type}))
        try:
            return AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except Exception:  # any failure means that the class does not fit the files
            return None


def _agrees(tokenizer: Tokenizer, loaded: Any, texts: Sequence[str], same_pattern: bool) -> bool:
    if loaded is None or not hasattr(loaded, "backend_tokenizer"):
        return False
    if same_pattern and json.loads(loaded.backend_tokenizer.to_str())["pre_tokenizer"] != tokenizer.spec.get("pre_tokenizer"):
        return False
    return all(loaded.encode(text, add_special_tokens=False) == tokenizer.encode(text) for text in texts)


def _read(tokenizer: Tokenizer, name: str) -> dict[str, Any]:
    try:
        content = json.loads(tokenizer.companions.get(name, b"{}"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def load_tokenizer(tokenizer: Tokenizer) -> Any:
    """`tokenizer` as `transformers` would load it from a saved directory."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return AutoTokenizer.from_pretrained(folder)
