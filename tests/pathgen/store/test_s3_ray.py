"""A real run on S3: its own processes, Ray, an actor that writes to the bucket."""

from __future__ import annotations

import json
import sys

import pytest
from commands import pathgen
from fault_lab import ray_in_a_process, start, wait_for
from s3_lab import BUCKET, raw_rows, s3_here

from pathgen.questions.loading import load_questions
from pathgen.store.run_folder import RunDirectory

pytestmark = pytest.mark.ray

LIMIT = 4
OUT = f"s3://{BUCKET}/runs/arc"


def test_a_run_killed_on_a_bucket_goes_on_and_ends_with_each_question_once(tiny_model):
    arguments = [
        *("generate", "--out", OUT, "--model", str(tiny_model), "--limit", str(LIMIT), "--simulations", "40"),
        *("--actors", "1", "--in-flight", "1", "--threads-per-actor", "1", "--device", "cpu", "--quiet", "--json"),
    ]
    with s3_here() as s3, ray_in_a_process() as (address, _):
        command = [sys.executable, "-m", "pathgen", *arguments, "--address", address]
        run = RunDirectory(OUT)

        def shards_begun() -> int:
            return sum(method == "PUT" and "/paths/part-" in path for method, path in list(s3.requests))

        driver = start(command)
        wait_for(lambda: shards_begun() > 1 or driver.poll() is not None, limit_s=120)
        driver.kill()
        driver.wait()
        # The dead driver's lease is taken over at once; what its actor still commits meanwhile is not lost either.
        driver = start(command)
        output, errors = driver.communicate(timeout=180)
        assert driver.returncode == 0, errors
        summary = json.loads(output)
        assert summary["done_before"] > 0
        assert summary["done_before"] + summary["searched"] == LIMIT
        wanted = sorted(question.id for question in load_questions("builtin", needs="choices", limit=LIMIT))
        assert raw_rows(run) == wanted

        again = pathgen(*arguments)  # nothing is left to do, so no Ray is started in this process
        assert (again.code, again.json["done_before"], again.json["searched"]) == (0, LIMIT, 0)
        assert pathgen("stats", OUT, "--json").json["done"] == LIMIT
        report = pathgen("validate", OUT, "--json").json
        assert (report["valid"], report["problems"], report["notes"]) == (True, [], [])
