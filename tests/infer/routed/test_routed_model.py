"""A routed model gives each row what that row alone gets, and with every layer executed the model as published."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import PROMPTS, VOCAB, padded, random_tokens, tiny
from harness_models import full_router, mixed_router
from tiny_checkpoint import save_tiny_model
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor

from infer import RoutedModel
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.evaluation.decoding import left_padded
from pathgen.paths.layer_path import LayerPath
from router.net.config import RouterConfig
from router.net.router import Router, path_logits
from router.saved.loading import load_router

BATCHED = ("llama", "mistral", "gemma2", "gpt2", "qwen3_moe")
"""Plain, two with sliding windows, learnt positions, experts."""
TEXTS = ("the cat sat on a mat", "x", "why is the sky blue, and not green?", "1 + 1 =", "a b c", "Once upon a time")
NEW = 6


def sharp_router(model: PathModel, **changes) -> Router:
    """Random heads, sharp enough that rows differ."""
    sizes = {"num_layers": model.num_layers, "hidden_size": model.config.hidden_size, "width": 8}
    router = Router(RouterConfig("tiny", "f", tasks=("arc",), method="by hand", **(sizes | changes)))
    generator = torch.Generator().manual_seed(0)
    for parameter in router.heads.parameters():
        parameter.data.normal_(generator=generator)
    return router


def routed(family: str) -> RoutedModel:
    model = PathModel(tiny(family))
    return RoutedModel(model, sharp_router(model))


def taken(model: RoutedModel, prompts=PROMPTS) -> list[LayerPath]:
    """The path of each prompt alone."""
    return [decide_paths(model.path_model, model.policy, [prompt])[0] for prompt in prompts]


def one_path(model: PathModel, path: LayerPath) -> Router:
    router = sharp_router(model, head="none")
    router.static_logits.data.copy_(path_logits(path))
    return router


@pytest.fixture(scope="module")
def folders(tiny_model, tmp_path_factory):
    """A model's folder and that of a router whose paths differ between prompts."""
    return tiny_model, mixed_router(tiny_model, tmp_path_factory.mktemp("mixed") / "router")


@pytest.fixture(scope="module")
def texts_model(folders):
    return RoutedModel.from_pretrained(*folders)


# A row is its own, whatever stands beside it.


@pytest.mark.parametrize("family", BATCHED)
def test_a_batch_generates_what_each_prompt_alone_does(family):
    model = routed(family)
    alone = [model.generate(torch.tensor([prompt]), max_new_tokens=NEW)[0, -NEW:].tolist() for prompt in PROMPTS]
    together = model.generate(*padded(PROMPTS, "left"), max_new_tokens=NEW)
    assert together[:, -NEW:].tolist() == alone
    paths = taken(model)
    assert len(set(paths)) > 4
    assert {action for path in paths for action in path} == {0, 1, 2}


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_has_the_logits_of_each_prompt_alone(family, side):
    model = routed(family)
    ids, mask = padded(PROMPTS, side)
    together = model(ids, attention_mask=mask).logits
    for row, prompt in enumerate(PROMPTS):
        alone = model.forward(torch.tensor([prompt])).logits[0]
        torch.testing.assert_close(together[row][mask[row].bool()], alone, atol=1e-4, rtol=1e-4)


def test_beams_of_a_batch_are_those_of_each_prompt_alone():
    model = routed("llama")
    asked = {"num_beams": 3, "max_new_tokens": NEW}
    alone = [model.generate(torch.tensor([prompt]), **asked)[0, -NEW:].tolist() for prompt in PROMPTS[:6]]
    assert model.generate(*padded(PROMPTS[:6], "left"), **asked)[:, -NEW:].tolist() == alone


def test_a_prompt_of_four_thousand_tokens(tmp_path):
    long, short = random_tokens(4000, seed=1), random_tokens(60, seed=2)
    model = PathModel.from_pretrained(str(save_tiny_model(tmp_path, num_layers=2, context=4096)))
    model = RoutedModel(model, sharp_router(model))
    alone = [model.generate(torch.tensor([prompt]), max_new_tokens=3)[0, -3:].tolist() for prompt in (long, short)]
    assert model.generate(*padded([long, short], "left"), max_new_tokens=3)[:, -3:].tolist() == alone


def test_the_path_is_decided_once_and_kept():
    model, (ids, mask) = routed("llama"), padded(PROMPTS, "left")
    fixed, asked = FixedPaths(taken(model)), {"max_new_tokens": NEW}
    assert torch.equal(model.generate(ids, mask, **asked), model.path_model.generate(ids, mask, policy=fixed, **asked))
    assert torch.equal(model(ids, mask).logits, model.path_model.logits(ids, mask, policy=fixed))


