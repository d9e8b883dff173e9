"""A tiny random Qwen2 as a GGUF file, as llama.cpp's converter writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch
from gguf.quants import quantize
from tokenizers import pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

NUM_LAYERS = 3
CONTEXT = 256
CHAT_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TOKENS = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt"]


def tiny_qwen2(seed: int = 0, *, tied: bool = False) -> Qwen2ForCausalLM:
    """The model that the files hold."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.25,
        tie_word_embeddings=tied,
    )
    return Qwen2ForCausalLM(config).eval()


def save_tiny_gguf(
    path: Path,
    model: Qwen2ForCausalLM | None = None,
    *,
    kind: str = "F32",
    architecture: str = "qwen2",
    weights: bool = True,
    tokenizer: bool = True,
    claimed_layers: int = NUM_LAYERS,
    more: dict[str, int] | None = None,
) -> Path:
    """Write the model; vectors stay float32. `claimed_layers` and `more`, further integer keys, stand in the header."""
    writer: Any = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(claimed_layers)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type({"F32": 0, "F16": 1, "Q8_0": 7}[kind])
    for key, value in (more or {}).items():
        writer.add_uint32(key, value)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(TOKENS)
        writer.add_token_types([3, *[1] * (len(TOKENS) - 1)])
        writer.add_token_merges(["Ġ t"])
        writer.add_eos_token_id(0)
        writer.add_chat_template(CHAT_TEMPLATE)
    if weights:
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, NUM_LAYERS)
        wanted = gguf.GGMLQuantizationType[kind]
        for name, value in (model or tiny_qwen2()).state_dict().items():
            if name == "lm_head.weight" and model is not None and model.config.tie_word_embeddings:
                continue
            held = gguf.GGMLQuantizationType.F32 if value.ndim == 1 else wanted
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(found, quantize(value.numpy(), held), raw_dtype=held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
