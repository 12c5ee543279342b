"""Transformers default: what `resize_token_embeddings` does when nobody chooses, kept for comparison."""

from typing import ClassVar

import torch

from regraft.graft import Rows
from regraft.graft.moments import mean_and_std, sample_near_mean
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class TransformersDefault(Initializer):
    r"""The mean-resizing default of Hugging Face transformers: :math:`e \sim N(\mu, 10^{-9}\,\Sigma)`; the bias of an untied head
    :math:`b \sim N(\bar b, (10^{-9}\sigma_b)^2)`, that of a tied head 0.

    The rows differ by about 1e-5 a coordinate, so in effect all new tokens start as one and the same row. Shipped because it is what
    users get today.

    Returns rows of shape (new tokens, d) and biases; input table and untied head each use their own statistics.
    """

    paper = Paper(
        "Initializing New Word Embeddings for Pretrained Language Models",
        "Hewitt",
        2021,
        url="https://nlp.stanford.edu/~johnhew/vocab-expansion.html",
    )
    summary = "what resize_token_embeddings does: the mean row with a tremor"
    separate_head: ClassVar[bool] = True

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        generator = source.generator(context)
        values = sample_near_mean(source.table, len(target), 1e-9, generator)
        if source.bias is None:
            return Rows(values)
        if source.tied:  # transformers resizes only the shared table, and pads the bias
            return Rows(values, torch.zeros(len(target), dtype=source.bias.dtype))
        mean, std = mean_and_std(source.bias.unsqueeze(1))
        noise = torch.randn(len(target), generator=generator, dtype=torch.float64)
        return Rows(values, (mean[0] + 1e-9 * std[0] * noise).to(source.bias.dtype))