# Every layer executed: the model as published.


@pytest.mark.parametrize("family", BATCHED)
def test_all_layers_executed_is_the_untouched_model(family):
    untouched, model = tiny(family), PathModel(tiny(family))
    model = RoutedModel(model, one_path(model, LayerPath.full(model.num_layers)))
    ids, mask = padded(PROMPTS, "left")
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        expected = untouched(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        tokens = untouched.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW)
    torch.testing.assert_close(model(ids, mask).logits[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=1e-4)
    assert model.generate(ids, mask, max_new_tokens=NEW).tolist() == tokens.tolist()


def test_all_layers_executed_completes_as_the_untouched_model(tiny_model, tmp_path):
    model = RoutedModel.from_pretrained(tiny_model, full_router(tiny_model, tmp_path / "router"))
    untouched = PathModel.from_pretrained(str(tiny_model))
    untouched.unwrap()
    for text, answer in zip(TEXTS, model.complete(TEXTS, NEW), strict=True):
        ids = untouched.tokenizer(text, return_tensors="pt")["input_ids"]
        tokens = untouched.hf_model.generate(input_ids=ids, do_sample=False, max_new_tokens=NEW)[0, ids.shape[1] :]
        assert answer.text == untouched.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.path == LayerPath.full(6)


# Generation as transformers has it.


def test_sampling_follows_the_seed_and_a_config_given():
    model = routed("llama")
    ids, mask = padded(PROMPTS, "left")

    def sample(**asked):
        torch.manual_seed(5)
        return model.generate(ids, mask, max_new_tokens=NEW, **asked).tolist()

    greedy, sampled = sample(), sample(do_sample=True)
    assert sampled == sample(do_sample=True) != greedy
    assert sample(generation_config=GenerationConfig(do_sample=True, pad_token_id=0)) == sampled


def test_several_sequences_of_a_prompt_take_its_path():
    model, (ids, mask) = routed("llama"), padded(PROMPTS[:4], "left")
    asked = {"do_sample": True, "num_return_sequences": 2, "max_new_tokens": NEW}
    fixed = FixedPaths(taken(model, PROMPTS[:4]))
    torch.manual_seed(0)
    tokens = model.generate(ids, mask, **asked)
    torch.manual_seed(0)
    assert torch.equal(tokens, model.path_model.generate(ids, mask, policy=fixed, **asked))
    assert len(tokens) == 8


def test_a_streamer_hears_every_token():
    heard: list[int] = []

    class Streamer:
        def put(self, value):
            heard.extend(value.flatten().tolist())

        def end(self):
            heard.append(-1)

    tokens = routed("llama").generate(torch.tensor([PROMPTS[0]]), max_new_tokens=NEW, streamer=Streamer())
    assert heard == [*tokens[0].tolist(), -1]


def test_a_stop_string_ends_an_answer_before_it(texts_model):
    (whole,) = texts_model.complete(TEXTS[:1], 24)
    mark = whole.text[5:7]
    (cut,) = texts_model.complete(TEXTS[:1], 24, stop_strings=[mark])
    assert cut.text == whole.text[: whole.text.index(mark)]
    assert cut.new_tokens < whole.new_tokens
    alone = texts_model.complete(TEXTS, 24, batch_size=1, stop_strings=mark)
    assert alone[0] == cut
    assert texts_model.complete(TEXTS, 24, batch_size=6, stop_strings=mark) == alone


def test_the_cache_is_reported_and_holds_what_ran():
    model = PathModel(tiny("llama"))
    ids = torch.tensor([PROMPTS[0]])
    found = {}
    for depth, action in ((4, 1), (8, 2)):
        full = RoutedModel(model, one_path(model, LayerPath([action] * 4)))
        full.generate(ids, max_new_tokens=1)
        found[depth] = full.cache_bytes
    assert found[4] == 4 * 2 * len(PROMPTS[0]) * 2 * 8 * 4  # layers, keys and values, tokens, heads, their width, bytes
    assert found[8] == 2 * found[4]


@pytest.mark.parametrize("asked", [{"prefill_chunk_size": 4}, {"prompt_lookup_num_tokens": 3}])
def test_ways_of_decoding_that_would_part_a_prompt_from_its_path_are_refused(asked):
    repeating = PROMPTS[0][:4] * 3
    with pytest.raises(ValueError, match="decided on the whole prompt"):
        routed("llama").generate(torch.tensor([repeating]), max_new_tokens=NEW, **asked)


def test_a_path_needs_the_cache_whatever_a_checkpoint_says():
    model, ids = routed("llama"), torch.tensor([PROMPTS[0]])
    with pytest.raises(ValueError, match="needs use_cache"):
        model.generate(ids, max_new_tokens=NEW, use_cache=False)
    expected = model.generate(ids, max_new_tokens=NEW)
    model.path_model.hf_model.generation_config.use_cache = False
    assert torch.equal(model.generate(ids, max_new_tokens=NEW), expected)


def test_prompts_padded_on_the_right_are_refused():
    with pytest.raises(ValueError, match="pad prompts on the left"):
        routed("llama").generate(*padded(PROMPTS, "right"), max_new_tokens=NEW)


# Texts.


def test_completions_do_not_depend_on_the_batch_size(texts_model):
    alone = texts_model.complete(TEXTS, NEW, batch_size=1)
    assert len({answer.path for answer in alone}) > 1
    for size in (2, 4, 64):
        assert texts_model.complete(TEXTS, NEW, batch_size=size) == alone
    assert [answer.path for answer in alone] == texts_model.paths(TEXTS)
    assert all(answer.depth == sum(answer.path) and answer.new_tokens <= NEW for answer in alone)


def test_rows_that_end_early_are_not_followed_by_padding(texts_model):
    ids = texts_model.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    end = texts_model.generate(ids, max_new_tokens=6)[0, -1].item()
    alone = texts_model.complete(TEXTS, 24, batch_size=1, eos_token_id=end)
    assert texts_model.complete(TEXTS, 24, batch_size=6, eos_token_id=end) == alone
    assert alone[0].new_tokens < 6
    assert max(answer.new_tokens for answer in alone) == 24


def test_a_repetition_penalty_sees_no_padding(texts_model):
    penalty, scores = RepetitionPenaltyLogitsProcessor(2.0), torch.ones(1, VOCAB)
    ids, _ = left_padded(PROMPTS, torch.device("cpu"))
    for row, prompt in zip(ids, PROMPTS, strict=True):
        assert torch.equal(penalty(row[None], scores), penalty(torch.tensor([prompt]), scores))
    asked = {"max_new_tokens": 8, "repetition_penalty": 1.8}
    alone = texts_model.complete(TEXTS, batch_size=1, **asked)
    assert texts_model.complete(TEXTS, batch_size=6, **asked) == alone != texts_model.complete(TEXTS, 8)


def test_progress_is_told_and_the_largest_batch_reported(texts_model):
    told: list[int] = []
    texts_model.complete(TEXTS, NEW, batch_size=4, on_done=told.append)
    both = texts_model.cache_bytes
    assert told == [4, 6]
    texts_model.complete(sorted(TEXTS, key=len)[2:], NEW)
    assert texts_model.cache_bytes == both
    assert texts_model.complete([]) == []


def test_chat_is_as_the_router_was_trained(folders):
    model = RoutedModel.from_pretrained(*folders)
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %} Well,"
    plain, chatted = model.paths(TEXTS), model.paths(TEXTS, chat=True)
    assert plain == model.paths(TEXTS, chat=False) != chatted
    trained_on_chats = RoutedModel(model.path_model, chat_router(model.router))
    assert trained_on_chats.paths(TEXTS) == chatted
    assert trained_on_chats.complete(TEXTS, NEW) == model.complete([f"{text} Well," for text in TEXTS], NEW)


