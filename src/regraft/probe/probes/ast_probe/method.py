"""AST-Probe as a method: its hyper-parameters, and the measurement of a model layer by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regraft.method import Method, Paper
from regraft.probe.probe import Measurement, Probe


class ASTProbe(Probe, Method):
    r"""Macro F1 of the labelled constituents that a low-rank orthogonal projection rebuilds from a layer (paper, section 3).

    A tree of tokens :math:`w_0 \dots w_n` is (d, c, u): heights and labels of the lowest common ancestors of neighbours, unary labels of
    tokens. Of hidden states H: :math:`T = H B`, :math:`\hat d_i = \lVert T_i - T_{i-1} \rVert^2`, labels from
    :math:`(T_i - T_{i-1}) V_c` and :math:`T_i V_u`. Trained on
    :math:`L_d + L_c + L_u + \lambda \lVert B^\top B - I \rVert_F^2`, where :math:`L_d` is the hinge
    :math:`\max(0, 1 - (\hat d_i - \hat d_j))` averaged over all pairs of a batch with :math:`d_i > d_j` in one snippet, the others cross
    entropies. Snippets of held-out files are rebuilt by splitting where :math:`\hat d` is highest.

    Parameters
    ----------
    rank : m2, columns of B; at most the model's width. orthogonality : lambda. lr, batch, epochs, patience : of Adam; after an epoch
        without a lower validation loss the rate falls to a tenth, after `patience` of them training stops; the best weights are kept.
        Epochs before B is orthogonal do not count for that.
    compat : "released" counts constituents by membership in lists, so that copies can count twice, and takes labels from validation and
        test snippets too, as the released code does. None counts multisets and knows the labels of training alone; others are missed.

    Returns F1 from 0 to 1, with precision, recall and an interval over snippets; raises `ParameterError` for a rank above the width.
    A causal model sees only what stands to the left of a token, which holds its figures down for that reason alone.
    """

    name = "ast-probe"
    paper = Paper(
        "AST-Probe: Recovering abstract syntax trees from hidden representations of pre-trained language models",
        "Hernández López et al.",
        2022,
        "2206.11719",
    )
    summary = "F1 of syntax trees that a low-rank projection rebuilds from a layer"

    rank: Annotated[int, Field(ge=1)] = 128
    orthogonality: Annotated[float, Field(ge=0)] = 5.0
    lr: Annotated[float, Field(gt=0)] = 1e-3
    batch: Annotated[int, Field(ge=1)] = 32
    epochs: Annotated[int, Field(ge=1)] = 20
    patience: Annotated[int, Field(ge=1)] = 5
    compat: Literal["released"] | None = None

    def measure(
        self,
        model: Any,
        tokenizer: Any,
        snippets: Sequence[Any],
        *,
        layers: Sequence[int] | None = None,
        controls: bool = True,
        seed: int = 0,
        cache: Path | None = None,
    ) -> list[Measurement]:
        """Macro F1 of each layer of a `transformers` model over `Snippet`s, three quarters of whose files it learns from.

        Parameters
        ----------
        layers : 0 is the input, -1 the last; None for all. controls : measure layer 0 and the same model with random layers too.
        cache : a folder of this model alone, in which states and finished probes are kept.

        Raises `ParameterError` for a layer that is not there and a rank above the width, `InputError` for snippets of fewer than three
        files.
        """
        from regraft.probe.probes.ast_probe.sweep import Sweep

        sweep = Sweep.of(self, model, tokenizer, snippets, seed=seed, cache=cache)
        return [outcome.measurement for outcome in sweep.layers(layers, controls=controls)]
