"""Models in the shapes of known ones, with random weights made on the device, and artificial questions for them.

Time does not depend on the weights; what the models answer means nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

from pathgen.engine.path_model import PathModel
from pathgen.questions.question import Question
from pathgen.store.provenance import ShardMetadata

CHOICES, CHOICE_TOKENS = 4, 3
PROMPT_TOKENS = {"arc": (48, 72), "arc-letter": (98, 122)}
"""Fewest and most tokens of a question's prompt, by task. A letter is one token."""
FIRST_FREE_TOKEN = 100
"""Token ids below stand for words that are no numbers, such as the words of a task's template."""

Shape = tuple[type[Any], dict[str, Any]]
"""The class of a config, and its sizes. Rotary bases are the defaults, since time does not depend on them."""
LLAMA_3: dict[str, Any] = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8}
TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SHAPES: dict[str, dict[str, Shape]] = {
    "full": {
        "llama-3.2-1b": (
            LlamaConfig,
            {
                **LLAMA_3,
                "hidden_size": 2048,
                "intermediate_size": 8192,
                "num_hidden_layers": 16,
                "tie_word_embeddings": True,
            },
        ),
        "qwen2.5-1.5b": (
            Qwen2Config,
            {
                "vocab_size": 151936,
                "hidden_size": 1536,
                "intermediate_size": 8960,
                "num_hidden_layers": 28,
                "num_attention_heads": 12,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            },
        ),
        "llama-3-8b": (
            LlamaConfig,
            {
                **LLAMA_3,
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "tie_word_embeddings": False,
            },
        ),
    },
    "tiny": {
        "tiny-llama": (LlamaConfig, {**TINY, "num_hidden_layers": 5, "tie_word_embeddings": True}),
        "tiny-qwen2": (Qwen2Config, {**TINY, "num_hidden_layers": 6, "tie_word_embeddings": False}),
    },
}
"""Sets of models, by the name of the set."""


class NumberTokens:
    """A tokenizer in the place of a real one: a word that is a number is that token, any other one has a low id."""

    chat_template = None

    def __init__(self) -> None:
        self._others: dict[str, int] = {}

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """The token ids of a text, one a word."""
        return {"input_ids": [self._id(word) for word in text.split()]}

    def _id(self, word: str) -> int:
        return int(word) if word.isdecimal() else self._others.setdefault(word, 1 + len(self._others))


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A model twice, from the same weights in memory: wrapped, and as Hugging Face has it."""

    name: str
    path_model: PathModel
    plain: PreTrainedModel

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.path_model.device

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.plain.parameters())

    def depth_share(self, depth: int) -> float:
        """Weights that a token along so many layers is multiplied with, over those at full depth; the head's count."""
        layer = sum(parameter.numel() for parameter in self.path_model.layers[0].parameters())
        head = self.plain.get_output_embeddings().weight.numel()
        return (depth * layer + head) / (self.path_model.num_layers * layer + head)

    def metadata(self, task: str) -> ShardMetadata:
        """The origin of records about it."""
        return ShardMetadata(self.name, "random", task, "", "")


def make_model(name: str, shape: Shape, device: torch.device, dtype: torch.dtype, seed: int) -> MadeModel:
    """Random weights, made on the device in their dtype: no copy of them is ever elsewhere."""
    config_class, sizes = shape
    config = config_class(**sizes, max_position_embeddings=2048, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    torch.manual_seed(seed)
    with torch.device(device):
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.eval().requires_grad_(False)
    shared = {id(tensor): tensor for tensor in (*plain.parameters(), *plain.buffers())}
    return MadeModel(name, PathModel(copy.deepcopy(plain, shared), NumberTokens()), plain)  # type: ignore[arg-type]


def make_questions(task: str, count: int, vocabulary: int, seed: int) -> list[Question]:
    """Multiple-choice questions of random tokens, about as long as those of ARC; gold is drawn too."""
    rng = np.random.default_rng(seed)

    def words(tokens: int) -> str:
        return " ".join(map(str, rng.integers(FIRST_FREE_TOKEN, vocabulary, tokens)))

    template = 2 + (CHOICES * (1 + CHOICE_TOKENS) if task == "arc-letter" else 0)
    fewest, most = PROMPT_TOKENS[task]
    found = []
    for number in range(count):
        prompt = words(int(rng.integers(fewest, most + 1)) - template)
        choices = tuple(words(CHOICE_TOKENS) for _ in range(CHOICES))
        found.append(Question(f"{task}-{number}", prompt, choices, int(rng.integers(CHOICES))))
    return found
