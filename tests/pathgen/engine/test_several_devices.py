"""A model spread over several devices, as far as a machine without a GPU can show it.

Two parts stand in for two devices: one whose weights stay in memory, and one whose weights lie on disk and are brought
in by accelerate's hooks at every forward, as on a GPU too small for them. What passes between devices is shown with
PyTorch's `meta` device, which computes shapes and refuses to mix with others, but holds no numbers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from tiny_checkpoint import NUM_LAYERS

from pathgen.actors.model_spec import ModelSpec
from pathgen.actors.placement import place_actors
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.options import GenerateOptions
from pathgen.models.facts import fingerprint
from pathgen.models.loading import load_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.features.options import FeatureOptions

SPLIT = NUM_LAYERS // 2
PATHS = [LayerPath(path) for path in ((1, 1, 1, 1, 1, 1), (0, 1, 2, 1, 0, 1), (1, 1, 1, 0, 2, 2))]
CHOICES = [
    Question("a", "What is red?", choices=("grass", "a rose"), gold=1),
    Question("b", "One plus one is", choices=("two", "three"), gold=0),
]
SUMS = [Question("a", "3 + 4?", reference="7"), Question("b", "100 - 58 =", reference="42")]
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6], [1, 2, 3, 4]])


@pytest.fixture(scope="module")
def whole(tiny_model):
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def spread(tiny_model):
    """The same model in two parts."""
    layers = {f"model.layers.{i}": "cpu" if i < SPLIT else "disk" for i in range(NUM_LAYERS)}
    rest = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
    model = PathModel.from_pretrained(str(tiny_model), device_map=layers | dict.fromkeys(rest, "cpu"))
    parts = [next(layer.parameters()).device.type for layer in model.layers]
    assert parts == ["cpu"] * SPLIT + ["meta"] * (NUM_LAYERS - SPLIT)
    return model


@pytest.mark.parametrize(("task", "questions"), [("arc", CHOICES), ("math", SUMS)])
def test_a_search_finds_the_same(whole, spread, task, questions):
    def evaluations(model):
        evaluator = Evaluator(model, find_task(task))
        prepared = [evaluator.prepare(question) for question in questions]
        return evaluator.evaluate([(each, path) for path in PATHS for each in prepared])

    for found, wanted in zip(evaluations(spread), evaluations(whole), strict=True):
        assert (found.correct, found.answer) == (wanted.correct, wanted.answer)
        assert found.margin == pytest.approx(wanted.margin, abs=1e-4)


def test_generation_gives_the_same(whole, spread):
    for paths in (PATHS, [LayerPath.full(NUM_LAYERS)] * 3):
        found, wanted = (m.generate(IDS, policy=FixedPaths(paths), max_new_tokens=8) for m in (spread, whole))
        assert found.tolist() == wanted.tolist()


def test_unwrapped_it_is_still_in_parts(tiny_model, spread, whole):
    spread.unwrap()
    try:
        with torch.inference_mode():
            found, wanted = (model.hf_model(input_ids=IDS).logits for model in (spread, whole))
    finally:
        spread.__init__(spread.hf_model, spread.tokenizer)
    torch.testing.assert_close(found, wanted)


def test_states_go_on_from_the_device_of_the_last_layer(tiny_model):
    """Rows that the first layer there leaves out move along with those that it runs."""
    paths = [LayerPath(path) for path in ((1, 1, 1, 1, 1, 1), (0, 1, 2, 0, 1, 1), (1, 1, 1, 1, 1, 1))]
    hf_model, tokenizer = load_model(str(tiny_model))
    elsewhere = [*hf_model.model.layers[SPLIT:], hf_model.model.norm, hf_model.lm_head]
    for part in elsewhere:
        add_hook_to_module(part, AlignDevicesHook(execution_device="cpu"))
    model = PathModel(hf_model, tokenizer)
    for part in elsewhere:
        part.to("meta")._hf_hook.execution_device = "meta"
    seen = []

    class Watching(FixedPaths):
        def actions(self, layer, hidden, prompt_mask):
            seen.append(hidden.device.type)
            return super().actions(layer, hidden, prompt_mask)

    logits = model.logits(IDS, policy=Watching(paths))
    assert (logits.device.type, logits.shape[:2]) == ("meta", IDS.shape)
    assert seen == ["cpu"] * (SPLIT + 1) + ["meta"] * (NUM_LAYERS - SPLIT - 1)


def load(folder: Path, devices_per_actor: int, device: str = "cuda") -> None:
    """As an actor does."""
    ModelSpec(str(folder), fingerprint(folder), "bfloat16", device, devices_per_actor).load("runs/paths")


@pytest.fixture
def loaded(monkeypatch):
    """Calls of from_pretrained on a machine that says it has GPUs; the model is spread as `places` says."""
    calls, places = [], {}

    class Model(torch.nn.Module):
        hf_device_map = places

    def from_pretrained(folder, **arguments):
        calls.append(arguments)
        return Model(), {"missing_keys": set(), "mismatched_keys": set()}

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)
    monkeypatch.setattr("pathgen.engine.path_model.PathModel.__init__", lambda self, model, tokenizer: None)
    return SimpleNamespace(calls=calls, places=places)


def test_an_actor_of_two_gpus_asks_ray_for_two_and_spreads_its_model(tiny_model, loaded, monkeypatch):
    asked = []

    class Remote:
        def options(self, **settings):
            asked.append(settings)
            return SimpleNamespace(remote=lambda *_: None)

    monkeypatch.setattr("ray.remote", lambda worker: Remote())
    session = SimpleNamespace(address=None, nodes=lambda: [{"CPU": 8.0, "GPU": 4.0, "memory": 1e11}])
    placement = place_actors(GenerateOptions("run", gpus_per_actor=2), "cuda", session, tiny_model, 100)
    assert (placement.num_actors, placement.devices_per_actor) == (2, 2)
    placement.actor_factory(object, None)("w-0")
    assert asked[0]["num_gpus"] == 2

    loaded.places.update({"model.layers.0": 0, "model.layers.1": 1})
    load(tiny_model, placement.devices_per_actor)
    load(tiny_model, 1, device="cpu")
    assert [call["device_map"] for call in loaded.calls] == ["auto", None]


def test_an_actor_that_finds_other_weights_than_its_driver_does_not_start(tiny_model):
    """A hub name whose main branch has moved, or a folder that differs between machines."""
    spec = ModelSpec(str(tiny_model), "f" * 16, "float32", "cpu")
    with pytest.raises(ArtefactError, match=r"of fingerprint f{16}; .* now has"):
        spec.load("runs/paths")


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_model_that_its_gpus_cannot_hold_is_refused(tiny_model, loaded, place):
    loaded.places.update({"model.layers.0": 0, "model.layers.1": 1, "model.layers.2": place, "lm_head": place})
    with pytest.raises(InputError, match=r"no room for 2 parts from model\.layers\.2; raise --gpus-per-actor"):
        load(tiny_model, 2)


@pytest.mark.parametrize("options", [partial(GenerateOptions, "run"), FeatureOptions])
def test_more_gpus_than_one_come_whole(options):
    for count in (1.5, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=rf"a whole number, or a share between 0 and 1; got {count:g}"):
            options(gpus_per_actor=count)
    assert options(gpus_per_actor=0.5).gpus_per_actor == 0.5
