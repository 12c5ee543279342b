"""SESA: text to named concepts, learned for ranking and from what objects are known to have."""

import copy
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Transformer
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.progress import console
from regraft.text.explicit.knowledge import KnowledgeBase
from regraft.text.explicit.naming import concept_layers, concept_names, inputs_of, name_dimensions
from regraft.text.fitting import Budget, fit
from regraft.text.modules.cached_states import CachedStates, cache_states
from regraft.text.tuner import Kind, Tuner
from regraft.text.tuners.sesa.groups import Group, apart, concept_rows, joint_rows, read_groups
from regraft.text.tuners.sesa.loss import Activation, Relevance, SesaLoss, Targets
from regraft.text.tuners.sesa.watching import Watch

Share = Annotated[float, Field(ge=0, le=1)]
ACTIVATIONS: dict[str, Any] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "softmax": lambda: nn.Softmax(dim=-1)}


class Sesa(Tuner):
    r""":math:`s = \sigma(W h + b)`, one unit a concept; :math:`L_{rel} + \lambda L_{con} + \mu \|s\|_1` on pairs.

    :math:`L_{rel}`: cross-entropy of :math:`\sigma(\alpha \cos(s_a, s_b) + \beta)`, alpha and beta learned. :math:`L_{con}`: cross-entropy
    of the units with the concepts that the knowledge base knows of each text, scaled by K over their mean number. First :math:`L_{con}`
    alone over all objects of the knowledge base, then both. Texts are found in the knowledge base by their wording.

    Only the abstract and the four parts (encoder, knowledge base, projector, scorer) are known from the paper and the patent application:
    how skills enter, all losses but the ranking's purpose, and every default are INFERRED.

    Parameters
    ----------
    knowledge : the .jsonl of objects and concepts (`regraft.text.explicit.knowledge`).
    dims : "explicit", or "latent": the same network without a word about concepts, whose dimensions then have no names.
    activation : of the units. tied : one encoder for both sides, or one each (`encode_query`, `encode_document`).
    relevance : "bce", or over pairs of a positive and a negative "logistic" or "hinge".
    margin : of the hinge.
    concept_weight : lambda. sparsity : mu. positive_weight : of a known concept. unknown_weight : rho, of one that nothing is said of.
    alpha, beta : where they start.
    pretrain : share of the steps for concepts alone. clip : of the gradient.
    negatives : drawn a pair that has none of its own. hard : share of them from the positive's category.
    min_objects : concepts of fewer objects are no dimension. rare : "drop" them, or count their objects for the "parent".
    ancestors : objects count for broader concepts too.
    start : W is "random", or "names": the vectors of the concepts' names (then `append_concept` adds one without training).
    trains : "all", or "head": the projection alone, over states of a frozen transformer that are computed once.
    watch : share of the anchors that the AUC is watched on. patience : checks without a gain that end the joint training, the best weights
        being kept; 0 trains all steps. checks : looks at the AUC.

    Returns a model of K named dimensions. Raises `ParameterError` without a knowledge base, `CorpusError` for one without concepts.
    """

    paper = Paper("SESA: Supervised Explicit Semantic Analysis", "Bogdanova and Yazdani", 2017, "1708.03246")
    summary = "dimensions that are named concepts, trained to rank and to tell them"
    takes: ClassVar[tuple[Kind, ...]] = ("pairs", "scored")

    knowledge: str = ""
    dims: Literal["explicit", "latent"] = "explicit"
    activation: Activation = "sigmoid"
    tied: bool = True
    relevance: Relevance = "bce"
    margin: PositiveFloat = 0.2
    concept_weight: NonNegativeFloat = 1.0
    sparsity: NonNegativeFloat = 0.0
    positive_weight: PositiveFloat = 1.0
    unknown_weight: Share = 0.1
    alpha: float = 5.0
    beta: float = -2.0
    pretrain: Share = 1 / 3
    clip: PositiveFloat = 5.0
    negatives: PositiveInt = 4
    hard: Share = 0.5
    min_objects: PositiveInt = 30
    rare: Literal["drop", "parent"] = "drop"
    ancestors: bool = True
    start: Literal["random", "names"] = "random"
    trains: Literal["all", "head"] = "all"
    watch: Share = 0.05
    patience: NonNegativeInt = 2
    checks: PositiveInt = 8

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        if not self.knowledge:
            raise ParameterError("sesa: which concepts? give a knowledge base: --set knowledge=FILE.jsonl")
        base = self.prepared(KnowledgeBase.open(self.knowledge))
        groups = read_groups(examples, base, negatives=self.negatives, hard=self.hard, seed=budget.seed)
        return self.learn(model, groups, base, budget)

    def prepared(self, base: KnowledgeBase) -> KnowledgeBase:
        """With ancestors, without rare concepts."""
        return (base.propagated() if self.ancestors else base).pruned(self.min_objects, self.rare)

    def learn(self, model: SentenceTransformer, groups: Sequence[Group], base: KnowledgeBase, budget: Budget) -> SentenceTransformer:
        """`model` with a projection onto the concepts of `base` (already prepared), trained on `groups`."""
        if self.relevance != "bce" and any(len(one.others) < 2 for one in groups):
            raise ParameterError(f"relevance={self.relevance} sets a positive beside negatives: give pairs, or take bce")
        explicit = self.dims == "explicit"
        targets = Targets(*base.labels(), positive=self.positive_weight, unknown=self.unknown_weight)
        torch.manual_seed(budget.seed)
        model, layers = self.projected(model, base, targets)
        places = {thing.text: place for place, thing in reversed(list(enumerate(base.things)))}
        training, watched = apart(groups, self.watch if self.patience else 0.0)
        if self.patience and len(watched) < 20:  # too few for an AUC
            training, watched = list(groups), []
        joint = joint_rows(training, places)
        concepts = concept_rows(base, towers=1 if self.tied else 2) if explicit and self.pretrain > 0 else None
        if budget.state is not None:
            budget = replace(budget, state=budget.state / base.digest[:8])
        with tempfile.TemporaryDirectory() if budget.state is None else nullcontext(str(budget.state)) as folder:
            texts = [*joint["anchor"], *(text for one in groups for text in one.others), *(thing.text for thing in base.things)]
            learner = self._learner(model, texts, Path(folder), budget)
            first = round(self.pretrain * budget.steps) if concepts is not None else 0
            stages = [("concepts", concepts, first), ("relevance", joint, budget.steps - first)]
            loss = SesaLoss(
                learner, layers, targets, relevance=self.relevance, activation=self.activation, margin=self.margin,
                concept_weight=self.concept_weight if explicit else 0.0, sparsity=self.sparsity, alpha=self.alpha, beta=self.beta,
            )  # fmt: skip
            for name, data, steps in stages:
                if data is None or steps < 1:
                    continue
                looks = Watch(learner, watched, max(1, steps // self.checks), self.patience) if name == "relevance" and watched else None
                loss.ranking = name == "relevance"
                own = replace(budget, steps=steps, weight_decay=0.0, max_grad_norm=self.clip, curve=[])
                tasks = {} if self.tied else {"router_mapping": _sides(data.column_names)}
                curve = fit(learner, loss, data, own, name=name, arguments=tasks, callbacks=[looks] if looks else [])
                budget.curve.extend((step + (first if name == "relevance" else 0), value) for step, value in curve)
                if looks is not None:
                    looks.restore()
                    console.print(f"AUC on {len(watched):,} pairs kept apart: {looks.told()}", highlight=False)
            loss.release()
        model.requires_grad_(True)
        if explicit:
            name_dimensions(model, base.names)
        return model.eval()

    def projected(self, model: SentenceTransformer, base: KnowledgeBase, targets: Targets) -> tuple[SentenceTransformer, list[Dense]]:
        """`model` with a layer onto concepts at its end, or as it is where it has these very ones; and that layer, or two of two towers."""
        if concept_layers(model) and concept_names(model) == base.names:
            return model, concept_layers(model)
        while isinstance(model[-1], Normalize):
            del model[-1]
        width, count = int(model.get_embedding_dimension() or 0), targets.concepts
        share = min(max(targets.per_object / count, 1e-4), 0.5)
        layer = Dense(
            width,
            count,
            activation_function=ACTIVATIONS[self.activation](),
            init_bias=torch.full((count,), float(np.log(share / (1 - share)))),
        )
        model.append(layer.to(model.device))
        if self.start == "names":
            given = [": ".join(filter(None, (one.name, one.text))) for one in base.concepts.values()]
            rows = inputs_of(model, layer, given)
            layer.linear.weight.data.copy_(rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12) * layer.linear.weight.norm(dim=1).mean())
        if self.tied:
            return model, [layer]
        parts: list[Any] = [*model.children()]
        twin = copy.deepcopy(parts)
        router = Router.for_query_document(query_modules=parts, document_modules=twin, default_route="document")
        routed = SentenceTransformer(modules=[router], device=str(model.device))
        routed.prompts |= model.prompts
        return routed, [layer, twin[-1]]

    def _learner(self, model: SentenceTransformer, texts: list[str], folder: Path, budget: Budget) -> SentenceTransformer:
        """What is trained: the model itself, or what follows its frozen transformer, over cached states."""
        if self.trains == "all":
            return model
        body: Any = model[0]
        if not self.tied or not isinstance(body, Transformer):
            raise ParameterError("sesa: trains=head freezes one transformer: take tied=true and an encoder that begins with one")
        file = folder / "states.safetensors"
        cache_states(
            body, list(dict.fromkeys(texts)), file, key=f"{body.model.config.to_json_string()} {body.max_seq_length}", device=budget.device
        )
        return SentenceTransformer(modules=[CachedStates(file), *list(model)[1:]], device=budget.device)


def _sides(columns: Sequence[str]) -> dict[str, str]:
    return {name: "query" if name == "anchor" else "document" for name in columns if name != "label"}
