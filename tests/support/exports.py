"""Checkpoints of many families on disk with a tokenizer, and `infer export` called in this process."""

from __future__ import annotations

from pathlib import Path

import torch
from commands import Answer
from families import FAMILIES, of_family
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from infer.cli import app
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath

VARIANTS = {
    "qwen3_moe_dense": ("Qwen3Moe", {**FAMILIES["qwen3_moe"][1], "mlp_only_layers": [3], "decoder_sparse_step": 2}),
    "deepseek_v3": (
        "DeepseekV3",
        {
            "num_key_value_heads": 4,
            "first_k_dense_replace": 2,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "ernie_moe": (
        "Ernie4_5_Moe",
        {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 16,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 2,
        },
    ),
    "smollm3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "gemma3_pattern": ("Gemma3", {**FAMILIES["gemma3"][1], "layer_types": None, "sliding_window_pattern": 2}),
    "cohere2_pattern": ("Cohere2", {"sliding_window": 6, "sliding_window_pattern": 2}),
}
"""Families, or configs of them, whose layers are of several kinds; as in `families.FAMILIES`."""
COUNTING = {
    "gpt2_inverse": ("GPT2", {**FAMILIES["gpt2"][1], "scale_attn_by_inverse_layer_idx": True}),
    "ernie_interval": (
        "Ernie4_5_Moe",
        {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 16,
            "moe_layer_start_index": 0,
            "moe_layer_interval": 2,
        },
    ),
}
"""Models whose layers do other work in another place."""


def save_family(folder: Path, name: str, **how: object) -> Path:
    """A tiny random model with a tokenizer of one token a character; `how` as in `save_pretrained`."""
    of_family(*(FAMILIES | VARIANTS | COUNTING)[name]).save_pretrained(folder, **how)
    vocabulary = {"<eos>": 0, **{chr(code): code - 31 for code in range(32, 127)}, "\n": 96}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")
    fast.chat_template = "{{ messages[0].content }}"
    fast.save_pretrained(folder)
    return folder


def export(*arguments: object) -> Answer:
    """Call `infer export`; an exception that it does not answer for is raised here."""
    words = ["export", *map(str, arguments)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def plain(folder: Path) -> torch.nn.Module:
    """The folder's model as anyone would load it, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def gap(model: torch.nn.Module, base: PathModel, path: LayerPath, ids: torch.Tensor, mask: torch.Tensor) -> float:
    """The largest difference, over tokens, of the logits of a plain model and of the base model along the path."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    wanted = base.logits(ids, mask, policy=FixedPaths([path] * len(ids)))
    return float((found - wanted)[mask.bool()].abs().max())
