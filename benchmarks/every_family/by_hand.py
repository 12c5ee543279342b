"""Fields that the general rules do not shrink, or that must agree with each other, class by class."""

from collections.abc import Callable
from typing import Any

MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
MOBILEBERT = {"embedding_size": 16, "hidden_size": 32, "true_hidden_size": 16, "intra_bottleneck_size": 16, "use_bottleneck": True}

BY_HAND: dict[str, dict[str, Any]] = {
    "MobileBertForMaskedLM": MOBILEBERT,
    "Qwen2_5_VLForConditionalGeneration": {"text_config": {"rope_parameters": MROPE}},
    "Qwen2VLForConditionalGeneration": {"text_config": {"rope_parameters": MROPE}},
}
CONFIGS: dict[str, Callable[[int], Any]] = {}  # whole configurations, by the size of the vocabulary
