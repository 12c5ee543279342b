"""Fields that the general rules do not shrink, or that must agree with each other, class by class."""

from collections.abc import Callable
from typing import Any

MOBILEBERT = {"embedding_size": 16, "hidden_size": 32, "true_hidden_size": 16, "intra_bottleneck_size": 16, "use_bottleneck": True}
KINDS = ["sliding_attention", "full_attention"]
WHOLE = {"text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}}
HALF = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5}

BY_HAND: dict[str, dict[str, Any]] = {
    "MobileBertForMaskedLM": MOBILEBERT,
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "Gemma3nForCausalLM": {
        "num_kv_shared_layers": 0,
        "layer_types": KINDS,
        "num_hidden_layers": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "Mamba2ForCausalLM": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "DeepseekV2ForCausalLM": {"num_experts_per_tok": 2, "n_routed_experts": 4, "head_dim": 16},
    "Dots1ForCausalLM": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "MusicgenForCausalLM": {"num_codebooks": 1},
    "MusicgenMelodyForCausalLM": {"num_codebooks": 1},
    "ReformerModelWithLMHead": {"axial_pos_embds": False, "attention_head_size": 16, "is_decoder": True},
    "ReformerForMaskedLM": {"axial_pos_embds": False, "attention_head_size": 16, "is_decoder": False},
    "XmodForCausalLM": {"default_language": "en_XX"},
    "XmodForMaskedLM": {"default_language": "en_XX"},
    "EsmForMaskedLM": {
        "emb_layer_norm_before": False,
        "token_dropout": False,
        "position_embedding_type": "rotary",
        "pad_token_id": 0,
        "mask_token_id": 4,
    },
    "Glm4vMoeForConditionalGeneration": {"text_config": {"rope_parameters": HALF}},
    **dict.fromkeys(("Glm46VForConditionalGeneration", "Glm4vForConditionalGeneration", "GlmOcrForConditionalGeneration"), WHOLE),
    **dict.fromkeys(
        ("PaddleOCRVLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen2VLForConditionalGeneration"), WHOLE
    ),
    "BambaForCausalLM": {"attn_layer_indices": [1]},
    "GraniteMoeHybridForCausalLM": {"layer_types": ["mamba", "attention"], "num_hidden_layers": 2},
    "BailingHybridForCausalLM": {"num_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "xLSTMForCausalLM": {"hidden_size": 64, "embedding_dim": 64, "num_heads": 2, "qk_dim_factor": 0.5, "v_dim_factor": 1.0},
    "RecurrentGemmaForCausalLM": {"num_hidden_layers": 3},
}
CONFIGS: dict[str, Callable[[int], Any]] = {}  # whole configurations, by the size of the vocabulary