def test_a_router_that_reads_nothing_chats_if_the_model_is_made_for_it(folders, tmp_path):
    reading = RoutedModel.from_pretrained(*folders)
    model = RoutedModel(reading.path_model, load_router(full_router(folders[0], tmp_path / "router")))
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }};{% endfor %}"
    plain, chatted = (model.complete(TEXTS, NEW, chat=chat) for chat in (False, True))
    assert plain != chatted
    assert model.complete(TEXTS, NEW) == plain  # generations do not end in ;
    (semicolon,) = model.tokenizer(";", add_special_tokens=False)["input_ids"]
    model.path_model.hf_model.generation_config.eos_token_id = [semicolon]
    try:
        assert model.complete(TEXTS, NEW) == model.complete(TEXTS, NEW, chat=True)
        assert reading.paths(TEXTS) == reading.paths(TEXTS, chat=False)  # as it was trained, whatever the model
    finally:
        model.path_model.hf_model.generation_config.eos_token_id = None


def chat_router(router: Router) -> Router:
    copy = Router(replace(router.config, chat=True))
    copy.load_state_dict(router.state_dict())
    return copy


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_return_sequences": 2}, "one completion per prompt"),
    ],
)
def test_completions_that_cannot_be(texts_model, asked, wrong):
    with pytest.raises(ValueError, match=wrong):
        texts_model.complete(["a"], **asked)


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (lambda model: model.complete("hello"), r"this is one text: give \[text\]"),
        (lambda model: model.paths("hello"), r"this is one text: give \[text\]"),
        (lambda model: model.generate("hello"), "input_ids is str"),
        (lambda model: model(torch.tensor([1, 2])), r"input_ids\[None\] is a batch of one row"),
        (lambda model: model.generate(torch.tensor([[1]]), past_key_values=1), "leave out past_key_values"),
        (lambda model: model.generate(torch.tensor([[1]]), cache=1), "leave out cache"),
        (lambda model: model.complete(["a"], past_key_values=1), "leave out past_key_values"),
        (lambda model: model.score(["a"], ["b"]), "prompts are rows of token ids; one is str"),
    ],
)
def test_what_is_given_wrongly_is_refused_in_one_line(texts_model, call, wrong):
    with pytest.raises(ValueError, match=wrong) as caught:
        call(texts_model)
    assert "\n" not in str(caught.value)


