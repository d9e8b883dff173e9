"""RayJobs: by KubeRay's schema, with an entrypoint that our own programs take, and without secrets."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

import pathgen.cli
from cluster.cli import app

CRD = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())["schema"]
GENERATE = ("pathgen", "generate", "--questions", "builtin", "--limit", "3")


def kuberay(*options: str, command: tuple[str, ...] = GENERATE, out: str | None = "s3://bucket/run"):
    """What `cluster manifest kuberay` answers."""
    where = () if out is None else ("--out", out)
    words = ["manifest", "kuberay", "--image", "registry/layerpaths:1", *where, *options, "--", *command]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def job(*options: str, **more) -> dict:
    """The manifest, which keeps to the schema."""
    answer = kuberay(*options, **more)
    assert answer.exit_code == 0, answer.stderr
    manifest = yaml.safe_load(answer.stdout)
    jsonschema.validate(manifest, CRD)
    return manifest


def containers(manifest: dict) -> list[dict]:
    """The head's and the workers'."""
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def environment(container: dict) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


ALL = ("--secret", "aws", "--secret", "hub:token=HF_TOKEN", "--claim", "models=/models", "--min-workers", "1")


def test_every_option_at_once_keeps_to_the_schema_of_kuberay():
    manifest = job(*ALL, "--max-workers", "3", "--name", "arc-run", "--backoff-limit", "1", "--deadline-s", "60")
    assert manifest["metadata"] == {"name": "arc-run"}
    spec = manifest["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (1, 60)
    assert spec["rayClusterSpec"]["rayVersion"] == version("ray")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda spec: spec.update(retries=3),
        lambda spec: spec["rayClusterSpec"].pop("headGroupSpec"),
        lambda spec: spec["rayClusterSpec"]["authOptions"].update(mode="on"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplicas="3"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"].update(gpus=1),
    ],
)
def test_the_schema_would_catch_it(break_it):
    manifest = copy.deepcopy(job())
    break_it(manifest["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, CRD)


def test_a_retry_finds_its_state_and_gives_the_cluster_back():
    spec = job()["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_workers_come_by_the_autoscaler_from_none_and_the_head_takes_no_work():
    cluster = job("--max-workers", "5", "--gpus-per-worker", "8")["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (0, 0, 5)
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]


@pytest.mark.parametrize(
    ("options", "command", "actors"),
    [
        ((), GENERATE, "3"),
        (("--gpus-per-worker", "8"), GENERATE, "24"),
        (("--gpus-per-worker", "8"), (*GENERATE, "--gpus-per-actor", "3"), "6"),
        ((), (*GENERATE, "--gpus-per-actor=0.5"), "6"),
        (("--gpus-per-worker", "0"), GENERATE, "3"),
    ],
)
def test_as_many_actors_are_asked_for_as_all_workers_hold(options, command, actors):
    manifest = job("--max-workers", "3", *options, command=command)
    for container in containers(manifest):
        assert environment(container)["LAYERPATHS_ACTORS"] == actors
    device = "cpu" if "0" in options else "cuda"
    assert environment(containers(manifest)[0])["LAYERPATHS_DEVICE"] == device


def test_a_worker_has_a_cpu_for_each_of_its_actors():
    def cpus(*options: str) -> str:
        (group,) = job(*options)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        return group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]

    assert [cpus(), cpus("--gpus-per-worker", "8"), cpus("--cpus-per-worker", "7500m")] == ["4", "8", "7500m"]
    answer = kuberay("--gpus-per-worker", "8", "--cpus-per-worker", "6500m")
    assert (answer.exit_code, "8 actors, each of which asks Ray for a CPU" in answer.stderr) == (2, True)


def test_an_actor_without_a_gpu_fills_its_worker_so_that_the_autoscaler_brings_more():
    given = environment(containers(job("--gpus-per-worker", "0", "--cpus-per-worker", "7500m"))[0])
    assert given["LAYERPATHS_THREADS_PER_ACTOR"] == "8"
    assert "LAYERPATHS_THREADS_PER_ACTOR" not in environment(containers(job())[0])


def test_only_a_search_is_told_the_workers_device():
    """The head has no GPU, and there the others use torch in their driver."""
    trains = job("--claim", "s=/s", out="/s/r", command=("router", "train", "--paths", "/s/run"))
    assert "LAYERPATHS_DEVICE" not in environment(containers(trains)[0])


def test_containers_run_without_privileges_and_workers_without_a_service_account():
    spec = job()["spec"]
    cluster = spec["rayClusterSpec"]
    templates = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for template in (*templates, spec["submitterPodTemplate"]):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    assert cluster["workerGroupSpecs"][0]["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_entrypoint_is_the_command_and_our_own_program_takes_it(tiny_model, tmp_path, monkeypatch):
    """Here the shared folder of the claim is a folder of this machine, and nothing is started but the checks."""
    two_nodes = SimpleNamespace(nodes=lambda: [{"CPU": 4.0, "GPU": 1.0}] * 2)
    monkeypatch.setattr("pathgen.generate.run.Probe", lambda address: two_nodes)
    out = str(tmp_path / "a run")
    command = (*GENERATE, "--model", str(tiny_model), "--dry-run", "--json")
    manifest = job("--claim", f"shared={tmp_path}", command=command, out=out)
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert tuple(words) == (*command, "--out", out)
    assert words[0] == "pathgen"
    answer = CliRunner().invoke(pathgen.cli.app, words[1:], env=environment(containers(manifest)[0]))
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout) == {"out": out, "questions": 3, "done_before": 0, "to_search": 3}


def test_the_environment_sets_options_of_our_own_program(monkeypatch):
    given = environment(containers(job("--claim", "shared=/data", "--max-workers", "2", out="/data/run"))[0])
    asked = []
    monkeypatch.setattr("pathgen.generate.run.GenerationRun", lambda options, tell: asked.append(options))
    CliRunner().invoke(pathgen.cli.app, ["generate", "--out", "/data/run"], env=given)
    (options,) = asked
    assert (options.address, options.device, options.actors, options.shared_fs) == ("auto", "cuda", 2, True)
    assert (options.start_timeout_s, options.allow_failures) == (1800, 1)
    assert len([name for name in given if name.startswith("LAYERPATHS_")]) == 6


def test_the_entrypoint_comes_whole_through_the_shells_on_its_way():
    """The submitter's shell reads it as KubeRay writes it, Ray quotes the words again, the head's shell reads that."""
    words = ("pathgen", "generate", "--columns", "id=a b,prompt='q'", "--questions", 'x;y&&z>"$HOME"*.jsonl')
    entrypoint = job(command=words)["spec"]["entrypoint"]
    through = f'printf "%s\\0" {entrypoint}'
    first = subprocess.run(["bash", "-ce", through], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    again = subprocess.run(["sh", "-c", f'printf "%s\\0" {shlex.join(first)}'], capture_output=True, text=True)
    assert tuple(again.stdout.split("\0")[:-1]) == (*words, "--out", "s3://bucket/run")


@pytest.mark.parametrize(
    "word", ["a: b # c", "{{ 7 }} {% x %}", "- é\n😀\x7f\x85\ufeff", "null", "1e3", "'\"\\", " x " * 90]
)
def test_any_word_stays_one_text_in_the_manifest(word):
    assert shlex.split(job("--image", word, command=(*GENERATE, word))["spec"]["entrypoint"])[len(GENERATE)] == word
    assert all(container["image"] == word for container in containers(job("--image", word)))


def test_secrets_are_references():
    manifest = job("--secret", "aws", "--secret", "hub:token=HF_TOKEN")
    for container in containers(manifest):
        assert container["envFrom"] == [{"secretRef": {"name": "aws"}}]
        (by_key,) = [entry for entry in container["env"] if "valueFrom" in entry]
        assert by_key == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}


def test_a_claim_is_mounted_by_all_pods():
    manifest = job("--claim", "shared=/data", out="/data/run")
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]
        assert pod["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/data"}]


def test_the_commands_own_output_counts():
    assert job(out=None, command=(*GENERATE, "--out=gs://b/r"))["spec"]["entrypoint"].endswith("--out=gs://b/r")


@pytest.mark.parametrize(
    ("options", "more", "says"),
    [
        ((), {"out": "/tmp/run"}, "--out /tmp/run is a folder of one pod"),
        ((), {"out": "file:///tmp/run"}, "is a folder of one pod"),
        (("--claim", "shared=/data"), {"out": "/database/run"}, "is a folder of one pod"),
        ((), {"out": None}, "no output given; give --out"),
        ((), {"command": (*GENERATE, "--out", "s3://other/run")}, "give one"),
        (("--name", "Arc_Run"), {}, "--name takes"),
        (("--name", "a" * 48), {}, "--name takes"),
        (("--ray-version", "2.51.0"), {}, "2.52.0 or later"),
        (("--min-workers", "3"), {}, "got 3 to 1"),
        (("--memory-per-worker", "lots"), {}, "--memory-per-worker is a Kubernetes quantity"),
        (("--claim", "shared"), {}, "--claim is NAME=/FOLDER"),
        ((), {"command": (*GENERATE, "--gpus-per-actor", "2")}, "an actor of 2 GPUs does not fit a worker of 1"),
        ((), {"command": (*GENERATE, "--gpus-per-actor", "nan")}, "a number above 0"),
        ((), {"command": ()}, "COMMAND"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(options, more, says):
    answer = kuberay(*options, **more)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1


SECRET = "hf_" + "a" * 34


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ((), {"command": ("env", f"ANYTHING={SECRET}", *GENERATE)}),
        ((), {"command": ("env", "AWS_SECRET_ACCESS_KEY=0123456789", *GENERATE)}),
        ((), {"command": (*GENERATE, "--hf-token", "0123456789")}),
        ((), {"command": (*GENERATE, "--api-key=0123456789")}),
        ((), {"command": (*GENERATE, "AKIA0123456789ABCDEF")}),
        ((), {"out": "s3://user:0123456789@bucket/run"}),
        (("--secret", f"HF_TOKEN={SECRET}"), {}),
    ],
)
def test_a_secret_in_the_open_is_refused_and_not_repeated(options, more):
    answer = kuberay(*options, **more)
    assert answer.exit_code == 2
    assert "--secret" in answer.stderr
    assert "0123456789" not in answer.output
    assert SECRET not in answer.output


def test_the_many_tokens_of_a_prompt_are_no_secret():
    job(command=("infer", "generate", "--max-new-tokens", "16", "--file", "s3://b/prompts.txt"))


def test_json_is_the_same_manifest():
    assert json.loads(kuberay("--json").stdout) == job()


@pytest.mark.parametrize(
    ("questions", "options", "warned"),
    [
        (
            "q.jsonl",
            (),
            "--questions q.jsonl is a file of this machine, .*: mount a --claim and copy it there, or give an",
        ),
        ("/data/q.parquet", ("--claim", "c=/models"), "q.parquet is a file of this machine, .*: copy it below /models"),
        ("/models/q.jsonl", ("--claim", "c=/models"), None),
        ("s3://bucket/q.jsonl", (), None),
        ("allenai/ai2_arc:ARC-Easy", (), None),
        ("builtin", (), None),
    ],
)
def test_a_question_file_that_pods_do_not_see_is_warned_of(questions, options, warned):
    answer = kuberay(*options, command=("pathgen", "generate", "--questions", questions))
    assert answer.exit_code == 0
    assert yaml.safe_load(answer.stdout)["kind"] == "RayJob"
    if warned is None:
        assert not answer.stderr
    else:
        assert re.search(f"warning: .*{warned}", " ".join(answer.stderr.split()))
        assert "s3://bucket/questions.jsonl" in answer.stderr
