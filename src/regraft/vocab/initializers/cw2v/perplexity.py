"""What texts cost the old model with grafted tables: how a start that goes through several states chooses one of them.

Enters: the model, groups of texts, a graft for each table. Leaves: bits per byte, the mean over the groups.
"""

from collections.abc import Sequence

import torch

from regraft.evaluation import score_text
from regraft.graft import Graft
from regraft.language.tables import live_tables, resize, rows_of
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.initializer import Context, Target
from regraft.vocab.transplant.transplant import lay_out


class Perplexity:
    """`groups` of texts under the model of `context`. Each group counts the same, however long it is: a language does."""

    def __init__(self, target: Target, context: Context, method: str, groups: Sequence[Sequence[str]]) -> None:
        self.target, self.groups = target, [list(group) for group in groups if any(group)]
        self.model, _ = context.model(method)
        self.tokenizer = load_tokenizer(target.tokenizer)
        self.rows = rows_of(self.model)
        self.old = {role: table.detach().cpu().clone() for role, table in live_tables(self.model).items()}
        resize(self.model, len(target.source_ids))

    def __call__(self, given: Graft, sought: Graft) -> float:
        """Bits per byte with `given` on the input table and `sought` on the head and its bias."""
        live = live_tables(self.model)
        with torch.no_grad():
            for role, table in self.old.items():
                graft = sought if role in ("head", "bias") else given
                live[role].copy_(lay_out(table, self.target, graft, len(self.target.source_ids), self.rows))
        return sum(score_text(self.model, self.tokenizer, group).bits_per_byte for group in self.groups) / len(self.groups)
