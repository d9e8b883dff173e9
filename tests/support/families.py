"""Tiny random models of many families, built in code: 4 layers, 32 wide, layers that matter, nothing downloaded.

And what they are run on: prompts of unequal length, and paths that are awkward in one batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

VOCAB = 97
LAYERS = 4
WINDOW = 6
"""Sliding window in tokens, shorter than the prompts of the tests."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
NO_SPECIAL = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen2_sliding": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": WINDOW}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "mistral": ("Mistral", {"sliding_window": WINDOW, "head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8, **ALTERNATING}),
    "gemma3": ("Gemma3", {"head_dim": 8, "query_pre_attn_scalar": 8, **ALTERNATING}),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
    "olmo2": ("Olmo2", {}),
    "gpt2": ("GPT2", {"n_inner": 48}),
    "gpt_neox": ("GPTNeoX", {"rotary_pct": 0.5}),
    "opt": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}),
    "olmoe": ("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("Qwen3Moe", {"head_dim": 8, **EXPERTS}),
    "gptj": ("GPTJ", {"rotary_dim": 4}),
    "falcon": ("Falcon", {"alibi": False}),
    "cohere2": ("Cohere2", ALTERNATING),
    "granite": ("Granite", {}),
    "gpt_oss": ("GptOss", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, **ALTERNATING}),
}
"""name -> (prefix of the transformers classes, what its config has beyond `SIZES`)."""

