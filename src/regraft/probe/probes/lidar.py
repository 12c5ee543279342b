"""LiDAR: the effective rank of what tells samples apart, beside what their views differ by."""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torchmetrics.utilities import dim_zero_cat

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.probe.probe import Measurement
from regraft.probe.spectrum.draws import interval_of, multiplicities
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.moments import as_block, gram_of
from regraft.probe.spectrum.ranks import exponential_entropy

GROUPS = 20  # of samples, drawn again for the interval


class Lidar(RowProbe):
    r"""LiDAR (section 3 of the paper): a linear discriminant analysis whose classes are samples and whose members are their views.

    For n samples with q views each, :math:`e_{ij} \in \mathbb{R}^d`, means :math:`\mu_i` and their mean :math:`\mu`:
    :math:`\Sigma_b = \frac{1}{n-1} \sum_i (\mu_i - \mu)(\mu_i - \mu)^\top`,
    :math:`\Sigma_w = \frac{1}{n(q-1)} \sum_{ij} (e_{ij} - \mu_i)(e_{ij} - \mu_i)^\top + \delta I`. With :math:`\lambda` the eigenvalues of
    :math:`\Sigma_w^{-1/2} \Sigma_b \Sigma_w^{-1/2}` and :math:`p_i = \lambda_i / \sum \lambda + \epsilon`:
    :math:`\mathrm{LiDAR} = \exp(-\sum_i p_i \log p_i)`. Samples may have different numbers of views (then n (q - 1) is the sum of q_i - 1).

    `update(rows, sample_ids)` groups rows by their ids, wherever they come; `update(views)` takes (n, q, d). A class is views of one
    sample: rows in the order of a shuffled queue are never cut into classes.

    Parameters
    ----------
    delta : added to the diagonal of the within-sample covariance. The paper's 1e-4.
    epsilon : added to the p. The paper's 1e-8.
    epsilon_added : "after" the division (p sums to a little more than 1) or "before" it (to each eigenvalue; then p sums to 1). Which one
        the paper means is inferred; the difference is below 1e-5.

    Returns a number from 1 to min(d, n - 1), NaN where all means are alike. Raises `ParameterError` for fewer than two samples, for no
    sample with two views, and for rows without ids; `InputError` for NaN and infinity.
    """

    paper = Paper("LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures", "Thilak et al.", 2024, "2312.04000")
    summary = "effective rank of what tells samples apart beside what views differ by"
    needs = ("sample_ids",)
    unit = "dimensions"
    higher_is_better: bool | None = True
    view_gram: torch.Tensor
    sample_ids: list[torch.Tensor]
    view_sums: list[torch.Tensor]
    view_counts: list[torch.Tensor]
    read = "higher: more directions tell samples apart; at most samples - 1; it depends on how the views were made"

    def __init__(
        self,
        *,
        delta: Annotated[float, Field(gt=0)] = 1e-4,
        epsilon: Annotated[float, Field(ge=0, lt=1)] = 1e-8,
        epsilon_added: Literal["after", "before"] = "after",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.delta, self.epsilon, self.epsilon_added = delta, epsilon, epsilon_added
        self.add_state("view_gram", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("sample_ids", "view_sums", "view_counts"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.samples = 0  # goes on after `reset`, which `forward` calls for every batch

    def update(self, rows: torch.Tensor, sample_ids: torch.Tensor | None = None) -> None:
        """Add views: rows (m, d) with their samples' ids (m,), not negative; or (n, q, d), whose n samples are new ones."""
        rows, sample_ids = self._with_ids(rows, sample_ids)
        block = as_block(rows, name=self.name).to(self.device)
        ids, place = torch.unique(sample_ids.to(self.device), return_inverse=True)
        sums = block.new_zeros(len(ids), block.shape[1]).index_add_(0, place, block)
        if self.view_gram.ndim and len(self.view_gram) != block.shape[1]:
            raise ParameterError(
                f"{self.name}: rows of {block.shape[1]} columns after rows of {len(self.view_gram)}: give rows of one space"
            )
        self.view_gram = self.view_gram + gram_of(block)
        for name, value in (("sample_ids", ids), ("view_sums", sums), ("view_counts", torch.bincount(place, minlength=len(ids)))):
            getattr(self, name).append(value)

    def _with_ids(self, rows: Any, sample_ids: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.as_tensor(rows)
        if rows.ndim == 3 and sample_ids is None:
            rank = torch.distributed.get_rank() if torch.distributed.is_available() and torch.distributed.is_initialized() else 0
            first = (rank << 40) + self.samples  # no two processes give one id; negative, so that none is the user's
            self.samples += len(rows)
            sample_ids = -1 - torch.arange(first, first + len(rows)).repeat_interleave(rows.shape[1])
            return rows.flatten(0, 1), sample_ids
        if sample_ids is None:
            raise ParameterError(f"{self.name}: rows without sample_ids: say which rows are views of one sample, or give (n, q, d)")
        ids = torch.as_tensor(sample_ids)
        if ids.shape != (len(rows),) or ids.is_floating_point() or ids.is_complex() or (len(ids) and int(ids.min()) < 0):
            shape = tuple(ids.shape)
            raise ParameterError(f"{self.name}: sample_ids of shape {shape} and type {ids.dtype}: give {len(rows)} integers, none negative")
        return rows, ids.to(torch.int64)

    def compute(self) -> torch.Tensor:
        if not len(self.sample_ids):
            raise ParameterError(f"{self.name}: no rows yet: call update with some first")
        sums, counts = self._samples()
        scatter = self.view_gram - (sums / counts[:, None]).T @ sums
        return torch.tensor(self.figure(scatter, sums / counts[:, None], counts), dtype=torch.float64)

    def _samples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum (n, d) and number (n,) of each sample's views, from all updates and processes."""
        ids, place = torch.unique(dim_zero_cat(self.sample_ids), return_inverse=True)
        parts, counts = dim_zero_cat(self.view_sums), dim_zero_cat(self.view_counts)
        sums = parts.new_zeros(len(ids), parts.shape[1]).index_add_(0, place, parts)
        return sums, parts.new_zeros(len(ids)).index_add_(0, place, counts.to(parts))

    def figure(self, scatter: torch.Tensor, means: torch.Tensor, counts: torch.Tensor, weights: torch.Tensor | None = None) -> float:
        """The measure: scatter within samples (d, d), their means (n, d), numbers of views (n,), and how often each sample counts (n,)."""
        weights = torch.ones_like(counts) if weights is None else weights
        n, spare = float(weights.sum()), float((weights * (counts - 1)).sum())
        if n < 2 or spare < 1:
            raise ParameterError(f"{self.name}: {int(n)} samples with {int(spare)} views beyond the first: it needs two samples, and views")
        between = means - (weights @ means) / n
        between = (between * weights[:, None]).T @ between / (n - 1)
        within = scatter / spare
        values, vectors = torch.linalg.eigh((within + within.T) / 2)
        whitening = (vectors / (values.clamp(min=0) + self.delta).sqrt()) @ vectors.T
        product = whitening @ between @ whitening
        told = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0)
        if self.epsilon_added == "before":
            return exponential_entropy(told + self.epsilon, 0.0) if told.sum() > 0 else float("nan")
        return exponential_entropy(told, self.epsilon)

    def measure(self, rows: Any, sample_ids: Any = None, *, seed: int = 0, draws: int = 50) -> Measurement:
        """The figure of rows (m, d) and their samples' ids (m,), or of (n, q, d), with an interval by drawing samples again."""
        metric = Lidar(delta=self.delta, epsilon=self.epsilon, epsilon_added=self.epsilon_added)
        rows, sample_ids = metric._with_ids(rows, sample_ids)
        metric.update(rows, sample_ids.abs())
        value = float(metric.compute())
        sums, counts = metric._samples()
        groups = min(GROUPS, len(counts) // 2)
        notes, drawn = [], []
        if groups > 1 and draws:
            means = sums / counts[:, None]
            rng = np.random.default_rng(seed)
            group = torch.from_numpy(rng.permutation(np.arange(len(counts)) % groups))
            place = torch.unique(sample_ids.abs(), return_inverse=True)[1]
            apart = as_block(rows) - means[place]
            scatters = torch.stack([gram_of(apart[group[place] == g]) for g in range(groups)])
            for drawn_groups in multiplicities(groups, draws, rng):
                weights = drawn_groups[group]
                if float((weights * (counts - 1)).sum()) >= 1:
                    drawn.append(self.figure(torch.einsum("g,gij->ij", drawn_groups, scatters), means, counts, weights))
            notes.append(f"interval: {draws} draws of {groups} random groups of samples")
        if len(counts) <= rows.shape[1]:
            notes.append(f"only {len(counts)} samples for {rows.shape[1]} columns: it can't exceed {len(counts) - 1}")
        interval = interval_of(value, drawn, groups)
        return Measurement(name=self.name, value=value, unit=self.unit, read=self.read, interval=interval, notes=tuple(notes))
