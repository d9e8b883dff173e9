"""Checkpoints in several files, with tied heads, or more embeddings than tokens: loaded, run, counted."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny_checkpoint import NUM_LAYERS
from transformers import AutoModelForCausalLM, AutoTokenizer

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import InputError
from pathgen.evaluation.evaluator import Evaluator, QuestionError
from pathgen.models.facts import fingerprint, float32_bytes, layer_parameters
from pathgen.models.loading import load_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

QUESTION = Question("a", "What is red?", choices=("grass", "a rose", "snow"), gold=1)
PATHS = [LayerPath.full(NUM_LAYERS), LayerPath((1, 0, 2, 1, 0, 1))]


def saved(tiny_model, folder, *, shard="5GB", change=lambda model: None):
    """A copy of the tiny model, changed and saved again."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    change(model)
    model.save_pretrained(folder, max_shard_size=shard)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def tied(model):
    model.config.tie_word_embeddings = True
    model.tie_weights()


def scores(folder):
    evaluator = Evaluator(PathModel.from_pretrained(str(folder)), find_task("arc"))
    prepared = evaluator.prepare(QUESTION)
    return [e.choice_scores for e in evaluator.evaluate([(prepared, path) for path in PATHS])]


def parameters(folder):
    return sum(value.numel() for value in AutoModelForCausalLM.from_pretrained(folder).parameters())


@pytest.fixture(scope="module")
def shards(tiny_model, tmp_path_factory):
    return saved(tiny_model, tmp_path_factory.mktemp("model"), shard="30KB")


def test_several_files_are_one_model(tiny_model, shards):
    assert len(list(shards.glob("model-*-of-*.safetensors"))) > 5
    assert scores(shards) == scores(tiny_model)
    assert layer_parameters(shards, NUM_LAYERS) == layer_parameters(tiny_model, NUM_LAYERS)
    assert float32_bytes(shards) == float32_bytes(tiny_model) == 4 * parameters(shards)


def test_each_of_several_files_is_part_of_the_fingerprint(shards, tmp_path):
    found = {fingerprint(shards)}
    files = sorted(shards.glob("*.safetensors"))
    for number, file in enumerate(files):
        copy = shutil.copytree(shards, tmp_path / str(number))
        content = bytearray((copy / file.name).read_bytes())
        content[-1] ^= 1
        (copy / file.name).write_bytes(content)
        found.add(fingerprint(copy))
    assert len(found) == len(files) + 1


@pytest.mark.parametrize("lost", ["file", "entry"])
def test_a_file_that_is_missing_is_one_line(shards, tmp_path, lost):
    folder = shutil.copytree(shards, tmp_path / "model")
    index = folder / "model.safetensors.index.json"
    if lost == "file":
        sorted(folder.glob("*.safetensors"))[2].unlink()
    else:
        content = json.loads(index.read_text())
        content["weight_map"] = {k: v for k, v in content["weight_map"].items() if ".layers.3." not in k}
        index.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_an_older_save_are_not_counted_twice(tiny_model, shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "model")
    shutil.copy(tiny_model / "model.safetensors", folder)
    assert layer_parameters(folder, NUM_LAYERS) == layer_parameters(tiny_model, NUM_LAYERS)
    assert float32_bytes(folder) == float32_bytes(tiny_model)


def test_a_tied_head_is_stored_and_counted_once(tiny_model, tmp_path):
    folder = saved(tiny_model, tmp_path / "tied", change=tied)
    model, _ = load_model(str(folder))
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    assert float32_bytes(folder) == float32_bytes(tiny_model) - 4 * embeddings.numel()
    assert fingerprint(folder) != fingerprint(tiny_model)
    assert scores(folder) != scores(tiny_model)


@pytest.mark.parametrize("change", [lambda model: None, tied])
def test_embeddings_larger_than_the_tokenizer(tiny_model, tmp_path, change):
    """Padded to a multiple, as many checkpoints are."""
    plain = saved(tiny_model, tmp_path / "plain", change=change)

    def resized(model):
        change(model)
        model.resize_token_embeddings(320, mean_resizing=False)
        for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
            embeddings.weight.data[257:] = 0 if embeddings is model.get_input_embeddings() else -1e4

    large = saved(tiny_model, tmp_path / "large", change=resized)
    model = PathModel.from_pretrained(str(large))
    assert (model.config.vocab_size, len(model.tokenizer)) == (320, 257)
    assert fingerprint(large) != fingerprint(plain)
    ids = model.tokenizer("What is red?", return_tensors="pt")["input_ids"]
    for path in PATHS:
        made = model.generate(ids, policy=FixedPaths([path]), max_new_tokens=4)
        assert made.shape[1] > ids.shape[1]
        assert isinstance(model.tokenizer.decode(made[0]), str)
    assert len(scores(large)) == 2


def test_tokens_that_only_the_tokenizer_knows(tiny_model, tmp_path):
    """Some tuned checkpoints add tokens, to pad with for one, and forget to resize."""
    folder = saved(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    assert scores(folder) == scores(tiny_model)
    evaluator = Evaluator(PathModel.from_pretrained(str(folder)), find_task("arc"))
    with pytest.raises(QuestionError, match="the tokenizer gives token 257, the model knows 257"):
        evaluator.prepare(Question("b", "What is <pad>?", choices=("a", "b"), gold=0))


def test_a_checkpoint_in_bfloat16_counts_as_it_is_loaded(tiny_model, tmp_path):
    folder = saved(tiny_model, tmp_path / "half", change=lambda model: model.to(torch.bfloat16))
    assert float32_bytes(folder) == float32_bytes(tiny_model)
