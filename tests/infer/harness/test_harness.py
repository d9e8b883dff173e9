from __future__ import annotations

import pytest
import torch
from harness_models import full_router, mixed_router
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny_checkpoint import NUM_LAYERS, save_tiny_model

from infer.harness.model import RoutedLM
from pathgen.engine.policies import FixedPaths
from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.models.resolving import resolve_model

SCORED = [
    ("Question: what is wet?\nAnswer:", " water"),
    ("Question: what is wet?\nAnswer:", " a stone in the sun"),
    ("A", " B"),
    ("A", " C"),
    ("A", " D"),
    ("", "no context at all"),
    ("Some longer context that another row of the batch does not have. ", "x"),
    ("ends in a space ", "and goes on"),
    ("2 + 2 =", " 4"),
    ("2 + 2 =", " four"),
]
CONTEXTS = ["Question: why?\nAnswer:", "A", "Once upon a time there was", "2 + 2 =", "The end.", "xyz " * 20]


def instances(kind: str, arguments):
    return [Instance(kind, {}, entry, index) for index, entry in enumerate(arguments)]


def generations(until=("zz",), **more):
    kwargs = {"until": list(until), "max_gen_toks": 12, "do_sample": False, **more}
    return instances("generate_until", [(context, kwargs) for context in CONTEXTS])


def assert_same_scores(found, wanted):
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in wanted], abs=1e-4)


@pytest.fixture(scope="module")
def full(tiny_model, tmp_path_factory):
    return full_router(tiny_model, tmp_path_factory.mktemp("full") / "router")


@pytest.fixture(scope="module")
def mixed(tiny_model, tmp_path_factory):
    return mixed_router(tiny_model, tmp_path_factory.mktemp("mixed") / "router")


@pytest.fixture(scope="module")
def stock(tiny_model):
    return HFLM(str(tiny_model), device="cpu", dtype="float32")


@pytest.fixture(params=[1, 8])
def executing(request, tiny_model, full):
    return RoutedLM(str(tiny_model), str(full), batch_size=request.param, device="cpu")


@pytest.fixture(params=[1, 8])
def routing(request, tiny_model, mixed):
    return RoutedLM(str(tiny_model), str(mixed), batch_size=request.param, device="cpu")


def test_an_executing_router_scores_as_the_plain_model(executing, stock):
    requests = instances("loglikelihood", SCORED)
    assert_same_scores(executing.loglikelihood(requests), stock.loglikelihood(requests))
    assert executing.get_model_info()["mean_depth"] == NUM_LAYERS
    assert executing.get_model_info()["off_full_share"] == 0


def test_an_executing_router_rolls_as_the_plain_model(executing, stock):
    """The second text takes two windows."""
    requests = instances("loglikelihood_rolling", [("A short text.",), ("A longer one. " * 60,)])
    wanted = stock.loglikelihood_rolling(requests)
    assert executing.loglikelihood_rolling(requests) == pytest.approx(wanted, rel=1e-5)


def test_an_executing_router_writes_as_the_plain_model(executing, stock):
    wanted = stock.generate_until(generations())
    assert executing.generate_until(generations()) == wanted
    assert len(set(wanted)) > 1


def test_greedy_text_ends_before_a_stop_string(executing, stock):
    whole = stock.generate_until(generations())
    stop = whole[0][3:5]
    cut = executing.generate_until(generations([stop]))
    assert cut == stock.generate_until(generations([stop]))
    assert cut[0] == whole[0][: whole[0].index(stop)]


def test_a_context_that_is_too_long_loses_its_start_as_in_the_plain_model(tiny_model, full, caplog):
    requests = instances("loglikelihood", [("far away " * 12 + "and near", " it ends"), ("short", " it ends")])
    wanted = HFLM(str(tiny_model), device="cpu", dtype="float32", max_length=40).loglikelihood(requests)
    routed = RoutedLM(str(tiny_model), str(full), batch_size=2, device="cpu", max_length=40)
    assert_same_scores(routed.loglikelihood(requests), wanted)
    assert "1 of 2 contexts lose their start: the model takes 40 tokens" in caplog.text


def test_the_longest_continuation_keeps_one_token_of_context(tiny_model, full):
    tokens = list(range(60, 100))
    requests = [(None, [5, 7], tokens)]
    wanted = HFLM(str(tiny_model), device="cpu", dtype="float32", max_length=40)._loglikelihood_tokens(requests)
    routed = RoutedLM(str(tiny_model), str(full), device="cpu", max_length=40)
    assert_same_scores(routed._loglikelihood_tokens(requests), wanted)
    with pytest.raises(InputError, match="a continuation of 41 tokens does not fit: the model takes 40 tokens"):
        routed._loglikelihood_tokens([(None, [5], [*tokens, 8])])


