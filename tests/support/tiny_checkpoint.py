"""A tiny random model on disk, tokenizer included: what tests search when the real model is not the point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

NUM_LAYERS = 6


def save_tiny_model(folder: Path, *, seed: int = 0, num_layers: int = NUM_LAYERS, context: int = 512) -> Path:
    """Write a random Llama with a byte-level tokenizer (one token a byte); its layers matter, so paths differ."""
    tokenizer = _byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.25,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_image_text_model(folder: Path, kind: str) -> Path:
    """Write a random model of images and text, of type `qwen2_5_vl` or `mllama`, with the same tokenizer.

    The tower has more layers than the language model; of the five layers of `mllama`, number 3 reads images alone.
    """
    tokenizer = _byte_tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 5 if kind == "mllama" else 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.25,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if kind == "mllama":
        text |= {"cross_attention_layers": [3], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
        vision = {"hidden_size": 16, "num_hidden_layers": 6, "num_global_layers": 1, "attention_heads": 2}
        vision |= {"intermediate_size": 16, "vision_output_dim": 32, "image_size": 16, "patch_size": 4}
        vision |= {"intermediate_layers_indices": [0]}
        tokens = {"image_token_index": 300}
    else:
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        vision = {"hidden_size": 16, "depth": 6, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32}
        tokens = dict.fromkeys(
            ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"), 300
        )
    config = CONFIG_MAPPING[kind](text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, **{symbol: index + 1 for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


if __name__ == "__main__":
    import sys

    print(save_tiny_model(Path(sys.argv[1])))
