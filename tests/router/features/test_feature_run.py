"""The feature pass for real: Ray, actors that die, a pass that goes on."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from pathgen import faults
from pathgen.actors import fleet_run
from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from router.features.features import FeatureKey, compute_here
from router.features.options import FeatureOptions
from router.features.run import compute_features
from router.net.pooling import Pooling

pytestmark = pytest.mark.ray

PATHS = [LayerPath.full(6), LayerPath([0, 1, 2, 1, 1, 0])]
KEYS = [FeatureKey(Question(str(n), f"{n} + {n}?", reference="0"), "math", False, PATHS[n % 2]) for n in range(12)]
TOO_LONG = FeatureKey(Question("long", "x" * 600, reference="0"), "math", False, PATHS[0])
FILE_KEYS = 4


@pytest.fixture(autouse=True)
def ray_token(tmp_path, monkeypatch):
    """Ray keeps its token here, not in the home directory."""
    (tmp_path / "token").write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def compute(tmp_path, tiny_model):
    """The features of some keys in one run's folder, by two actors."""

    def compute(keys):
        options = FeatureOptions(actors=2, threads_per_actor=1, in_flight=FILE_KEYS, device="cpu", quiet=True)
        where = (str(tiny_model), fingerprint(tiny_model))
        return compute_features(str(tmp_path / "run"), keys, *where, Pooling(), options)

    return compute


def files(tmp_path):
    """Each file's keys, by its name; a file written anew has another name, by its writer."""
    found = {}
    for path in (tmp_path / "run").rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found[path] = set(file.keys())
    return found


def test_actors_that_die_and_passes_that_stop_cost_nothing_twice(compute, tmp_path, tiny_model, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, "after-rename:1:kill")  # every actor dies before it can tell of its first file
        first = compute([*KEYS[:8], TOO_LONG])
    assert first.keys == tuple(KEYS[:8])
    assert [key for key, _ in first.errors] == [TOO_LONG]
    assert "1 of 9 prompts have no features and are left out: question long: " in caplog.text
    assert first.seconds > 0
    before = files(tmp_path)
    assert sorted(name for keys in before.values() for name in keys) == sorted(key.digest for key in KEYS[:8])

    victim = next(path for path, keys in before.items() if keys)
    victim.write_bytes(victim.read_bytes()[:-1])
    lost = before.pop(victim)
    leftover = victim.with_name(".tmp-of-a-killed-writer")
    leftover.write_bytes(b"half")
    second = compute([TOO_LONG, *KEYS])
    assert second.keys == tuple(KEYS)
    assert not leftover.exists()
    after = files(tmp_path)
    assert before.items() <= after.items()
    new = [name for path in after.keys() - before.keys() for name in after[path]]
    assert sorted(new) == sorted([*lost, *(key.digest for key in KEYS[8:])])
    wanted = compute_here(PathModel.from_pretrained(str(tiny_model)), KEYS, Pooling())
    torch.testing.assert_close(second.rows(range(12)), wanted, atol=1e-4, rtol=1e-4)

    monkeypatch.setattr(fleet_run, "connect", None)  # Ray is not needed any more
    third = compute(KEYS[::-1])
    assert (third.keys, third.seconds) == (tuple(KEYS[::-1]), 0.0)
    assert files(tmp_path) == after


@pytest.mark.slow
def test_a_full_disk_ends_the_pass_with_the_place_and_leaves_nothing(compute, tmp_path, monkeypatch):
    monkeypatch.setenv(faults.VARIABLE, "mid-temp:1:enospc")
    with pytest.raises(PathgenError, match="No space left on device") as caught:
        compute(KEYS[:2])
    assert caught.value.exit_code == 1
    assert str(tmp_path / "run") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
