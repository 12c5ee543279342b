"""Tiny random models: every class of the auto mappings with text ids as input, its configuration shrunk by the names of its fields.

Enters: a class name. Leaves: a model of some ten thousand numbers with values everywhere, whose stored ids each name a special token.
"""

import re
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

KINDS = {"causal": "CAUSAL_LM", "masked": "MASKED_LM", "sequence-to-sequence": "SEQ_TO_SEQ_CAUSAL_LM", "image-text": "IMAGE_TEXT_TO_TEXT"}
LAYERS = 0  # stands for the number of layers
LARGEST = 20_000_000  # numbers in a model that counts as shrunk
# field -> the most it may be
SIZES = [
    (r"hidden_size|d_model|n_embd|.*embed_dim|emb_dim|hidden_dim|embedding_size|width|word_embed_proj_dim|.*projection_dim", 32),
    (r"encoder_hidden_size|dim_model|output_hidden_size|out_hidden_size|cross_attention_hidden_size|proj_dim|vision_output_dim", 32),
    (r"d_embed|attention_hidden_size|lru_width|input_embedding_size|embedding_dim|mm_hidden_size|d_latents|dim|.*_hidden_size", 32),
    (r"num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|num_(en|de)coder_layers|depth|num_(global_)?layers", LAYERS),
    (r"num_blocks|num_mtp_layers|num_nextn_predict_layers|mtp_num_hidden_layers|.*_n_layers|.*num_hidden_layers", LAYERS),
    (r".*num_attention_heads|n_heads?|num_heads|attention_heads|(num_)?(en|de)coder_attention_heads", 2),
    (r".*num_key_value_heads|num_kv_heads|n_head_kv|multi_query_group_num", 2),
    (r"qk_rope_head_dim", 16),
    (r"head_dim|d_kv|attention_head_dim|d_head|v_head_dim|qk_nope_head_dim|kv_channels|global_head_dim", 16),
    (r"rotary_dim", 8),
    (r"kv_lora_rank|q_lora_rank", 16),
    (
        r"ffn_dim|d_ff|n_inner|(en|de)coder_ffn_dim|ffn_hidden_size|d_inner|mlp_dim|feed_forward_hidden_size|dim_ff|.*intermediate_size.*",
        48,
    ),
    (r"mlp_hidden_size|intermediate_dim|ff_dim|.*ffn_hidden_size", 48),
    (r"num_(local_)?experts|n_routed_experts|moe_num_experts|num_routed_experts", 4),
    (r"num_experts_per_tok(en)?|moe_top_?k|moe_k|top_k_experts", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"max_position_embeddings|n_positions|max_sequence_length|n_ctx|max_seq_len|max_(target|source)_positions|max_length", 256),
    (r"max_2d_position_embeddings", 64),
    (r"image_size", 32),
    (r"patch_size", 8),
    (r"sliding_window|attention_window|local_attention|window_size|attention_chunk_size", 64),
    (r"first_k_dense_replace", 1),
    (r"mamba_d_state|state_size|ssm_state_size", 8),
    (r"type_vocab_size", 2),
    (r"entity_vocab_size|encoder_hash_byte_group_vocab", 50),
    (r"mamba_n_heads", 4),
    (r"mamba_d_head|mamba_head_dim", 16),
]
UNSET = {"head_dim": 16, "num_key_value_heads": 2, "vocab_size": 0}  # what a default of None becomes
IDS = re.compile(r".*_token_(id|index)|.*_token_ids?|forced_(bos|eos)_token_id|.*_token|mask_index|(pad|bos|eos|unk)_index")
ROLES = {"pad": 0, "bos": 1, "eos": 2, "unk": 3, "mask": 4, "cls": 1, "sep": 2, "decoder_start": 1}


def every_class() -> dict[str, str]:
    """Class name -> kind, of the classes of the auto mappings in their order."""
    found: dict[str, str] = {}
    for kind, mapping in KINDS.items():
        for names in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").values():
            for name in [names] if isinstance(names, str) else names:
                found.setdefault(name, kind)
    return found


def build(name: str, kind: str, vocab_size: int, first_extra: int) -> Any:
    """A model of class `name` over `vocab_size` tokens; ids that its configuration stores are special tokens from `first_extra` on.

    It has two layers, or as many as it takes to run. Raises whatever the class raises if it cannot be shrunk.
    """
    for layers in (2, 4, 6):
        try:
            model = _built(name, kind, vocab_size, first_extra, layers)
            ids = torch.tensor([[5, 6, 7, 8]])
            more = {"decoder_input_ids": ids} if getattr(model.config, "is_encoder_decoder", False) else {}
            with torch.no_grad():
                model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
        except Exception as error:
            failure = error
        else:
            return model
    raise failure


def _built(name: str, kind: str, vocab_size: int, first_extra: int, layers: int) -> Any:
    from every_family.by_hand import BY_HAND, CONFIGS

    cls = getattr(transformers, name)
    config = CONFIGS[name](vocab_size) if name in CONFIGS else shrunk(cls.config_class, vocab_size, BY_HAND.get(name, {}), layers)
    if kind == "causal" and hasattr(config, "is_decoder"):
        config.is_decoder = True
    assign_ids(config, iter(range(first_extra, vocab_size)))
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in cls(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters after shrinking")
    torch.manual_seed(0)
    model = cls(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def shrunk(config_class: Any, vocab_size: int, by_hand: dict[str, Any], layers: int = 2) -> Any:
    """A configuration of `config_class` with small sizes at every depth, then the fields of `by_hand`."""
    whole = config_class()
    text = whole.get_text_config()

    def small(config: Any, top: bool, named: str = "") -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, value in vars(config).items():
            if isinstance(value, PreTrainedConfig):
                fields[key] = small(value, False, key)
            elif value is None and key in UNSET:
                fields[key] = vocab_size if key == "vocab_size" else UNSET[key]
            elif isinstance(value, dict) and "mrope_section" in value:
                fields[key] = value | {"mrope_section": [2, 3, 3]}
            elif type(value) is int:
                if re.fullmatch(r"vocab_size|n_words|vocab_size_per_layer_input|text_vocab_size", key):
                    fields[key] = vocab_size if top or config is text or named in ("encoder", "decoder") else min(value, 50)
                elif limits := [most or layers for pattern, most in SIZES if re.fullmatch(pattern, key)]:
                    fields[key] = min(value, limits[0])
        return fields

    return config_class(**merged(small(whole, True), by_hand))


def merged(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    new = dict(fields)
    for key, value in more.items():
        new[key] = merged(new[key], value) if isinstance(value, dict) and isinstance(new.get(key), dict) else value
    return new


def assign_ids(config: Any, extra: Any) -> None:
    """Every stored id names a special token: the usual roles the first ones, all others one each of `extra`."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            assign_ids(value, extra)
        elif IDS.fullmatch(key) and (type(value) is int or (isinstance(value, list) and value and all(type(v) is int for v in value))):
            role = re.sub(r"^forced_|_(token_)?(ids?|index)$", "", key)
            new = ROLES[role] if role in ROLES else next(extra)
            setattr(config, key, new if isinstance(value, int) else [new])
