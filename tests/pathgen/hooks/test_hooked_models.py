"""A wrapped model in several threads, copied, pickled, with shared layers, unwrapped and wrapped again."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import MethodType
from typing import Any

import pytest
import torch
from families import PROMPTS, tiny
from oracle import Oracle
from torch import Tensor, nn

from infer import RoutedModel
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.supported import UnsupportedModelError
from pathgen.paths.layer_path import LayerPath
from router.net.config import RouterConfig
from router.net.router import Router, path_logits

PATHS = ((0, 1, 1, 2), (1, 2, 0, 1))
FULL = (1, 1, 1, 1)
IDS = torch.tensor([PROMPTS[0]])


class Meeting(FixedPaths):
    """One fixed path; at every layer it waits for the other thread, so that the two forwards interleave."""

    def __init__(self, path: tuple[int, ...], meet: threading.Barrier):
        super().__init__([LayerPath(path)])
        self._meet = meet

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        self._meet.wait(20)
        return super().actions(layer, hidden, prompt_mask)


def along(model: PathModel, path: tuple[int, ...]) -> Tensor:
    return model.logits(IDS, policy=FixedPaths([LayerPath(path)]))


def both(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(30) for future in [pool.submit(call) for call in calls]]


@torch.inference_mode()
def stock(hf_model: Any) -> Tensor:
    return hf_model(input_ids=IDS).logits


def test_two_threads_each_follow_their_own_path_and_leave_the_model_as_published():
    hf_model = tiny("llama")
    expected = [Oracle(hf_model).logits(PROMPTS[0], path) for path in (*PATHS, FULL)]
    model, meet = PathModel(hf_model), threading.Barrier(2)
    calls = [lambda path=path: model.logits(IDS, policy=Meeting(path, meet)) for path in PATHS]
    for found, right in zip(both(*calls), expected, strict=False):
        torch.testing.assert_close(found[0], right, atol=1e-4, rtol=0)
    torch.testing.assert_close(stock(hf_model)[0], expected[2], atol=1e-4, rtol=0)


def test_a_stock_forward_beside_a_routed_one_is_as_published():
    hf_model = tiny("llama")
    model, published = PathModel(hf_model), stock(hf_model)
    inside, done = threading.Event(), threading.Event()

    def wait(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        inside.set()
        assert done.wait(20)
        return model.as_returned(index, hidden)

    def skipped() -> Tensor:
        with model.mode(wait):
            return stock(hf_model)

    def beside() -> Tensor:
        assert inside.wait(20)
        try:
            return stock(hf_model)
        finally:
            done.set()

    found, right = both(skipped, beside)
    assert torch.equal(right, published)
    assert not torch.equal(found, published)


def test_bridges_of_one_thread_are_not_those_of_another():
    model = PathModel(tiny("llama"))
    plain = along(model, (1, 0, 1, 1))
    constant = Bridges(tuple(Bridge(torch.zeros(1, 32), torch.zeros(32, 1), torch.ones(32)) for _ in range(4)))
    with model.bridged(constant):
        bridged = along(model, (1, 0, 1, 1))
        (beside,) = both(lambda: along(model, (1, 0, 1, 1)))
    assert torch.equal(beside, plain)
    assert not torch.allclose(bridged, plain)
    assert model.bridges is None


def test_float32_scores_of_one_thread_leave_the_dtype_of_another():
    model = PathModel(tiny("llama").to(torch.bfloat16))
    meet, stock_head = threading.Barrier(2), model._head_hook.stock

    def meeting(states: Tensor) -> Tensor:
        meet.wait(20)
        return stock_head(states)

    model._head_hook.stock = meeting  # the plain forward is inside the head while the other asks for float32 scores

    def scores() -> Tensor:
        found = model.head(torch.ones(2, 32, dtype=torch.bfloat16))
        meet.wait(20)
        return found

    wide, plain = both(scores, lambda: stock(model.hf_model))
    assert (wide.dtype, plain.dtype) == (torch.float32, torch.bfloat16)


def test_two_threads_complete_along_a_router_that_reads_their_prompts():
    model = PathModel(tiny("llama"))
    sizes = {"num_layers": 4, "hidden_size": 32, "width": 8}
    router = Router(RouterConfig("tiny", "f", tasks=("arc",), method="by hand", **sizes))
    generator = torch.Generator().manual_seed(0)
    for parameter in router.heads.parameters():
        parameter.data.normal_(generator=generator)
    routed = RoutedModel(model, router)
    asked = [torch.tensor([prompt]) for prompt in PROMPTS[:2]]
    alone = [routed.generate(ids, max_new_tokens=5) for ids in asked]
    for _ in range(5):
        together = both(*(lambda ids=ids: routed.generate(ids, max_new_tokens=5) for ids in asked))
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_error_in_a_layer_leaves_the_model_as_published():
    hf_model = tiny("llama")
    model, published = PathModel(hf_model), stock(hf_model)

    def fail(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"), model.mode(fail):
        stock(hf_model)
    assert torch.equal(stock(hf_model), published)


def test_a_copy_of_the_wrapped_model_runs_its_own_layers():
    hf_model = tiny("llama")
    model, published = PathModel(hf_model), stock(hf_model)
    twin = copy.deepcopy(hf_model)
    with model.mode(lambda index, hidden, *args, **kwargs: model.as_returned(index, hidden)):
        assert torch.equal(stock(twin), published), "the original's mode is not the copy's"
    for parameter in twin.model.layers.parameters():
        parameter.zero_()
    assert not torch.allclose(stock(twin), published)
    assert torch.equal(stock(hf_model), published)
    right = Oracle(twin).logits(PROMPTS[0], PATHS[0])
    torch.testing.assert_close(along(PathModel(twin), PATHS[0])[0], right, atol=1e-4, rtol=0)


def test_a_copy_of_a_path_model_has_a_model_of_its_own():
    model = PathModel(tiny("llama"))
    before = along(model, PATHS[0])
    twin = copy.deepcopy(model)
    assert torch.equal(along(twin, PATHS[0]), before)
    for parameter in twin.hf_model.model.layers.parameters():
        parameter.zero_()
    assert torch.equal(along(model, PATHS[0]), before)
    assert not torch.allclose(along(twin, PATHS[0]), before)


def test_a_copy_of_a_routed_model_answers_alike():
    model = PathModel(tiny("llama"))
    sizes = {"num_layers": 4, "hidden_size": 32}
    router = Router(RouterConfig("tiny", "f", tasks=("arc",), method="by hand", head="none", **sizes))
    router.static_logits.data.copy_(path_logits(LayerPath(PATHS[1])))
    routed = RoutedModel(model, router)
    twin = copy.deepcopy(routed)
    assert twin.path_model.hf_model is not model.hf_model
    assert torch.equal(twin(IDS).logits, routed(IDS).logits)


@pytest.mark.parametrize("of", [lambda model: model, lambda model: model.hf_model])
def test_pickling_is_refused_in_one_line(of):
    with pytest.raises(TypeError, match=r"^a (wrapped model|PathModel) cannot be pickled: .*$"):
        pickle.dumps(of(PathModel(tiny("llama"))))


def test_layers_that_are_one_module_are_refused_and_the_model_stays_as_it_was():
    hf_model = tiny("llama")
    hf_model.model.layers[3] = hf_model.model.layers[1]
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM: its layers 1 and 3 are one module"):
        PathModel(hf_model)
    assert not any("forward" in vars(layer) for layer in hf_model.model.layers)


def test_an_unwrapped_model_is_refused_and_can_be_wrapped_again():
    hf_model = tiny("llama")
    first = PathModel(hf_model)
    right = along(first, PATHS[0])
    first.unwrap()
    first.unwrap()
    with pytest.raises(ValueError, match="unwrapped, so its layers follow no path: wrap with PathModel"):
        along(first, PATHS[0])
    second = PathModel(hf_model)
    assert torch.equal(along(second, PATHS[0]), right)
    assert torch.equal(along(second, FULL), stock(hf_model))


def test_of_two_wraps_the_later_one_is_unwrapped_first():
    hf_model = tiny("llama")
    first, second = PathModel(hf_model), PathModel(hf_model)
    right = along(second, PATHS[0])
    with pytest.raises(ValueError, match="unwrap the later PathModel first"):
        first.unwrap()
    assert torch.equal(along(second, PATHS[0]), right)
    second.unwrap()
    assert torch.equal(along(first, PATHS[0]), right)


def test_a_method_set_before_wrapping_is_copied_onto_the_copy():
    hf_model = tiny("llama")
    layer = hf_model.model.layers[0]

    def scaled(self: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return type(self).forward(self, hidden, *args, **kwargs) * self.factor

    layer.forward = MethodType(scaled, layer)
    layer.factor = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    PathModel(hf_model)
    twin = copy.deepcopy(hf_model)
    twin.model.layers[0].factor.zero_()
    assert not torch.allclose(stock(twin), stock(hf_model))
