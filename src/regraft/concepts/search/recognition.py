"""Tasks of seeing: classes by CLIP, masks by CLIPSeg, boxes by OWL-ViT. What a model sees is computed once, before the search.

Each takes a frozen model of transformers and labelled images, and gives a `Task` for `search`; nothing of the model runs in a step but
what reads the rows. `classification` and `dense` take features alone, from any model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate, normalize

from regraft.concepts.search.class_rows import by_class
from regraft.concepts.search.core import Task, examples
from regraft.errors import ParameterError

FEW = 16  # images that a model sees at once


@torch.no_grad()
def clip_features(clip: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What CLIP sees of images (n, 3, h, w): (n, width)."""
    return torch.cat([clip.get_image_features(part).pooler_output for part in pixels.split(FEW)])  # type: ignore[no-untyped-call]


def classification(
    features: torch.Tensor,
    labels: torch.Tensor,
    owner: torch.Tensor,
    *,
    scale: float = 100.0,
    cosine: bool = True,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = cross_entropy,
) -> Task:
    """Which class an image is of, by its feature's product with rows.

    Parameters
    ----------
    features : (n, width), see `clip_features`. labels : (n,), or what `loss` takes. owner : (rows,) class of each row.
    scale : of the cosine, CLIP's `logit_scale.exp()`. cosine : False for plain products.
    """
    count = int(owner.max()) + 1

    def model(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        scores = normalize(x, dim=-1) @ normalize(rows, dim=-1).T if cosine else x @ rows.T
        return by_class(scale * scores, owner, count)

    return Task(model, loss, examples(features, labels))


def dense(features: torch.Tensor, masks: torch.Tensor, *, scale: float = 20.0, shift: float = 0.5) -> Task:
    """Which pixels belong to a class, by the cosine of each pixel's feature with the class's row.

    Parameters
    ----------
    features : (n, width, h, w). masks : (n, classes, H, W) in [0, 1]. scale, shift : logits are ``scale * (cosine - shift)``.
    """
    looked = normalize(features, dim=1)

    def model(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        scores = scale * (torch.einsum("nwhv,cw->nchv", x, normalize(rows, dim=-1)) - shift)
        return interpolate(scores, size=masks.shape[-2:], mode="bilinear")

    return Task(model, mask_loss, examples(looked, masks))


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of pixels and the Dice loss of masks that hold any, one to one; (n, classes, h, w) each."""
    told, true = logits.sigmoid().flatten(2), masks.flatten(2)
    dice = 1 - (2 * (told * true).sum(-1) + 1) / (told.sum(-1) + true.sum(-1) + 1)
    there = (true > 0).any(-1)
    return binary_cross_entropy_with_logits(logits, masks) + (dice * there).sum() / there.sum().clamp(min=1)


def segmentation(clipseg: Any, pixels: torch.Tensor, masks: torch.Tensor) -> Task:
    """Masks of classes by `CLIPSegForImageSegmentation`, whose decoder reads rows as `conditional_embeddings`.

    Parameters
    ----------
    pixels : (n, 3, h, w), h and w the model's. masks : (n, classes, h, w) in [0, 1], one class for each row.
    """
    with torch.no_grad():
        seen = [
            clipseg.clip.get_image_features(part, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
            for part in pixels.split(FEW)  # type: ignore[no-untyped-call]
        ]
    layers = [torch.cat([part[number + 1] for part in seen]) for number in clipseg.extract_layers]

    def model(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        n, classes = len(x), len(rows)
        repeated = [layer.repeat_interleave(classes, 0) for layer in x.unbind(1)]
        found: torch.Tensor = clipseg.decoder(repeated, rows.repeat(n, 1)).logits
        return found.reshape(n, classes, *found.shape[-2:])

    return Task(model, mask_loss, examples(torch.stack(layers, 1), masks))


def detection(
    owlvit: Any, pixels: torch.Tensor, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor], owner: torch.Tensor
) -> Task:
    """Boxes of classes by `OwlViTForObjectDetection`, whose class head reads rows as `query_embeds`.

    Its boxes do not depend on the rows: they are predicted and matched to the true ones once (distance 5, generalized overlap 2), and the
    loss is that of the class head, focal (alpha 0.25, gamma 2), per true box.

    Parameters
    ----------
    pixels : (n, 3, h, w). boxes : for each image (m, 4), center, width and height in [0, 1]. labels : for each image (m,).
    owner : (rows,) class of each row.
    """
    if not len(pixels) == len(boxes) == len(labels):
        raise ParameterError(f"{len(pixels)} images, {len(boxes)} lists of boxes and {len(labels)} of labels: give as many of each")
    count = int(owner.max()) + 1
    with torch.no_grad():
        maps = torch.cat([owlvit.image_embedder(part)[0] for part in pixels.split(FEW)])  # type: ignore[no-untyped-call]
        seen = maps.flatten(1, 2)
        predicted = owlvit.box_predictor(seen, maps)
    target = torch.zeros(*seen.shape[:2], count, device=seen.device)
    for image, (true, named) in enumerate(zip(boxes, labels, strict=True)):
        for place, box in zip(*matched(predicted[image], true.to(predicted)), strict=True):
            target[image, place, named[box]] = 1

    def model(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return by_class(owlvit.class_predictor(x, rows.expand(len(x), -1, -1))[0], owner, count)

    return Task(model, focal_loss, examples(seen, target))


def matched(predicted: torch.Tensor, true: torch.Tensor) -> tuple[list[int], list[int]]:
    """Which predicted box (p, 4) goes with which true one (m, 4): the cheapest pairs by distance and generalized overlap."""
    from scipy.optimize import linear_sum_assignment

    cost = 5 * torch.cdist(predicted.float(), true.float(), p=1) - 2 * overlap(corners(predicted), corners(true))
    found = linear_sum_assignment(cost.cpu().numpy())
    return [int(one) for one in found[0]], [int(one) for one in found[1]]


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (n, 4) of center and size as left, top, right, bottom."""
    center, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat([center - size / 2, center + size / 2], 1)


def overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Generalized overlap of boxes (n, 4) and (m, 4), (n, m) in (-1, 1]."""
    low, high = torch.max(a[:, None, :2], b[None, :, :2]), torch.min(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).prod(-1) for one in (a, b)]
    union = areas[0][:, None] + areas[1][None] - both
    hull = (torch.max(a[:, None, 2:], b[None, :, 2:]) - torch.min(a[:, None, :2], b[None, :, :2])).prod(-1)
    return both / union - (hull - union) / hull


def focal_loss(logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Focal loss of scores (n, places, classes), summed and divided by the number of true boxes."""
    each = binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(target > 0, alpha, 1 - alpha)
    return (weight * (1 - right) ** gamma * each).sum() / target.sum().clamp(min=1)
