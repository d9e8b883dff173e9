"""A router at work on a tiny model: a row's path is its own, whatever stands beside it in the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_toys import HIDDEN, LAYERS, WINDOWS, toy_config

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import RecordedPolicy
from pathgen.errors import InputError
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.paths.layer_path import LayerPath
from router.dev.metrics import chosen_actions
from router.net.bias import check_bias
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.pooling import Pooling
from router.net.router import Router, path_logits


@pytest.fixture(scope="module")
def model(tiny_model):
    return PathModel.from_pretrained(str(tiny_model))


def model_router(model, **changes) -> Router:
    """A router for the tiny model whose decisions differ between prompts."""
    given = {"num_layers": model.num_layers, "hidden_size": model.config.hidden_size, "width": 8, **changes}
    router = Router(RouterConfig("tiny", "f", tasks=("arc",), method="imitate", pooling=Pooling(windows=4), **given))
    generator = torch.Generator().manual_seed(0)
    for parameter in router.heads.parameters():
        parameter.data.normal_(generator=generator)
    return router


def prompts(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 250, (length,), generator=generator).tolist() for length in lengths]


LENGTHS = (40, 3, 38, 17, 9, 39, 1, 40)


@pytest.mark.parametrize("head", ["bottleneck", "low_rank"])
def test_a_batch_takes_the_paths_of_each_prompt_alone(model, head):
    policy, asked = RouterPolicy(model_router(model, head=head)), prompts(LENGTHS)
    alone = [decide_paths(model, policy, [prompt])[0] for prompt in asked]
    assert decide_paths(model, policy, asked) == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("left", [True, False])
def test_padding_on_either_side_changes_no_path(model, left):
    policy, asked = RouterPolicy(model_router(model)), prompts(LENGTHS)
    width = max(LENGTHS)
    padding = [[0] * (width - len(prompt)) for prompt in asked]
    rows = [pad + prompt if left else prompt + pad for prompt, pad in zip(asked, padding, strict=True)]
    mask = [[len(pad) <= i if left else i < width - len(pad) for i in range(width)] for pad in padding]
    recorded = RecordedPolicy(policy)
    model.logits(torch.tensor(rows), torch.tensor(mask).long(), policy=recorded)
    assert recorded.paths() == [decide_paths(model, policy, [prompt])[0] for prompt in asked]


@pytest.mark.parametrize("config", [{"head": "none"}, {"scale": 0.0}])
def test_a_static_router_takes_its_path_on_every_prompt(model, config):
    router, path = model_router(model, **config), LayerPath([1, 0, 2, 1, 1, 0])
    router.static_logits.data.copy_(path_logits(path))
    assert set(decide_paths(model, RouterPolicy(router), prompts(LENGTHS))) == {path}


def test_a_policy_serves_batch_after_batch(model):
    """Window weights are remembered per batch, and must not be taken for the next one."""
    router, asked = model_router(model), prompts((5, 5, 12, 12))
    policy = RouterPolicy(router)
    one_by_one = [decide_paths(model, policy, [prompt])[0] for prompt in asked]
    assert one_by_one == [decide_paths(model, RouterPolicy(router), [prompt])[0] for prompt in asked]


def states(seed):
    hidden = torch.randn(16, WINDOWS, HIDDEN, generator=torch.Generator().manual_seed(seed))
    return hidden, torch.ones(16, WINDOWS, dtype=torch.long)


def noisy_router(seed, **changes) -> Router:
    router = Router(toy_config(**changes))
    generator = torch.Generator().manual_seed(seed)
    for parameter in router.parameters():
        parameter.data.normal_(generator=generator)
    return router


@given(seed=st.integers(0, 99), low=st.floats(-3, 3), rise=st.floats(0, 3))
def test_a_higher_bias_makes_no_row_deeper(seed, low, rise):
    router = noisy_router(seed)
    deep, shallow = RouterPolicy(router, low), RouterPolicy(router, low + rise)
    for layer in range(LAYERS):
        assert (shallow.actions(layer, *states(seed)) <= deep.actions(layer, *states(seed))).all()


def test_a_strong_bias_reaches_the_ends_and_counts_beside_the_routers_own():
    router = noisy_router(0)
    assert (RouterPolicy(router, 1e4).actions(0, *states(0)) == 0).all()
    assert (RouterPolicy(router, -1e4).actions(0, *states(0)) == 2).all()
    assert (RouterPolicy(noisy_router(0, bias=1e4)).actions(0, *states(0)) == 0).all()
    assert (RouterPolicy(noisy_router(0, bias=1e4), -2e4).actions(0, *states(0)) == 2).all()
    assert (RouterPolicy(noisy_router(0, bias=1e4), 0.0).actions(0, *states(0)) == 0).all()


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), "1", None])
def test_a_bias_that_is_no_finite_number(bias):
    with pytest.raises(InputError, match="--bias must be a finite number; got"):
        check_bias(bias)


@given(seed=st.integers(0, 20), bias=st.sampled_from([-1e4, 0.0, 1e4]))
def test_actions_that_are_not_allowed_are_never_chosen(seed, bias):
    for banned, actions in ((0, ("execute", "repeat")), (2, ("skip", "execute"))):
        policy = RouterPolicy(noisy_router(seed, actions=actions), bias)
        assert all((policy.actions(layer, *states(seed)) != banned).all() for layer in range(LAYERS))


def test_ties_go_to_execute_then_skip():
    router = Router(toy_config(head="none"))
    router.static_logits.data.copy_(torch.tensor([[1.0, 1, 1], [1, 0, 1], [0, 1, 1]]))
    taken = [RouterPolicy(router).actions(layer, *states(0))[0].item() for layer in range(3)]
    assert taken == chosen_actions(router.static_logits.detach().numpy()).tolist() == [1, 0, 1]
