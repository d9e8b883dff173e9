"""Folders of models of images and text: loaded whole, and run on text alone."""

import json

import pytest
import torch
from tiny_checkpoint import save_tiny_image_text_model
from transformers import AutoModelForImageTextToText

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.models.checking import UnsupportedTypeError, auto_class, check_is_causal_lm
from pathgen.models.facts import layer_parameters, num_layers
from pathgen.paths.layer_path import LayerPath
from pathgen.report.check import check_model

LAYERS = 4


@pytest.fixture(scope="module", params=["qwen2_5_vl", "mllama"])
def folder(request, tmp_path_factory):
    return save_tiny_image_text_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def model(folder):
    return PathModel.from_pretrained(str(folder))


def text_layers(hf_model):
    return [layer for layer in hf_model.model.language_model.layers if hasattr(layer, "self_attn")]


def test_check_finds_that_it_runs_and_what_its_layers_cost(folder):
    found = check_model(str(folder))
    assert (found.supported, found.reason, found.num_layers) == (True, None, LAYERS)
    stock = AutoModelForImageTextToText.from_pretrained(folder)
    sizes = [sum(one.numel() for one in layer.parameters()) for layer in text_layers(stock)]
    assert layer_parameters(folder, num_layers(folder)) == sizes  # not the larger number of layers of its tower


def test_a_path_scores_as_the_plain_model_with_its_layers_called_as_often(folder, model):
    stock = AutoModelForImageTextToText.from_pretrained(folder).eval()
    path, ids = LayerPath((1, 0, 2, 1)), torch.tensor([[72, 5, 9, 130, 44, 8]])
    with torch.no_grad():
        full = stock(input_ids=ids).logits
        for layer, times in zip(text_layers(stock), path, strict=True):
            layer.forward = repeated(layer.forward, times)
        along = stock(input_ids=ids, use_cache=False).logits
    run = [model.logits(ids, policy=FixedPaths([one])) for one in (LayerPath.full(LAYERS), path)]
    torch.testing.assert_close(run[0], full, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(run[1], along, atol=1e-4, rtol=1e-4)
    assert (along - full).abs().max() > 0.1


def repeated(stock, times):
    def forward(hidden, *args, **kwargs):
        for _ in range(times):
            hidden = stock(hidden, *args, **kwargs)
        return hidden

    return forward


def test_rows_of_a_batch_continue_from_their_caches(model):
    paths = [LayerPath((1, 0, 2, 1)), LayerPath((2, 1, 1, 0))]
    rows = [[72, 5, 9, 130, 44], [8, 61]]
    together = model.generate(
        torch.tensor([rows[0], [0] * 3 + rows[1]]),
        torch.tensor([[1] * 5, [0] * 3 + [1] * 2]),
        policy=FixedPaths(paths),
        max_new_tokens=5,
    )
    for row, path, made in zip(rows, paths, together, strict=True):
        alone = list(row)
        for _ in range(5):
            alone.append(int(model.logits(torch.tensor([alone]), policy=FixedPaths([path]))[0, -1].argmax()))
        assert made[5:].tolist() == alone[len(row) :]


@pytest.mark.parametrize(
    ("kind", "architecture", "expected"),
    [
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", "AutoModelForImageTextToText"),
        ("gemma3", "Gemma3ForConditionalGeneration", "AutoModelForCausalLM"),  # its class of both kinds
        ("qwen3_5", "Qwen3_5ForCausalLM", "AutoModelForCausalLM"),
        ("qwen3_5", "Qwen3_5ForConditionalGeneration", "AutoModelForImageTextToText"),
        ("qwen2_5_vl", "Qwen2_5_VLModel", None),
        ("gpt2", "GPT2", None),
    ],
)
def test_the_class_that_loads_an_architecture(kind, architecture, expected):
    assert auto_class({"model_type": kind, "architectures": [architecture]}) == expected


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "florence2", "is_encoder_decoder": True}, "encoder-decoder models"),
        ({"model_type": "clip", "architectures": ["CLIPModel"]}, "CLIPModel is not a causal language model"),
    ],
)
def test_others_stay_refused_by_name(tmp_path, config, reason):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedTypeError, match=reason):
        check_is_causal_lm(tmp_path, "a folder")


def test_a_config_that_leaves_its_number_of_layers_out_is_read_with_its_defaults(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": {"model_type": "llama"}}))
    assert num_layers(tmp_path) == 32
