"""The part of an adaptation's report that is about ontologies: what was read, where words go, examples, delta curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from regraft.report import Report, escape
from regraft.report.figures import DASHES, PALETTE
from regraft.vocab.k_tokeniser.choice import BASE
from regraft.vocab.k_tokeniser.cutting import Cutter, Record
from regraft.vocab.k_tokeniser.knowledge import SemanticType
from regraft.vocab.report.segmentation import visible_html

EXAMPLES, EXAMPLE_CHARACTERS = 8, 240


def add_sections(report: Report, cutter: Cutter, texts: Mapping[str, Sequence[str]], figures: Mapping[str, Any]) -> None:
    """Everything about one `KTokeniser`; `figures` is its coverage of each of `texts`."""
    types = cutter.knowledge.types
    report.lead += lead(figures)
    report.add_table(
        "Ontologies", [dict(kind.figures) or {"type": kind.name} for kind in types], "Pieces that several types keep are new once."
    )
    report.add_table("Where words go", coverage_rows(figures), coverage_caption(cutter))
    shown = [text for found in texts.values() for text in list(found)[: EXAMPLES * 8]]
    report.add_html("Examples by type", examples_html(cutter, shown), "Pieces of words that a type took, beside the base tokenizer's.")
    if any(kind.curve for kind in types):
        report.add_figure(
            "Delta-sufficient sets",
            delta_figure(types),
            "Candidate pieces whose share of the n-gram counts exceeds delta, for the paper's ten deltas; each set's entropy on hover.",
        )


def lead(figures: Mapping[str, Any]) -> str:
    """What the choices change, for the report's first paragraph."""
    parts = []
    for name, found in figures.items():
        if found["words"]:
            change = found["tokens_per_word"] / found["base_tokens_per_word"] - 1
            parts.append(f"{name} text {change:+.1%} tokens with {1 - found['base_share']:.1%} of the words taken by a type")
    return f" With KTokeniser's choices: {'; '.join(parts)}." if parts else ""


def coverage_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line a text and type: words, their share, tokens per word before and after."""
    rows = []
    for text, found in figures.items():
        for name, part in {"all words": {**found, "share": 1.0}, **found["types"]}.items():
            before, after = part["base_tokens_per_word"], part["tokens_per_word"]
            row = {"text": text, "words of": name, "words": part["words"], "share": f"{part['share']:.1%}"}
            row |= {"tokens per word, base": before, "chosen": after, "change": f"{after / before - 1:+.1%}" if before else None}
            if name == "all words":
                row["sentences rolled back"] = f"{found['rolled_back']:,} of {found['sentences']:,}"
            rows.append(row)
    return rows


def coverage_caption(cutter: Cutter) -> str:
    phi = cutter.phi
    said = "every sentence is rolled back" if phi == 0 else "no sentence is rolled back" if phi >= 1 else "see `phi`"
    return (
        f"KTokeniser with phi = {phi:g} ({said}). A word is a type's where its choice changed the tokens; rolled-back words are base. "
        "The other tables of this report are of the plain tokenizer that AutoTokenizer loads, which cuts without the choices."
    )


def examples_html(cutter: Cutter, texts: Sequence[str]) -> str:
    """Texts in which a type took a word: its pieces coloured, underlined and named by type."""
    names = [kind.name for kind in cutter.knowledge.types]
    lines: list[str] = []
    for text in texts:
        records: list[Record] = []
        passage = text[:EXAMPLE_CHARACTERS]
        list(cutter.cut([passage], records.append))
        if any(word.type != BASE for word in records[0].words):
            lines.append(_sample_html(cutter, records[0], names))
        if len(lines) == EXAMPLES:
            break
    legend = " ".join(f'<span class="piece" style="{_style(i)}">{escape(name)}</span>' for i, name in enumerate(names))
    none = "<p>No word of the sampled texts was taken by a type.</p>"
    return f'<p class="legend">{legend} <span class="piece">base</span></p>' + ("".join(lines) or none)


def _sample_html(cutter: Cutter, record: Record, names: Sequence[str]) -> str:
    """One text, as the base tokenizer cuts it and as chosen."""
    base = Record([replace(word, type=BASE, ids=word.base_ids) for word in record.words])
    lines = []
    for title, shown in (("base", base), ("chosen", record)):
        pieces = sum(len(word.ids) for word in shown.words)
        name = f'<div class="sample-name"><b>{title}</b> {pieces} pieces</div>'
        lines.append(f'<div class="sample-line">{name}<div class="pieces" dir="auto">{_words_html(cutter, shown, names)}</div></div>')
    return f'<div class="sample">{"".join(lines)}</div>'


def _words_html(cutter: Cutter, record: Record, names: Sequence[str]) -> str:
    surface = cutter.knowledge.tokenizer.surface
    shown = []
    for word in record.words:
        pieces = [visible_html(surface(i)) for i in word.ids]
        if word.type == BASE or word.rolled_back:
            title = f' title="{escape(names[word.type])}, rolled back"' if word.rolled_back and word.type != BASE else ""
            shown.append("".join(f'<span class="piece"{title}>{piece}</span>' for piece in pieces))
        else:
            base = " ".join(surface(i).decode("utf-8", "replace") for i in word.base_ids)
            about = f'title="{escape(names[word.type])}; base: {escape(base)}" style="{_style(word.type)}"'
            small = f"<small>{escape(names[word.type])}</small>"
            shown.append("".join(f'<span class="piece" {about}>{piece}</span>' for piece in pieces) + small)
    return " <wbr>".join(shown)


def _style(position: int) -> str:
    color = PALETTE[position % len(PALETTE)]
    return f"background:{color}33;border-bottom:2px solid {color}"


def delta_figure(types: Sequence[SemanticType], height: int = 380) -> go.Figure:
    """One line a type: pieces in the delta-sufficient set against delta."""
    figure = go.Figure()
    for i, kind in enumerate(types):
        figure.add_scatter(
            x=[point.delta for point in kind.curve],
            y=[point.size for point in kind.curve],
            customdata=[[point.k, point.entropy] for point in kind.curve],
            mode="lines+markers",
            name=escape(kind.name),
            line={"color": PALETTE[i % len(PALETTE)], "dash": DASHES[i % len(DASHES)]},
            hovertemplate="k = %{customdata[0]}, delta %{x:.2e}<br>%{y:,} pieces, entropy %{customdata[1]:.3f} nats<extra></extra>",
        )
    figure.update_xaxes(title="delta (share of the n-gram counts)", exponentformat="e")
    return figure.update_layout(height=height, yaxis_title="pieces in the set", yaxis_rangemode="tozero", showlegend=True)
