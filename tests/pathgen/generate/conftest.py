"""A Ray of their own for the runs that fail on purpose, and one run that does not."""

from __future__ import annotations

import pytest
from fault_lab import Lab, depth, own_actors, ray_in_a_process, records


@pytest.fixture(scope="module")
def lab(tiny_model):
    with ray_in_a_process() as (address, process), own_actors(Lab(address, process, tiny_model)) as lab:
        yield lab


@pytest.fixture(scope="module")
def whole(lab, tmp_path_factory):
    """The records of an uninterrupted run, and its summary."""
    out = tmp_path_factory.mktemp("whole") / "run"
    outcome = lab.generate(out)
    assert outcome.exit_code == 0
    found = records(out)
    assert outcome.summary.layer_executions == sum(depth(record.evaluations) for record in found.values())
    return found, outcome.summary
