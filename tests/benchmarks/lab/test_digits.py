import pytest

from benchmarks.lab.digits import from_digits, to_digits
from pathgen.paths.layer_path import LayerPath


def test_a_path_is_its_digits_there_and_back():
    path = LayerPath((1, 0, 2, 1))
    assert to_digits(path) == "1021"
    assert from_digits("1021") == path


@pytest.mark.parametrize("digits", ["", "13", "1-2"])
def test_what_is_no_path_is_refused(digits):
    with pytest.raises(ValueError, match=r"layer|invalid literal"):
        from_digits(digits)
