"""What is computed once is what a router at work sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.features.features import FeatureKey, compute_here, feature_batches
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.pooling import Pooling
from router.net.router import Router, path_logits

LAYERS = 6
FULL = LayerPath.full(LAYERS)
MIXED = LayerPath([0, 1, 2, 0, 2, 1])
NOTHING = LayerPath([0] * LAYERS)
CONTEXT = 512


def key(text="Why is the sky blue?", path=FULL, task="arc", name="q"):
    return FeatureKey(Question(name, text, choices=("yes", "no"), gold=0), task, False, path)


@pytest.fixture(scope="module")
def model(tiny_model):
    return PathModel.from_pretrained(str(tiny_model))


class WatchedRouter(Router):
    """Keeps what its heads are given."""

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    def logits(self, layer, pooled, static_part=None):
        self.seen.append(pooled)
        return super().logits(layer, pooled, static_part)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("path", [FULL, MIXED, NOTHING], ids=str)
@pytest.mark.parametrize("pooling", [Pooling(), Pooling("last", 1)], ids=["windows", "last"])
def test_features_are_what_a_router_sees_that_takes_the_path(tiny_model, dtype, path, pooling):
    model = PathModel.from_pretrained(str(tiny_model), dtype=dtype)
    config = RouterConfig("tiny", "f", LAYERS, 32, ("arc",), "test", pooling=pooling)
    router = WatchedRouter(config)
    router.static_logits.data = 1e3 * path_logits(path)
    asked = key(path=path)
    prompt = find_task("arc").encode(asked.question, model.tokenizer, False)[0]
    assert decide_paths(model, RouterPolicy(router), [prompt]) == [path]
    (computed,) = feature_batches(model, [asked], pooling)
    stored = computed.features[asked.digest]
    assert stored.dtype == getattr(torch, dtype)
    assert torch.equal(stored, torch.cat(router.seen))


@pytest.mark.parametrize("pooling", [Pooling(windows=8), Pooling(windows=100)], ids=["windows", "short prompt"])
def test_features_along_the_full_path_are_of_the_published_models_states(model, pooling):
    prompt = find_task("arc").encode(key().question, model.tokenizer, False)[0]
    assert 8 < len(prompt) < 100
    ids = torch.tensor([prompt])
    states = model.hf_model(input_ids=ids, output_hidden_states=True).hidden_states[:LAYERS]
    wanted = torch.stack([pooling.pool(hidden, torch.ones_like(ids))[0] for hidden in states])
    torch.testing.assert_close(compute_here(model, [key()], pooling), wanted[None])


def test_neighbours_in_a_batch_change_nothing(model):
    paths = [FULL, MIXED, NOTHING, LayerPath([2] * LAYERS), LayerPath([1, 1, 0, 1, 1, 1])]
    keys = [key("why? " * (1 + 7 * n % 10), paths[n % len(paths)], name=str(n)) for n in range(10)]
    together = compute_here(model, keys, Pooling())
    alone = torch.cat([compute_here(model, [one], Pooling()) for one in keys])
    assert len(together.unique(dim=0)) == len(keys)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_a_prompt_beyond_the_context_is_named_and_the_others_are_computed(model):
    fits, long = key(name="fits"), key("x" * CONTEXT, name="long")
    parts = list(feature_batches(model, [long, fits], Pooling()))
    errors = {name: text for part in parts for name, text in part.errors.items()}
    assert list(errors) == [long.digest]
    assert "question long: " in errors[long.digest]
    assert f"the model takes 1 to {CONTEXT}" in errors[long.digest]
    assert [name for part in parts for name in part.features] == [fits.digest]
    with pytest.raises(PathgenError, match="question long: "):
        compute_here(model, [fits, long], Pooling())


def test_nan_is_an_error_of_its_prompt_alone(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    poison = model.tokenizer("Z")["input_ids"][0]
    model.hf_model.get_input_embeddings().weight[poison] = float("nan")
    sound, poisoned = key("a question of like length", name="sound"), key("a question of like lengtZ", name="poisoned")
    (computed,) = feature_batches(model, [sound, poisoned], Pooling())
    assert list(computed.features) == [sound.digest]
    assert computed.errors == {poisoned.digest: f"question poisoned: the model gives NaN or Inf along {FULL}"}


def test_the_digest_is_over_content_task_chat_and_path():
    one = key()
    others = [key("Why?"), key(task="arc-letter"), replace(one, chat=True), key(path=MIXED)]
    assert len({one.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert key(name="another id").digest == one.digest
