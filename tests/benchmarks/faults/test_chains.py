"""The chain of all steps on one model: what its table says, and hybrids from their search to their export."""

import pytest

from benchmarks.faults.chains import CHAINS_BELOW, chain, groups, section
from pathgen.errors import InputError


def test_the_table_tells_each_state_and_each_reason():
    found = {
        "lfm2": {"check": ("ok", ""), "search": ("ok", "3 improved"), "export": ("ok", "gap 0e+00")},
        "jamba": {"check": ("ok", ""), "search": ("failed", "ValueError: no"), "export": ("–", "needs search")},
        "gemma3n": {"check": ("refused", "four streams"), "search": ("–", "needs check"), "export": ("–", "")},
    }
    text = section(found)
    assert text.startswith(f"{CHAINS_BELOW}\n")
    assert "| `lfm2` | convolution windows | ok | ok | ok |\n" in text
    assert "| `jamba` | Mamba-1 and attention | ok | failed | – |\n" in text
    assert text.endswith("- `jamba`, search failed: ValueError: no\n- `gemma3n`, check refused: four streams\n")


def test_a_type_of_both_mappings_is_the_causal_one():
    assert groups(["gemma3", "qwen2_5_vl"]) == {"gemma3": "causal", "qwen2_5_vl": "image-text"}
    with pytest.raises(InputError, match="unknown type 'lamma'"):
        groups(["lamma"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bamba", "zamba2"])
def test_every_step_of_a_hybrid(kind):
    assert {step: told for step, told in chain("causal", kind).items() if told[0] != "ok"} == {}
