import math
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from benchmarks.published.search import choice_batch, choice_scores, is_right, rebuilt, search_question
from pathgen.errors import InputError
from pathgen.questions.question import Question

LAYERS = 6
FULL = tuple(range(LAYERS))
SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SLIDING: dict[str, Any] = {
    "head_dim": 8,
    "sliding_window": 3,
    "use_sliding_window": True,
    "layer_types": ["full_attention", "sliding_attention"] * (LAYERS // 2),
}
CHOICES = ("a", "rather long", "mid one")
QUESTION = Question("q", "which one?", CHOICES, 1)


def build(config):
    torch.manual_seed(0)
    config.initializer_range = 0.3  # far from uniform, so that paths and masks tell in the logits
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def llama():
    return build(LlamaConfig(**SIZES))


@pytest.fixture(scope="module")
def sliding():
    return build(Qwen3Config(**SIZES, **SLIDING))


@pytest.fixture(scope="module")
def tokenizer():
    """One token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=byte_level)


def made_of(model, layers):
    """A stock model that was never rebuilt: configured with these layers, their weights copied."""
    config = model.config.to_dict() | {"num_hidden_layers": len(layers)}
    if kinds := config.get("layer_types"):
        config["layer_types"] = [kinds[layer] for layer in layers]
    made = AutoModelForCausalLM.from_config(type(model.config)(**config)).eval()
    made.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    made.model.norm.load_state_dict(model.model.norm.state_dict())
    made.lm_head.load_state_dict(model.lm_head.state_dict())
    for new, layer in zip(made.model.layers, layers, strict=True):
        new.load_state_dict(model.model.layers[layer].state_dict())
    return made


@pytest.mark.parametrize("family", ["llama", "sliding"])
@pytest.mark.parametrize("layers", [FULL, (1, 2, 4), (0, 0, 1, 2, 3, 3, 4, 5, 5), (5,), ()])
def test_a_forward_along_a_path_is_that_of_a_model_made_of_its_layers(request, family, layers):
    model = request.getfixturevalue(family)
    ids = torch.arange(40).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    with torch.no_grad(), rebuilt(model, layers):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    with torch.no_grad():
        expected = made_of(model, layers)(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert torch.allclose(logits[0], expected[0], atol=1e-4)
    assert torch.allclose(logits[1, :15], expected[1, :15], atol=1e-4)


def test_the_model_is_restored_even_after_an_error(sliding):
    stack, kinds = sliding.model.layers, list(sliding.config.layer_types)

    def fail_inside():
        with rebuilt(sliding, (1, 1, 2)):
            assert len(sliding.model.layers) == sliding.config.num_hidden_layers == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert sliding.model.layers is stack
    assert sliding.config.layer_types == kinds
    assert sliding.config.num_hidden_layers == LAYERS


def test_scores_are_the_summed_log_likelihoods_of_each_choice_alone(llama, tokenizer):
    layers = (0, 1, 3, 3, 5)
    scores = choice_scores(llama, choice_batch(tokenizer, QUESTION), layers)
    prompt = tokenizer("Question: which one?\nAnswer:")["input_ids"]
    model = made_of(llama, layers)
    for choice, score in zip(CHOICES, scores, strict=True):
        row = torch.tensor([prompt + tokenizer(f" {choice}")["input_ids"]])
        with torch.no_grad():
            likelihoods = model(input_ids=row, use_cache=False).logits[0].log_softmax(-1)
        own = sum(likelihoods[at - 1, row[0, at]].item() for at in range(len(prompt), row.shape[1]))
        assert score == pytest.approx(own, abs=1e-4)


def test_letters_read_off_one_row_score_as_rows_of_their_own(llama, tokenizer):
    question = Question("q", "which one?", ("cork", "iron", "sand"), 1)
    layers = (0, 2, 3, 4, 4)
    rows, one = (choice_batch(tokenizer, question, "arc-letter", one_row=one_row) for one_row in (False, True))
    assert len(one.ids) == 1 < len(rows.ids)
    assert choice_scores(llama, one, layers) == pytest.approx(choice_scores(llama, rows, layers), abs=1e-5)
    assert len(choice_batch(tokenizer, QUESTION, one_row=True).ids) == len(CHOICES), "choices of several tokens"


def test_right_is_gold_strictly_above_finite_others():
    question = Question("q", "which one?", ("x", "y"), 1)
    assert is_right([-2.0, -1.0], question)
    assert not is_right([-1.0, -1.0], question)
    assert not is_right([math.nan, -1.0], question)
    assert not is_right([-math.inf, -1.0], question)


def test_counters_are_what_the_layers_really_ran(llama, tokenizer):
    runs = []
    hooks = [
        layer.register_forward_hook(lambda module, args, output: runs.append(output.shape))
        for layer in llama.model.layers
    ]
    result = search_question(llama, tokenizer, QUESTION, simulations=12, rng=np.random.default_rng(5))
    for hook in hooks:
        hook.remove()
    assert result.layer_executions == len(runs) > LAYERS  # more than the full path
    assert result.layers_run == sum(rows for rows, _, _ in runs)
    assert result.token_layers == sum(rows * tokens for rows, tokens, _ in runs)


@pytest.mark.parametrize("gold", range(3))
def test_the_best_path_is_right_when_run_again(llama, tokenizer, gold):
    question = Question("q", QUESTION.prompt, ("ab", "cd", "ef"), gold)  # of one length, so that each may win
    result = search_question(llama, tokenizer, question, simulations=50, rng=np.random.default_rng(2))
    batch = choice_batch(tokenizer, question)
    assert result.base_correct == is_right(choice_scores(llama, batch, FULL), question)
    assert result.solved
    assert result.best_path is not None
    assert result.best_depth == result.best_path.depth
    assert is_right(choice_scores(llama, batch, result.best_path.executions), question)


def test_a_decoder_without_a_list_of_layers_is_refused(tokenizer):
    gpt2 = build(GPT2Config(vocab_size=256, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(InputError, match=r"GPT2LMHeadModel: .*no list `layers`"):
        search_question(gpt2, tokenizer, QUESTION, simulations=1, rng=np.random.default_rng(0))


def test_a_question_without_choices_is_refused(llama, tokenizer):
    question = Question("open", "why?", reference="because")
    with pytest.raises(InputError, match=r"question open: .*choices"):
        search_question(llama, tokenizer, question, simulations=1, rng=np.random.default_rng(0))