def test_texts_need_a_tokenizer_and_a_context_they_fit(texts_model):
    with pytest.raises(ValueError, match="with a tokenizer"):
        routed("llama").complete(["a"])
    with pytest.raises(InputError, match="prompt 2: 600 tokens and 32 new ones, the model's context is 512"):
        texts_model.complete(["a", "b" * 600])


# Scores.

CONTINUATIONS = [random_tokens(count, seed=40 + count) for count in (3, 1, 5, 2) * 4]


def naive_score(model: RoutedModel, prompt, continuation):
    """The prompt's path first, then the whole row along it, unpadded; the sum by the definition."""
    (path,) = taken(model, [prompt])
    row = torch.tensor([[*prompt, *continuation]])
    logits = model.path_model.logits(row, policy=FixedPaths([path]))[0, len(prompt) - 1 : -1]
    logprobs = logits.log_softmax(-1)[torch.arange(len(continuation)), torch.tensor(continuation)]
    return path, logprobs.tolist()


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_scores_are_those_along_the_path_the_prompt_alone_decides(family):
    model = routed(family)
    for size in (1, 5, 16):
        for score, prompt, continuation in zip(
            model.score(PROMPTS, CONTINUATIONS, batch_size=size), PROMPTS, CONTINUATIONS, strict=True
        ):
            path, logprobs = naive_score(model, prompt, continuation)
            assert score.path == path
            assert score.token_logprobs == pytest.approx(logprobs, abs=1e-4)
            assert score.logprob == pytest.approx(sum(logprobs), abs=1e-4)


def test_a_continuation_is_greedy_exactly_when_generation_gives_it():
    model = routed("llama")
    greedy = model.generate(*padded(PROMPTS, "left"), max_new_tokens=3)[:, -3:].tolist()
    other = [[*tokens[:2], (tokens[2] + 1) % VOCAB] for tokens in greedy]
    assert all(score.greedy for score in model.score(PROMPTS, greedy))
    assert not any(score.greedy for score in model.score(PROMPTS, other))


def test_scores_that_cannot_be(texts_model):
    for prompts, continuations in (([[]], [[1]]), ([[1]], [[]]), ([[1]], [])):
        with pytest.raises(ValueError, match=r"at least one token|argument"):
            texts_model.score(prompts, continuations)
    with pytest.raises(InputError, match="context is 512"):
        texts_model.score([[1] * 512], [[1]])


# Which router goes with which model.


def test_a_router_of_another_model_is_refused_before_the_model_loads(folders, tmp_path, monkeypatch):
    _, router = folders
    other = save_tiny_model(tmp_path / "other", seed=1)
    monkeypatch.setattr(PathModel, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(ArtefactError, match="with fingerprint"):
        RoutedModel.from_pretrained(other, router)
    with pytest.raises(ArtefactError, match="number of layers 6; the model at hand has 4"):
        RoutedModel.from_pretrained(save_tiny_model(tmp_path / "less", num_layers=4), router)


@pytest.mark.parametrize("sizes", [{"num_layers": 5}, {"hidden_size": 16}])
def test_a_router_of_other_sizes_is_refused(sizes):
    model = PathModel(tiny("llama"))
    with pytest.raises(ArtefactError, match="the model at hand has 4 of width 32"):
        RoutedModel(model, sharp_router(model, **sizes))


def test_the_bias_given_reaches_the_ends(folders):
    for bias, path in ((1e4, [0] * 6), (-1e4, [2] * 6)):
        assert set(RoutedModel.from_pretrained(*folders, bias=bias).paths(TEXTS)) == {LayerPath(path)}