def path_alone(lm, context: list[int]):
    return decide_paths(lm.path_model, lm.policy, [context])[0]


def test_a_continuation_is_scored_along_the_path_of_its_context(routing):
    """Against one forward a request, along the path decided on the context by itself."""
    wanted, paths = [], set()
    for context, continuation in SCORED:
        before, after = (
            routing._encode_pair(context, continuation)
            if context
            else (
                [routing.prefix_token_id],
                routing.tok_encode(continuation),
            )
        )
        path = path_alone(routing, before)
        paths.add(path)
        logits = routing.path_model.logits(torch.tensor([before + after]), policy=FixedPaths([path]))
        scores = logits[0, len(before) - 1 : -1].log_softmax(-1)
        total = sum(float(row[token]) for row, token in zip(scores, after, strict=True))
        wanted.append((total, scores.argmax(-1).tolist() == after))
    assert len(paths) > 2
    assert_same_scores(routing.loglikelihood(instances("loglikelihood", SCORED)), wanted)
    assert set(routing.paths_taken) == paths


def test_the_same_tokens_split_elsewhere_take_the_path_of_their_own_context(routing):
    tokens = routing.tok_encode("Once upon a time there was a stone")
    splits = [(None, tokens[:at], tokens[at:]) for at in range(1, len(tokens))]
    assert len({path_alone(routing, context) for _, context, _ in splits}) > 1
    together = routing._loglikelihood_tokens(splits, disable_tqdm=True)
    assert_same_scores(together, [routing._loglikelihood_tokens([one], disable_tqdm=True)[0] for one in splits])


def test_text_is_written_along_the_path_of_its_context(routing):
    wanted, paths = [], set()
    for context in CONTEXTS:
        tokens = routing.tok_encode(context)
        paths.add(path := path_alone(routing, tokens))
        found = routing.path_model.generate(torch.tensor([tokens]), policy=FixedPaths([path]), max_new_tokens=12)
        wanted.append(routing.tok_decode(found[0, len(tokens) :]))
    assert len(paths) > 1
    assert routing.generate_until(generations()) == wanted
    assert set(routing.paths_taken) == paths


def test_choices_of_one_token_share_a_row(routing):
    letters = instances("loglikelihood", [("Pick one:", f" {letter}"[-1]) for letter in "ABCD"])
    routing.loglikelihood(letters)
    assert routing.paths_taken.total() == 1


def test_answers_reach_the_harness_cache_by_request(routing):
    kept = {}

    class Hook:
        def add_partial(self, kind, key, answer):
            kept[kind, key] = answer

    routing.cache_hook = Hook()
    found = routing.loglikelihood(instances("loglikelihood", SCORED))
    assert kept == {("loglikelihood", pair): answer for pair, answer in zip(SCORED, found, strict=True)}


def test_an_automatic_batch_size_scores_the_same(tiny_model, mixed, routing):
    automatic = RoutedLM(str(tiny_model), str(mixed), batch_size="auto", max_batch_size=4, device="cpu")
    requests = instances("loglikelihood", SCORED)
    assert_same_scores(automatic.loglikelihood(requests), routing.loglikelihood(requests))


def test_a_bias_makes_it_shallower(tiny_model, mixed):
    shallow = RoutedLM(str(tiny_model), str(mixed), bias=1e6, device="cpu")
    shallow.loglikelihood(instances("loglikelihood", SCORED[:2]))
    assert shallow.get_model_info()["mean_depth"] == 0
    assert shallow.get_model_info()["off_full_share"] == 1


def test_an_unknown_argument_is_named(tiny_model, full):
    with pytest.raises(InputError, match="no argument peft; it takes pretrained, router"):
        RoutedLM(str(tiny_model), str(full), peft="x")


def test_a_router_of_another_model_is_refused(tmp_path, full):
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ArtefactError, match="with fingerprint"):
        RoutedLM(str(other), str(full))


@pytest.mark.model
@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_real_model_scores_and_writes_as_the_harness_has_it(tmp_path, batch_size):
    folder = resolve_model("smollm2-135m")
    router = full_router(folder, tmp_path / "router", hidden_size=576)
    stock = HFLM(str(folder), device="cpu", dtype="float32", batch_size=batch_size)
    routed = RoutedLM("smollm2-135m", str(router), batch_size=batch_size, device="cpu")
    scored = instances("loglikelihood", SCORED)
    assert_same_scores(routed.loglikelihood(scored), stock.loglikelihood(scored))
    assert routed.generate_until(generations()) == stock.generate_until(generations())
