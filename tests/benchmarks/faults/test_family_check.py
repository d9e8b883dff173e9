"""One family for each mechanism that the engine's own tests do not have, against a plain loop over its layers."""

import pytest
import torch
import transformers

from benchmarks.faults.families import class_name
from benchmarks.faults.family_check import CLOSE, largest_gap, shaken
from benchmarks.faults.tiny_config import tiny_config
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.probe.restrictions import MixedRowsError
from pathgen.engine.supported import PinnedLayerError, UnsupportedModelError
from pathgen.paths.layer_path import LayerPath

MECHANISMS = {
    "roberta": "",  # positions begin after the padding token's number
    "bart": "padding on the left moves its positions",  # a forward without positions
    "phi3@longrope": "rows of up to 8 tokens and longer ones never share a batch",
    "llama@dynamic rope": "rows end at 8 tokens",
    "bloom": "",  # alibi: several entries of one row next to each other
    "llama4_text": "",  # chunked masks
    "gpt_neo": "",  # layers that call their number layer_id
    "xmod": "",  # an argument of one axis with an entry per row
    "gemma4_text@shared keys, inputs per layer": "",
    "deepseek_v32": "rows end at 64 tokens: there its indexers begin to leave out keys",
    "kosmos-2.5": "padding on the left moves its positions",  # it counts them itself
}


def stock(kind, group="causal"):
    with torch.no_grad():
        return shaken(getattr(transformers, class_name(group, kind))(tiny_config(kind)))


@pytest.mark.parametrize("kind", MECHANISMS)
def test_each_mechanism_is_exact(kind):
    with torch.no_grad():
        gap, model = largest_gap(stock(kind, "image-text" if kind == "kosmos-2.5" else "causal"))
    assert gap <= CLOSE
    assert [line[: len(MECHANISMS[kind])] for line in model.restrictions.told()] == [MECHANISMS[kind]] * bool(
        MECHANISMS[kind]
    )


def test_positions_with_their_batch_on_the_second_axis():
    with torch.no_grad():
        gap, model = largest_gap(stock("glm4v_moe", "image-text"))
    assert gap <= CLOSE
    assert (1, 1) in model.row_axes.values()


def full(model, rows):
    return FixedPaths([LayerPath.full(model.num_layers)] * rows)


def test_rows_on_both_sides_of_the_border_are_refused_and_so_is_crossing_it():
    model = PathModel(stock("phi3@longrope"))
    ids = torch.arange(2, 14).expand(2, -1)
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    with pytest.raises(MixedRowsError, match=r"rows of 6 to 12 tokens; its rotary table changes at 8 tokens"):
        model.logits(ids, mask, policy=full(model, 2))
    with pytest.raises(MixedRowsError, match="give max_new_tokens of at most 2"):
        model.generate(ids[:1, :6], policy=full(model, 1), max_new_tokens=3)
    with pytest.raises(MixedRowsError, match="give max_new_tokens of at most 2"):
        model.generate(ids[:1, :6], policy=full(model, 1), max_length=12)
    assert model.generate(ids[:1, :6], policy=full(model, 1), max_new_tokens=2).shape == (1, 8)


def test_prompts_of_unequal_length_do_not_generate_together_where_padding_moves_positions():
    model = PathModel(stock("bart"))
    ids, mask = torch.tensor([[5, 9, 11], [0, 7, 8]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    with pytest.raises(MixedRowsError, match="prompts of one length at a time"):
        model.generate(ids, mask, policy=full(model, 2), max_new_tokens=2)
    assert model.generate(ids[:, 1:], policy=full(model, 2), max_new_tokens=2).shape == (2, 4)


def test_a_pinned_layer_always_executes_once():
    model = PathModel(stock("gemma4_text@shared keys, inputs per layer"))
    assert model.pinned_layers == (1, 2)
    for action, word in ((0, "skipped"), (2, "repeated")):
        path = LayerPath(action if layer == 1 else 1 for layer in range(model.num_layers))
        with pytest.raises(PinnedLayerError, match=f"layer 1 is {word}, but later layers read its keys and values"):
            model.logits(torch.tensor([[5, 9]]), policy=FixedPaths([path]))


def test_a_cache_of_the_models_own_is_refused_whenever_it_comes():
    model = PathModel(stock("llama4_text"))
    ids = torch.tensor([[5, 9, 11]])
    own = transformers.DynamicCache()
    with model.routed(full(model, 1), torch.ones_like(ids)), pytest.raises(UnsupportedModelError, match="DynamicCache"):
        model.hf_model(input_ids=ids, past_key_values=own, use_cache=True)