SLIDING = ("qwen2_sliding", "mistral", "gemma2", "gemma3", "phi3", "mixtral", "cohere2", "gpt_oss")
"""Families with a window that some layers see through."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4},
        "encoder-decoder",
    ),
    "BertLMHeadModel": ("BertConfig", {}, "not causal"),
    "Gemma3nForCausalLM": (
        "Gemma3nTextConfig",
        {
            "num_kv_shared_layers": 2,
            "head_dim": 8,
            "vocab_size_per_layer_input": VOCAB,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * LAYERS,
            **ALTERNATING,
        },
        "a layer takes states of shape",
    ),
    "MambaForCausalLM": ("MambaConfig", {"state_size": 4}, "past_key_values"),
    "ZayaForCausalLM": ("ZayaConfig", {"head_dim": 8, "num_experts": 4}, "hand more than their states"),
    "OpenAIGPTLMHeadModel": ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 4, "n_head": 4}, "found none"),
}
"""class -> (its config, what that has beyond `SIZES`, a part of the reason for which it cannot be run)."""

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 4}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
RECURRENT = {"layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"]}

HYBRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention", "conv", "conv"], "block_auto_adjust_ff_dim": False}),
    "lfm2_moe": (
        "Lfm2Moe",
        {"layer_types": ["conv", "full_attention", "conv", "conv"], "num_dense_layers": 1, **EXPERTS},
    ),
    "lfm3": (
        "Lfm3",
        {
            "layer_types": ["conv", "sliding_attention", "conv", "full_attention"],
            "sliding_window": WINDOW,
            "head_dim": 8,
            **EXPERTS,
        },
    ),
    "qwen3_next": (
        "Qwen3Next",
        {"head_dim": 8, **EXPERTS, **DELTA_NET, **RECURRENT, "shared_expert_intermediate_size": 16},
    ),
    "qwen3_5": ("Qwen3_5", {"head_dim": 8, **DELTA_NET, **RECURRENT}),
    "qwen3_5_moe": (
        "Qwen3_5Moe",
        {"head_dim": 8, **EXPERTS, **DELTA_NET, **RECURRENT, "shared_expert_intermediate_size": 16},
    ),
    "kimi_linear": (
        "KimiLinear",
        {
            **RECURRENT,
            **EXPERTS,
            "kv_lora_rank": 16,
            "q_lora_rank": None,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "num_key_value_heads": 4,
            "linear_num_heads": 4,
            "linear_head_dim": 8,
        },
    ),
    "olmo_hybrid": ("OlmoHybrid", {**RECURRENT, **DELTA_NET}),
    "bamba": ("Bamba", {"attn_layer_indices": [1], **MAMBA}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {**RECURRENT, **MAMBA, "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 16},
    ),
    "nemotron_h": (
        "NemotronH",
        {
            "layers_block_type": ["linear_attention", "full_attention", "mlp", "linear_attention"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "chunk_size": 4,
            "expand": 2,
            "n_groups": 1,
            "head_dim": 8,
        },
    ),
    "jamba": (
        "Jamba",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4, "num_experts": 2},
    ),
    "falcon_h1": ("FalconH1", {"mamba_d_ssm": 64, **MAMBA, "head_dim": 8}),
    "zamba2": (
        "Zamba2",
        {
            "layers_block_type": ["linear_attention", "hybrid"] * 2,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_d_state": 8,
            "chunk_size": 4,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
            "num_mem_blocks": 1,
            "num_key_value_heads": 4,
            "adapter_rank": 8,
        },
    ),
}
"""Families whose layers hold convolution windows or recurrent states, named as in `FAMILIES`."""

MECHANISMS = ("lfm2", "qwen3_next", "bamba", "falcon_h1", "jamba")
"""One hybrid of each: short convolution, gated delta net, Mamba-2, attention and Mamba-2 side by side, Mamba-1."""

SUFFIXES = {"GPT2": "LMHeadModel", "Gemma3": "ForCausalLM"}
CONFIGS = {"Gemma3": "Gemma3TextConfig", "Qwen3_5": "Qwen3_5TextConfig", "Qwen3_5Moe": "Qwen3_5MoeTextConfig"}


def tiny(name: str, *, attention: str | None = None, seed: int = 0) -> Any:
    """A fresh seeded model in float32 and eval mode."""
    return of_family(*(FAMILIES | HYBRIDS)[name], attention=attention, seed=seed)


def of_family(prefix: str, extra: dict[str, Any], *, attention: str | None = None, seed: int = 0) -> Any:
    """As `tiny`, for a family that has no name here, or another config of one."""
    config = getattr(transformers, CONFIGS.get(prefix, f"{prefix}Config"))(**SIZES | NO_SPECIAL | extra)
    model_class = getattr(transformers, f"{prefix}{SUFFIXES.get(prefix, 'ForCausalLM')}")
    return build(model_class, config, attention=attention, seed=seed)


def build(model_class: Any, config: Any, *, attention: str | None = None, seed: int = 0) -> Any:
    """A seeded random model whose layers change their input enough for paths to differ."""
    torch.manual_seed(seed)
    config._attn_implementation = attention  # None: what the family takes by default
    model = model_class(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        spread = 0.1 if parameter.dim() == 1 else 0.2  # norms and biases stay near their start
        parameter.add_(torch.randn_like(parameter) * spread)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def refused(name: str, **changes: Any) -> Any:
    """A tiny model of a family that cannot be run along paths."""
    config_class, extra, _ = REFUSED[name]
    config = getattr(transformers, config_class)(**SIZES | NO_SPECIAL | {"pad_token_id": 0} | extra | changes)
    return build(getattr(transformers, name), config)


MIXED_PATHS: tuple[tuple[int, ...], ...] = (
    (1, 1, 1, 1),
    (0, 1, 1, 1),  # skips the layer that a cache likes to count by
    (0, 0, 0, 0),
    (2, 1, 0, 2),
    (0, 0, 1, 0),
    (2, 1, 1, 1),
    (1, 1, 1, 2),
    (1, 1, 1, 0),
    (0, 2, 2, 1),
    (2, 2, 2, 2),
    (1, 0, 0, 1),
    (0, 0, 0, 2),
    (0, 0, 2, 1),
    (1, 2, 1, 0),
    (0, 1, 0, 1),
    (2, 0, 0, 0),
)
PROMPT_TOKENS = (14, 9, 1, 11, 7, 13, 8, 2, 12, 10, 14, 6, 9, 14, 3, 11)


def random_tokens(count: int, seed: int) -> list[int]:
    """Token ids, none of them 0, which pads."""
    rng = random.Random(seed)
    return [rng.randrange(1, VOCAB) for _ in range(count)]


PROMPTS = tuple(random_tokens(count, seed) for seed, count in enumerate(PROMPT_TOKENS))


def padded(prompts: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
    """[B, T] ids and mask, padded on the `left` or the `right`."""
    width = max(map(len, prompts))
    ids, mask = torch.zeros(2, len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        span = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[row, span] = torch.tensor(prompt)
        mask[row, span] = 1
    return ids, mask
