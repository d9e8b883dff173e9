"""What makes a model another one, part by part, and what does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pathgen.errors import ArtefactError, InputError
from pathgen.identity import difference_told, differences, lasting, shown, used_by
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_recorded
from pathgen.store.run_json import RunInfo

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def folder(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    (copy / "chat_template.jinja").write_text(TEMPLATE)
    return copy


def config_edit(**changes):
    def edit(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def spaced(name: str):
    def edit(folder: Path) -> None:
        file = folder / name
        content = json.loads(file.read_text())
        file.write_text(json.dumps(dict(reversed(content.items())), indent=7) + "\n\n")

    return edit


def moved_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": f"{TEMPLATE}\n"}))


def generation_edit(**changes):
    return lambda folder: (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0} | changes))


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: None,
        spaced("config.json"),
        spaced("tokenizer.json"),
        spaced("tokenizer_config.json"),
        config_edit(transformers_version="4.1.0", _name_or_path="elsewhere", dtype="bfloat16", torch_dtype="float16"),
        config_edit(rms_norm_eps=0.000001, max_position_embeddings=512.0),
        generation_edit(temperature=0.3, do_sample=True, transformers_version="9"),
        moved_template,
        lambda folder: (folder / "chat_template.jinja").write_text(TEMPLATE + "\n"),
    ],
)
def test_what_changes_no_answer_changes_no_identity(folder, edit):
    generation_edit()(folder)
    before = fingerprint(folder)
    edit(folder)
    assert differences(before, fingerprint(folder)) == []
    assert lasting(before) == lasting(fingerprint(folder))


def other_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(content[:half] + bytes(byte ^ 1 for byte in content[half:]))


def other_token(folder: Path) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["new"] = 400
    file.write_text(json.dumps(content))


def adds_eos(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"add_eos_token": True}))


@pytest.mark.parametrize(
    ("edit", "parts", "told"),
    [
        (other_weights, ["weights"], "the weights differ from"),
        (config_edit(rope_theta=5e4), ["config"], "the config differs from"),
        (generation_edit(eos_token_id=[0, 3]), ["generation config"], "the generation config differs from"),
        (other_token, ["tokenizer"], "the tokenizer differs from"),
        (adds_eos, ["tokenizer"], "the tokenizer differs from"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text(TEMPLATE + " Well,"),
            ["chat template"],
            "the chat template differs from",
        ),
        (
            lambda folder: (other_weights(folder), adds_eos(folder)),
            ["weights", "tokenizer"],
            "the weights and tokenizer differ from",
        ),
    ],
)
def test_what_changes_answers_is_named(folder, edit, parts, told):
    generation_edit()(folder)
    before = fingerprint(folder)
    edit(folder)
    found = fingerprint(folder)
    assert differences(before, found) == parts
    assert difference_told(before, found, "the run's").startswith(told)
    assert lasting(before) != lasting(found)


def test_a_fingerprint_of_before_is_that_of_the_same_files(folder):
    """Older runs recorded the digest of the files alone."""
    before = shown(fingerprint(folder))
    assert len(before) == 16
    assert differences(before, fingerprint(folder)) == differences(fingerprint(folder), before) == []
    assert lasting(before) == before
    spaced("config.json")(folder)
    assert differences(before, fingerprint(folder)) == ["files"]
    with pytest.raises(
        ArtefactError, match=r"of fingerprint \w{16}; .* now has \w{16}: the weights, config or tokenizer"
    ):
        resolve_recorded(str(folder), before, "runs/paths")


def test_a_part_that_no_answer_depends_on_is_not_compared(folder):
    full = fingerprint(folder)
    plain = used_by(full, chat=False, generates=False)
    generation_edit(eos_token_id=7)(folder)
    (folder / "chat_template.jinja").write_text("other")
    assert differences(plain, fingerprint(folder)) == []
    assert differences(used_by(full, chat=True, generates=False), fingerprint(folder)) == ["chat template"]
    assert used_by(shown(full), chat=False, generates=False) == shown(full)


def test_a_run_is_not_continued_with_another_template(folder):
    asked = {"model_id": "m", "task": "arc", "source": "builtin"}
    run = RunInfo(
        {"task": {"chat": True}}, fingerprint=used_by(fingerprint(folder), chat=True, generates=False), **asked
    )
    assert run.continued_by(run) == run
    spaced("config.json")(folder)
    assert run.continued_by(replace(run, fingerprint=fingerprint(folder))).fingerprint == run.fingerprint
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(ArtefactError, match=r"model fingerprint: chat template +\w{16} +\w{16}$"):
        run.continued_by(replace(run, fingerprint=fingerprint(folder)))
    with pytest.raises(ArtefactError, match="the chat template differs from the one that it was made with"):
        resolve_recorded(str(folder), run.fingerprint, "runs/paths")


def test_a_config_that_is_no_json_is_named(folder):
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config.json cannot be read as JSON"):
        fingerprint(folder)
