import sys

import pytest

from benchmarks.lab.killable import Run
from benchmarks.lab.survival import uninterrupted
from pathgen.errors import PathgenError


def test_a_run_is_told_its_folder_and_gives_what_it_printed(tmp_path):
    code, printed, born_s = Run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv))"], tmp_path
    ).wait()
    assert (code, printed[1:], born_s) == (0, ["--out", str(tmp_path)], None)


def test_a_reference_that_fails_ends_the_benchmark_with_its_exit_code_and_words(tmp_path):
    failing = [sys.executable, "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(2)"]
    with pytest.raises(PathgenError, match=r"exit code 2: no such model"):
        uninterrupted(failing, tmp_path)
