"""What a network is given before it learns: hyperbolic features, state spaces, fixed class vectors, rich features, nameless symbols.

Parts are `nn.Module`s, losses of pytorch-metric-learning, and functions; each is loaded on first use.
"""

import importlib
from typing import Any

_HOMES: dict[str, str] = {}  # the public name of a part: the module below this one that has it
_HOMES |= dict.fromkeys(("Bases", "grow_bases", "make_bases"), "equiangular.bases")
_HOMES |= dict.fromkeys(("S4D", "S4DConfig", "param_groups"), "ssm.layer") | dict.fromkeys(("S4DBlock", "S4DModel"), "ssm.network")
_HOMES |= dict.fromkeys(("LexinvariantConfig", "LexinvariantLM"), "lexinvariant.model") | {"decipher": "lexinvariant.decipher"}
_HOMES |= {"keyed_rows": "lexinvariant.tables"}
_HOMES |= {"s4d_init": "ssm.initial", "vandermonde": "ssm.vandermonde"}
_HOMES |= {"EquiangularClassifier": "equiangular.head", "EquiangularHead": "equiangular.head", "swap_head": "equiangular.swap"}
_HOMES |= {"open_reader": "lexinvariant.reading"}
_HOMES |= dict.fromkeys(("EpisodeLoss", "ICNNLoss", "ProtoNetLoss", "ProtoTripletLoss"), "episodes.losses")
_HOMES |= dict.fromkeys(("RichFeatures", "rich_features", "predict_then_interpolate"), "rich.construction")
_HOMES |= dict.fromkeys(("EuclideanResNet", "PoincareResNet"), "poincare.resnet")
_HOMES |= dict.fromkeys(("PoincareConv2d", "PoincareLinear"), "poincare.layers")
_HOMES |= {"PoincareBatchNorm": "poincare.normalization", "hyperbolize": "poincare.conversion"}
_HOMES |= {"EpisodeSampler": "episodes.sampler", "icnn_score": "episodes.icnn"}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
