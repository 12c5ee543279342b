"""Tiny random models of every architecture that checkpoints are tested with, and what tests do with them."""

import json
import shutil
import struct

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from regraft.checkpoint import Appended
from regraft.errors import InputError

V, D, NEW = 96, 16, 7
# Positions, token types and vocabulary all have V rows, so that shapes cannot tell them apart.
LLAMA = {"vocab_size": V, "hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "max_position_embeddings": V, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
BERT = {"vocab_size": V, "hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
BART = {"vocab_size": V, "d_model": D, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": V,
        "pad_token_id": 0, "decoder_start_token_id": 0}  # fmt: skip
T5 = {"vocab_size": V, "d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
MODELS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**LLAMA, tie_word_embeddings=False)),
    "llama-tied": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "gpt2": lambda t: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=V, n_embd=D, n_layer=2, n_head=2, n_positions=V, bos_token_id=1, eos_token_id=1)
    ),
    "qwen2": lambda t: t.Qwen2ForCausalLM(t.Qwen2Config(**LLAMA, tie_word_embeddings=True)),
    "qwen3": lambda t: t.Qwen3ForCausalLM(t.Qwen3Config(**LLAMA, head_dim=8)),
    "gemma3": lambda t: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**LLAMA, head_dim=8)),
    "bert": lambda t: t.BertModel(t.BertConfig(**BERT, type_vocab_size=V)),
    "bert-mlm": lambda t: t.BertForMaskedLM(t.BertConfig(**BERT, type_vocab_size=V)),
    "roberta-mlm": lambda t: t.RobertaForMaskedLM(t.RobertaConfig(**BERT, type_vocab_size=V)),
    "modernbert-mlm": lambda t: t.ModernBertForMaskedLM(t.ModernBertConfig(**BERT, cls_token_id=1, sep_token_id=2)),
    "t5": lambda t: t.T5ForConditionalGeneration(t.T5Config(**T5)),
    "marian": lambda t: t.MarianMTModel(t.MarianConfig(**BART)),
    "bart": lambda t: t.BartForConditionalGeneration(t.BartConfig(**BART, bos_token_id=1, eos_token_id=2, forced_eos_token_id=2)),
}


def save_models(root):
    """Every architecture of `MODELS` with random weights everywhere (fresh models have biases of zero), as transformers saves it."""
    torch.manual_seed(0)
    for name, build in MODELS.items():
        model = build(transformers)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            for key, buffer in model.named_buffers():
                if key == "final_logits_bias":
                    buffer.normal_()
        model.save_pretrained(root / name)


def load(directory):
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, architecture).from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def outputs(model, ids):
    """Logits over the old vocabulary, or hidden states where there is no head."""
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        found = model(**inputs)
    return found.logits[..., :V] if hasattr(found, "logits") else found.last_hidden_state


def grown(checkpoint, count=NEW, seed=1):
    """`count` random rows for every tensor over the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    layout = checkpoint.layout
    dtype = checkpoint.tensors[layout.input[0]].torch_dtype
    table, head = (torch.randn(count, layout.dim, generator=generator).to(dtype) for _ in range(2))
    bias = torch.randn(count, generator=generator).to(dtype)
    values = layout.assign(
        Appended(table), Appended(head) if layout.head else None, Appended(bias) if layout.bias else None
    )  # fmt: skip
    return values, table, head, bias


def edit_header(path, change):
    """Rewrite a safetensors file with `change(header)` applied to its parsed header."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def edit_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(call, *args, **kwargs):
    """The one-line message with which `call` refuses."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def stored_again(directory, new, copies, **config):
    """A checkpoint like `directory` that stores some tensors a second time, under the names `copies` ({new name: old name})."""
    shutil.copytree(directory, new)
    tensors = load_file(new / "model.safetensors")
    tensors |= {name: tensors[old].clone() for name, old in copies.items()}
    save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
    if config:
        edit_json(new / "config.json", **config)
    return new
