"""Every step from the search to the export on one tiny model in a folder, by the commands themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from pathgen.actors.model_spec import ModelSpec
from pathgen.errors import PathgenError
from pathgen.generate.jobs import Job, RunSettings
from pathgen.generate.options import GenerateOptions
from pathgen.generate.run import GenerationRun
from pathgen.generate.worker import SearchWorker
from pathgen.models.loading import load_model
from pathgen.paths.cost import CostModel
from pathgen.search.settings import SearchSettings
from pathgen.store.provenance import ShardMetadata
from router.data.path_datasets import PathDatasets
from router.features.features import FeatureKey
from router.features.worker import FeatureSettings, FeatureWorker
from router.labels.labels import make_labels
from router.net.pooling import Pooling

from .chain_parts import called, harness_gap, read_questions, save_tiny, work_through, write_questions

QUESTIONS, SIMULATIONS, IN_FLIGHT = 10, 20, 10
REPLAYED = 40
WINDOWS = 2
SPLIT = ("--epochs", 2, "--dev-share", 0.3)
ASKED, SCORED = 8, 3
"""Questions that are answered, and that the harness scores."""
NEW_TOKENS = 8
CLOSE = 1e-3
"""Nats between the harness's two models: of a continuation, in the sum over its tokens."""


class Chain:
    """One tiny model, and steps that use what earlier ones wrote; each returns what it found in a few words.

    A step raises InputError where a command refuses, and other errors where it fails.

    Args:
        folder: an empty one.
        group: `causal` or `image-text`, the mapping of the type.
        kind: the type, or a variant of it, as in `tiny_config`.
    """

    def __init__(self, folder: Path, group: str, kind: str):
        self.folder = folder
        self.model = save_tiny(folder / "model", group, kind)
        self.questions = write_questions(folder / "questions.jsonl", QUESTIONS)
        self.run = folder / "run"

    @property
    def steps(self) -> dict[str, Callable[[], str]]:
        """By name, in order."""
        return {
            "check": self.check,
            "search": self.search,
            "replay": self.replay,
            "static": self.static,
            "divergence": self.divergence,
            "imitate": self.imitate,
            "gates": self.gates,
            "generate": self.generate,
            "harness": self.harness,
            "export": self.export,
        }

    def check(self) -> str:
        """`pathgen check`."""
        found = called("pathgen", "check", self.model)
        pinned = found["pinned_layers"]
        return f"pins {', '.join(map(str, pinned))}" if pinned else ""

    def search(self) -> str:
        """`pathgen generate`, its actor in this process."""
        options = GenerateOptions(
            out=str(self.run),
            model=str(self.model),
            questions=str(self.questions),
            search=SearchSettings(simulations=SIMULATIONS),
            device="cpu",
            dtype="float32",
        )
        call = GenerationRun(options, lambda line: None)
        call.directory.create()
        with call.lease:
            call.directory.begin(call.info, call.lease.check)
            settings = RunSettings(
                out=options.out,
                token=call.lease.token,
                metadata=ShardMetadata.here(options.model, call.fingerprint, call.task.name),
                model=ModelSpec(options.model, call.fingerprint, "float32", "cpu"),
                options=options,
                cost=CostModel.layers(call.num_layers),
                in_flight=IN_FLIGHT,
            )
            work_through(SearchWorker(settings, "w-0"), [Job(question) for question in call.questions])
        found = called("pathgen", "stats", self.run)
        if found["failed"] or found["total"] != QUESTIONS:
            raise PathgenError(f"{found['failed']} of {found['total']} questions failed")
        return f"{found['improved']} improved, {found['kept']} kept"

    def replay(self) -> str:
        """`pathgen validate --replay`."""
        found = called("pathgen", "validate", self.run, "--replay", REPLAYED)
        return f"{found['replayed']} within {found['largest_gap_nats']:.0e}"

    def static(self) -> str:
        """`pathgen static` by accuracy."""
        out = self.folder / "accuracy.json"
        found = called(
            "pathgen", "static", "--paths", self.run, "--candidates", 4, "--folds", 3, "--threads", 1, "--out", out
        )
        return f"{len(found['frontier'])} depths"

    def divergence(self) -> str:
        """`pathgen static --target divergence`, and the router that deploys its shallowest path."""
        found = called("pathgen", *self._by_divergence, "--out", self._static)
        depth = min(entry["depth"] for entry in found["frontier"])
        deployed = ("--static", self._static, "--target-depth", depth, "--out", self.folder / "shallow")
        if called("router", "train", "--paths", self.run, *deployed)["mean_depth"] != depth:
            raise PathgenError(f"the router does not run at depth {depth}")
        return f"depth {depth}"

    def imitate(self) -> str:
        """`router train --method imitate`, its feature actor in this process."""
        runs = PathDatasets([str(self.run)])
        keys = {
            key.digest: key
            for label in make_labels(runs, "shortest")
            for key in [FeatureKey(label.question, label.task, False, label.path)]
        }
        model = ModelSpec(str(self.model), runs.fingerprint, "float32", "cpu")
        settings = FeatureSettings(str(self.run), model, Pooling(windows=WINDOWS), len(keys))
        work_through(FeatureWorker(settings, "f-0"), list(keys.values()))
        method = ("--method", "imitate", "--tracker", "none", "--windows", WINDOWS, "--width", 8, *SPLIT)
        found = called("router", "train", "--paths", self.run, *method, "--out", self._router("imitate"))
        return f"depth {found['mean_depth']:.2f}"

    def gates(self) -> str:
        """`router train --method gates`, with a part that reads the question, and the router that it gives."""
        method = ("--method", "gates", "--rank", 2, "--windows", WINDOWS, "--actions", "skip,execute")
        found = called("router", "train", "--paths", self.run, *method, *SPLIT, "--out", self._router("gates"))
        self._one_and_eight("gates")
        return f"depth {found['mean_depth']:.2f}"

    def generate(self) -> str:
        """`infer generate` with the imitating router at batch 1 and 8; with a bias too, so that paths differ."""
        return f"{max(self._one_and_eight('imitate', bias) for bias in (0.0, 0.2))} paths"

    def harness(self) -> str:
        """The harness with a router at full depth, against its own Hugging Face model."""
        from lm_eval.models.huggingface import HFLM

        from infer.harness.model import RoutedLM

        out = self._router("full")
        method = ("--static", self._static, "--target-depth", self._layers, "--out", out)
        called("router", "train", "--paths", self.run, *method)
        ours = RoutedLM(str(self.model), str(out), device="cpu", batch_size=4)
        model, tokenizer = load_model(str(self.model))  # the harness itself loads causal classes alone
        plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
        gap = harness_gap(ours, plain, read_questions(self.questions)[:SCORED])
        if gap > CLOSE:
            raise PathgenError(f"log-likelihoods differ by up to {gap:.2g} nats")
        return f"gap {gap:.0e}"

    def export(self) -> str:
        """`infer export` of a path with skips and of one with a repeat; the command compares logits itself."""
        gaps = []
        for name, source in {
            "skips": ("--static", self._static, "--depth", self._depth),
            "repeat": ("--model", self.model, "--path", "." * (self._layers - 1) + "2"),
        }.items():
            gaps.append(called("infer", "export", *source, "--out", self.folder / name)["max_logit_gap"])
        return f"gap {max(gaps):.0e}"

    @cached_property
    def _layers(self) -> int:
        return int(called("pathgen", "stats", self.run)["num_layers"])

    @property
    def _static(self) -> Path:
        return self.folder / "divergence.json"

    @property
    def _by_divergence(self) -> tuple[object, ...]:
        return ("static", "--target", "divergence", "--paths", self.run, "--depth", self._depth, "--threads", 1)

    @property
    def _depth(self) -> int:
        return self._layers - 2

    def _router(self, name: str) -> Path:
        return self.folder / name

    def _one_and_eight(self, router: str, bias: float = 0.0) -> int:
        """Compare answers at batch 1 and 8; the number of different paths."""
        prompts = [row["question"] for row in read_questions(self.questions)][:ASKED]
        how = ("--router", self._router(router), "--max-new-tokens", NEW_TOKENS, "--bias", bias)
        one, eight = (called("infer", "generate", *how, "--batch-size", size, *prompts)["outputs"] for size in (1, 8))
        if changed := sum(a != b for a, b in zip(one, eight, strict=True)):
            raise PathgenError(f"{changed} of {len(one)} answers differ at batch 1 and 8")
        return len({tuple(answer["path"]) for answer in one})
