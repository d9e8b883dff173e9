import json
import math

import pytest
import torch

from benchmarks.speed import gpu
from benchmarks.speed.gpu import Bench, Section, measure_all
from benchmarks.speed.gpu_exactness import gpu_tests, run_tests
from benchmarks.speed.made_models import PROMPT_TOKENS, SHAPES, NumberTokens, make_model, make_questions
from pathgen.errors import InputError, PathgenError
from pathgen.questions.tasks import find_task

CPU = torch.device("cpu")
SECTION_S = 0.5


@pytest.fixture(scope="module")
def bench():
    return Bench(CPU, torch.bfloat16, "tiny", simulations=6, seed=0)


@pytest.fixture(scope="module")
def found(bench):
    """What each section of one model gives in as little time as it can."""
    sections = bench.sections(list(gpu.KINDS[1:]), ["tiny-llama"], scale=1.0)
    return {section.name: section.measure(SECTION_S) for section in sections}


def numbers(value):
    """All numbers in nested figures."""
    if isinstance(value, dict | list | tuple):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_every_section_gives_finite_figures(found, bench):
    assert list(found) == ["tiny-llama search", "tiny-llama decode", "tiny-llama router"]
    for name, figures in found.items():
        assert len(numbers(figures)) > 10, name
        assert all(map(math.isfinite, numbers(figures))), name  # an interval of a noisy ratio may reach below zero
        json.dumps(figures, allow_nan=False)
    assert bench.built["tiny-llama"]["num_layers"] == 5


def test_both_searches_are_run_and_compared_on_both_kinds_of_questions(found):
    search = found["tiny-llama search"]
    for task in ("arc", "arc-letter"):
        assert search[task]["published"]["questions_per_second"]["n"] >= 1
        assert all(figures["packed"] for figures in search[task]["ours"].values())
        assert search[task]["fastest_over_published"]["questions_per_second"]["value"] > 0
    arc = search["arc"]
    assert len(arc["ours"]) == 2
    ours = arc["ours"][arc["fastest"]]
    assert ours["layers_run_per_question"] < ours["layer_executions_per_question"]
    assert arc["stock_forwards_along_our_paths"]["evaluations_per_question"] > 1
    assert len(search["arc_variants"]) == 5
    assert 0 < search["steps"]["search"]["layers_launch_share"] <= 1
    assert search["steps"]["search"]["most_kept_bytes"] > 0


def test_decoding_and_a_router_are_compared_with_what_they_replace(found):
    decode, router = found["tiny-llama decode"], found["tiny-llama router"]
    assert decode["depth"] == [4, 5]
    assert 1 < decode["gain_expected_from_depth"] < 5 / 4
    for batch, paths in (("batch 1", {"full", "shallow"}), ("batch 4", {"full", "shallow", "mixed"})):
        assert set(decode[batch]["tokens_per_second"]) == {"plain", *paths}
        assert set(decode[batch]["rate_over_plain"]) == paths
    assert router["full"]["mean_depth"] == 5
    assert router["full"]["same_decisions_again"]
    assert router["mixed"]["same_decisions_again"]


@pytest.mark.parametrize("name", SHAPES["tiny"])
def test_a_made_model_is_there_once_and_twice_in_use(name):
    made = make_model(name, SHAPES["tiny"][name], CPU, torch.bfloat16, seed=0)
    wrapped = list(made.path_model.hf_model.parameters())
    assert all(a is b for a, b in zip(made.plain.parameters(), wrapped, strict=True))
    assert {parameter.dtype for parameter in wrapped} == {torch.bfloat16}
    assert made.path_model.layers[0] is not made.plain.get_decoder().layers[0]
    ids = torch.randint(100, 512, (1, 8))
    assert torch.equal(made.plain(ids).logits, made.path_model.hf_model(ids).logits)


@pytest.mark.parametrize("task", PROMPT_TOKENS)
def test_made_questions_are_of_the_asked_length(task):
    fewest, most = PROMPT_TOKENS[task]
    tokenizer = NumberTokens()
    for question in make_questions(task, 40, 512, seed=3):
        prompt, choices = find_task(task).encode(question, tokenizer, chat=False)
        assert fewest <= len(prompt) <= most
        assert [len(choice) for choice in choices] == [1 if task == "arc-letter" else 3] * 4
        assert max(map(max, (prompt, *choices))) < 512
    assert len({choice[0] for choice in choices}) == 4 or task == "arc"


def test_what_does_not_fit_is_left_out_and_what_fails_is_told(bench, tmp_path):
    def broken(seconds):
        raise RuntimeError("no such kernel")

    sections = [
        Section("long", 1e6, 1.0, lambda seconds: {"never": 1}),
        Section("broken", 0.0, 1.0, broken),
        Section("not a number", 0.0, 1.0, lambda seconds: {"rate": math.nan}),
        Section("good", 0.0, 1.0, lambda seconds: {"given": seconds}),
    ]
    document = {"sections": {}, "left_out": [], "failed": []}
    measure_all(sections, document, bench, gpu.time.perf_counter() + 100, tmp_path / "gpu.json")
    assert document["left_out"] == ["long"]
    assert document["failed"] == ["broken", "not a number"]
    assert document["sections"]["broken"]["error"] == "RuntimeError: no such kernel"
    assert document["sections"]["good"]["given"] == pytest.approx(100, abs=10)  # nothing comes after it
    assert json.loads((tmp_path / "gpu.json").read_text()) == document
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.json"]


def test_the_tests_for_a_gpu_are_found_run_and_counted(tmp_path):
    names = {file.name for file in gpu_tests()}
    assert {"test_executor.py", "test_path_model.py", "test_on_cuda.py", "test_routed_on_cuda.py"} <= names
    file = tmp_path / "test_some.py"
    file.write_text(
        "import pytest\n"
        "@pytest.mark.gpu\ndef test_good(): pass\n"
        "@pytest.mark.gpu\ndef test_bad(): assert 1 == 2, 'off by one'\n"
        "@pytest.mark.gpu\n@pytest.mark.skip\ndef test_left(): pass\n"
        "def test_of_no_gpu(): assert False\n"
    )
    told = run_tests([file], 60.0)
    assert (told["passed"], told["failed"], told["skipped"]) == (1, 1, 1)
    [(name, message)] = told["failures"].items()
    assert name.endswith("::test_bad")
    assert "off by one" in message


def test_the_command_prints_one_document(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    gpu.main(device="cpu", shapes="tiny", minutes=0.05, out=out, only=["router"], model=["tiny-qwen2"], simulations=6)
    document = json.loads(capsys.readouterr().out)
    assert list(document["sections"]) == ["tiny-qwen2 router"]
    assert document == json.loads(out.read_text())


def test_wrong_use_is_refused(monkeypatch):
    with pytest.raises(InputError, match="prefill: choose from exactness"):
        gpu.main(device="cpu", shapes="tiny", only=["prefill"])
    with pytest.raises(InputError, match="need a GPU"):
        gpu.main(device="cpu")


def test_a_failed_section_ends_the_command_after_its_json(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "router_section", lambda *given: 1 / 0)
    with pytest.raises(PathgenError, match="failed: tiny-llama router"):
        gpu.main(device="cpu", shapes="tiny", only=["router"], model=["tiny-llama"])
    document = json.loads(capsys.readouterr().out)
    assert document["sections"]["tiny-llama router"]["error"] == "ZeroDivisionError: division by zero"
