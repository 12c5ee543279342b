"""Score a checkpoint on text, as `regraft evaluate` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.corpus.pairs import Pair, read_pairs
from regraft.corpus.sampling import sample_texts, say_skipped
from regraft.evaluation import generation_speed, score_text, translate
from regraft.evaluation.chrf import metric
from regraft.evaluation.translation import EXAMPLES, TEMPLATE, as_decoder, check_prompt
from regraft.language.loading import check_placement, load_model
from regraft.language.precision import matmul_precision
from regraft.progress import step
from regraft.report import Report
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

PROMPTS = 8
PROMPT_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Translating:
    """`pairs`: a table of sources and references, or two files of parallel lines. The rest is that of `regraft.evaluation.translate`."""

    pairs: str | Path | tuple[str | Path, str | Path]
    examples: int = EXAMPLES
    template: str = TEMPLATE
    sentences: int | None = None

    @property
    def prompt(self) -> dict[str, Any]:
        return {"examples": self.examples, "template": self.template, "sentences": self.sentences}

    def read(self) -> list[Pair]:
        """The pairs, once all that they will need is known to be there."""
        metric()
        found = read_pairs(*self.pairs) if isinstance(self.pairs, tuple) else read_pairs(self.pairs)
        check_prompt(len(found), **self.prompt)
        return found


def evaluate(
    model: str | Path,
    text: Sequence[str | Path],
    *,
    text_column: str | None = None,
    window: int = 1024,
    stride: int | None = None,
    score_bytes: int | None = None,
    generate: bool = False,
    translating: Translating | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    dry_run: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Bits per byte of `text` under `model` with an interval, tokens per byte, word and document, and speed: the report and its figures.

    With `translating` also chrF of few-shot translation.
    """
    check_placement(dtype, device)
    parallel = [] if translating is None else translating.read()
    checkpoint = Checkpoint.open(model, vocabulary=True)
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    corpus = Corpus.open(text, held_out=0.0, text_column=text_column)
    say_skipped(corpus)
    texts = sample_texts(corpus.documents("all"), score_bytes)
    size = sum(len(t.encode()) for t in texts)
    report = Report(f"{checkpoint.path.name} on {corpus.name}")
    if dry_run:
        tokens = sum(map(len, tokenizer.encode_batch(texts)))
        figures: dict[str, Any] = {"would_score_bytes": size, "documents": len(texts), "tokens": tokens}
        if translating is not None:
            figures["would_translate"] = min(len(parallel) - translating.examples, translating.sentences or len(parallel))
        report.add_table("Dry run", [figures])
        return report, figures
    with step("loading the model"):
        live, live_tokenizer = load_model(checkpoint, dtype, device), load_tokenizer(tokenizer)
    if parallel:
        as_decoder(live, live_tokenizer)  # said before the work
    with step(f"scoring {size:,} bytes"), matmul_precision(dtype, device):
        score = score_text(live, live_tokenizer, texts, window=window, stride=stride, seed=seed)
    figures = {"model": str(model), "text": corpus.name, **score.to_dict()}
    low, high = figures["interval"]
    costs = ("bits_per_byte", "tokens_per_byte", "tokens_per_word", "tokens_per_document")
    shown = {name: figures[name] for name in (*costs, "bytes", "tokens")}
    shown |= {"95% interval": f"{low:.3f} to {high:.3f}", "bytes read per second": score.bytes_per_second}
    report.add_table("", [shown], f"{score.measure} over {len(texts):,} documents")
    if generate:
        with step("writing text"):
            speed = generation_speed(live, live_tokenizer, [t[:PROMPT_CHARACTERS] for t in texts[:PROMPTS]])
        figures |= speed.to_dict()
        report.add_table("Writing", [speed.to_dict()], "greedy, one document at a time, with the cache; a step writes one token")
    if translating is not None:
        with step("translating"), matmul_precision(dtype, device):
            figures["translation"] = translate(live, live_tokenizer, parallel, **translating.prompt, seed=seed).to_dict(seed)
        _add_translation(report, figures["translation"], translating.examples)
    return report, figures


def _add_translation(report: Report, figures: dict[str, Any], examples: int) -> None:
    low, high = figures["chrf_interval"]
    names = ("chrf", "sentences", "tokens_per_sentence", "characters_per_step", "seconds")
    shown = {name: figures[name] for name in names} | {"95% interval": f"{low:.1f} to {high:.1f}"}
    report.add_table("Translation", [shown], f"greedy, {examples} examples in the prompt, to the end of the line; {figures['signature']}")
