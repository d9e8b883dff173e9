"""Runs each system of a benchmark with the frozen model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cluster.program.progress import counted
from pathgen.bridges.maps import Bridges
from pathgen.errors import ArtefactError
from pathgen.evaluation.answer_book import AnswerBook, Scores
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question
from pathgen.static.candidates import Effects, propose, scanned_paths
from pathgen.static.choice import own_choice
from pathgen.static.draw import FEWEST_FOLDS, SCAN_SHARE
from router.dev.routed_scores import askable, route
from router.net.policy import policy_of

from ..systems.confident_search import search_questions
from ..systems.early_exit import exit_confidences, exit_paths
from ..systems.fixed_paths import random_paths, repeat_paths, shuffled_paths
from ..systems.shortgpt import block_influence, pruned_path
from .answers import Answer, Effort, Point, SystemResult
from .inputs import BenchInputs
from .options import BRIDGED, GATES, ROUTER, BenchOptions

FIT_QUESTIONS = 48
"""Questions outside the benchmark on which static paths and settings are chosen."""
SCAN_QUESTIONS = 16
"""At most so many of them, and at most a third, measure every single edit; the others judge static paths."""
STATIC_CANDIDATES = 12
"""Paths that are judged."""
STATIC_FOLDS = 5
"""At most; as `pathgen static` has by default."""
EXIT_THRESHOLDS = (0.5, 0.9, 0.99, 0.999, 0.9999)
"""Near 1, because untrained heads are confident early."""
DEFAULT_EXIT_THRESHOLD = 0.99
"""Used without a router or static path whose depth could be matched."""


class Unavailable(Exception):
    """A system lacks an input; the text names it."""


@dataclass(eq=False)
class Systems:
    """Runs systems on a benchmark's questions, each system once; systems may use the result of another.

    Attributes:
        questions: the questions that fit the model's context.
        finished: results of an earlier call, by name; their answers are reused.
    """

    inputs: BenchInputs
    questions: Sequence[Question]
    evaluator: Evaluator
    options: BenchOptions
    finished: Mapping[str, SystemResult]

    def __post_init__(self) -> None:
        self._books: dict[str | None, AnswerBook] = {}
        self._found = dict(self.finished)
        for name, result in self.finished.items():
            if name != "oracle":  # another process ran its paths, maybe in another dtype
                for question, answer in zip(self.questions, result.answers, strict=True):
                    known = Evaluation(answer.path, answer.correct, answer.margin, answer=answer.answer, cut=answer.cut)
                    self._book_of(self.inputs.bridges_of(name)).learn(question.sha, [known])
        self._ways: dict[str, Callable[[], SystemResult]] = {
            "full": lambda: self._answered("full", [LayerPath.full(self.inputs.num_layers)] * len(self.questions)),
            "oracle": self._oracle,
            "static": self._static,
            "random": self._random,
            "shortgpt": self._shortgpt,
            "early_exit": self._early_exit,
            "repeat_block": self._repeat_block,
            "search": self._search,
            "shuffled": self._shuffled,
        }

    def result(self, name: str) -> SystemResult:
        """The system's result on all questions.

        Raises:
            Unavailable: it lacks an input.
        """
        if name not in self._found:
            way = name.removesuffix(BRIDGED)
            with self.evaluator.model.bridged(self.inputs.bridges_of(name)):
                self._found[name] = self._ways[way]() if way in self._ways else self._routed(way)
        return self._found[name]

    def _book_of(self, bridges: Bridges | None) -> AnswerBook:
        """The answers that were given over these bridges."""
        digest = bridges.digest if bridges else None
        if digest not in self._books:
            self._books[digest] = AnswerBook(
                self.evaluator.task, lambda: self.evaluator, together=self.options.batch_size
            )
        return self._books[digest]

    @property
    def _book(self) -> AnswerBook:
        return self._book_of(self.evaluator.model.bridges)

    def _routed(self, name: str) -> SystemResult:
        if name not in self.inputs.routers:
            given, how = ("", "") if name == ROUTER else (f"{GATES}=", " (--method gates --actions skip,execute)")
            raise Unavailable(f"no router: give --router {given}DIR of `router train`{how}")
        router = self.inputs.routers[name].router.to(self.evaluator.model.device)
        policy = policy_of(router, pinned=self.evaluator.model.pinned_layers)
        paths = route(self.evaluator, policy, self.questions)
        return self._answered(name, paths, efforts=[Effort.of_policy(policy, path) for path in paths])

    def _oracle(self) -> SystemResult:
        """The best path of each question's search, chosen with gold; the answers come from its record."""
        records = self.inputs.records
        if missing := sum(question.sha not in records for question in self.questions):
            raise Unavailable(
                f"{missing} of {len(self.questions)} questions have no record in --paths; search them with "
                "`pathgen generate` first"
            )
        answers = []
        for question in self.questions:
            record = records[question.sha]
            best = record.best_path or LayerPath.full(record.num_layers)
            stored = {evaluation.path: evaluation for evaluation in record.evaluations}
            if best not in stored:
                raise ArtefactError(f"--paths: the record of question {question.id} lacks its best path's evaluation")
            answers.append(Answer.of(question, stored[best]))
        return SystemResult(tuple(answers))

    def _static(self) -> SystemResult:
        given = self.inputs.static
        path = given.best.path if given else self._clearly_best()
        return self._answered("static", [path] * len(self.questions), str(path))

    def _random(self) -> SystemResult:
        ids, pinned = [question.id for question in self.questions], self.evaluator.model.pinned_layers
        paths = random_paths(self._reference(), ids, self.options.seed, pinned)
        return self._answered("random", paths)

    def _shortgpt(self) -> SystemResult:
        depth = round(float(np.mean([path.depth for path in self._reference()])))
        depth = min(depth, self.inputs.num_layers - 1)  # at least one layer is removed
        prompts = [self.evaluator.prepare(question).prompt_ids for question in self._fit_questions]
        model = self.evaluator.model
        path = pruned_path(block_influence(model, prompts), depth, model.pinned_layers)
        return self._answered("shortgpt", [path] * len(self.questions), str(path))

    def _early_exit(self) -> SystemResult:
        """Reports the threshold whose depth is nearest to the reference's; the others are points."""
        if self.evaluator.model.pinned_layers:
            raise Unavailable("an early exit would skip layers whose keys and values later layers read")
        prompts = [self.evaluator.prepare(question).prompt_ids for question in self.questions]
        confidences = exit_confidences(self.evaluator.model, prompts)
        swept = {threshold: exit_paths(confidences, threshold) for threshold in EXIT_THRESHOLDS}
        chosen = DEFAULT_EXIT_THRESHOLD
        with suppress(Unavailable):
            wanted = np.mean([path.depth for path in self._reference()])
            depths = {threshold: np.mean([path.depth for path in paths]) for threshold, paths in swept.items()}
            chosen = min(swept, key=lambda threshold: (abs(depths[threshold] - wanted), -threshold))
        last = self.inputs.num_layers - 1
        efforts = [Effort.of_paths([path], probes=min(path.depth, last)) for path in swept[chosen]]
        return self._swept("early_exit", swept, chosen, efforts)

    def _repeat_block(self) -> SystemResult:
        """Reports the size that is best outside the benchmark; the others are points."""
        sizes = repeat_paths(self.inputs.num_layers, self.evaluator.model.pinned_layers)
        chosen = next(iter(sizes))
        with suppress(Unavailable):
            best = self._best_on_fit("repeat_block", list(sizes.values()))
            chosen = next(size for size, path in sizes.items() if path == best)
        swept = {float(size): [path] * len(self.questions) for size, path in sizes.items()}
        return self._swept("repeat_block", swept, float(chosen))

    def _search(self) -> SystemResult:
        if self.evaluator.task.generates:
            raise Unavailable("its reward is the confidence among choices, and this task generates its answers")
        answers: list[Answer] = []
        with counted("search", len(self.questions), quiet=self.options.quiet) as on_done:
            for start in range(0, len(self.questions), self.options.batch_size):
                part = self.questions[start : start + self.options.batch_size]
                found = search_questions(self.evaluator, part, self.options.seed)
                for question, result in zip(part, found, strict=True):
                    answers.append(Answer.of(question, result.evaluation, Effort.of_paths(result.tried)))
                on_done(len(part))
        return SystemResult(tuple(answers))

    def _shuffled(self) -> SystemResult:
        if self.inputs.reference is None:
            raise Unavailable("no router whose paths can be shuffled: give --router DIR")
        if len(self.questions) < 2:
            raise Unavailable("there is only one question, so no other path to give it")
        paths = shuffled_paths(self.result(self.inputs.reference).paths, self.options.seed)
        return self._answered("shuffled", paths)

    def _answered(
        self,
        name: str,
        paths: Sequence[LayerPath],
        setting: float | str | None = None,
        efforts: Sequence[Effort] | None = None,
    ) -> SystemResult:
        found = [evaluation for (evaluation,) in self._answers(name, [[path] for path in paths])]
        spent = efforts or [Effort.of_paths([path]) for path in paths]
        answers = [Answer.of(*each) for each in zip(self.questions, found, spent, strict=True)]
        return SystemResult(tuple(answers), setting)

    def _answers(self, name: str, paths: Sequence[Sequence[LayerPath]]) -> list[list[Evaluation]]:
        """Each question's evaluations along its paths."""
        with counted(name, len(self.questions), quiet=self.options.quiet) as on_progress:
            return self._book.answers(list(zip(self.questions, paths, strict=True)), on_progress)

    def _swept(
        self,
        name: str,
        swept: Mapping[float, list[LayerPath]],
        chosen: float,
        efforts: Sequence[Effort] | None = None,
    ) -> SystemResult:
        self._answers(name, list(zip(*swept.values(), strict=True)))  # all settings together, as they share layers
        results = {setting: self._answered(name, paths) for setting, paths in swept.items()}
        points = [Point(s, float(r.correct.mean()), r.mean_depth) for s, r in results.items()]
        return replace(self._answered(name, swept[chosen], chosen, efforts), points=tuple(points))

    def _reference(self) -> list[LayerPath]:
        """The router's paths; without a router, the static path for every question."""
        name = self.inputs.reference or "static"
        try:
            return self.result(name).paths
        except Unavailable as error:
            raise Unavailable(f"no router or static path whose depth could be matched ({error})") from error

    @cached_property
    def _fit_questions(self) -> list[Question]:
        """Questions of --paths outside the benchmark, in the order of the folders."""
        found = askable(self.evaluator, [record.question for record in self.inputs.fit[:FIT_QUESTIONS]])
        if not found:
            raise Unavailable("no --paths with questions of this task outside the benchmark to fit it on")
        return found

    def static_candidates(self) -> list[LayerPath]:
        """Static paths to try, proposed from the effects of single edits outside the benchmark."""
        pinned = self.evaluator.model.pinned_layers
        scores = self._scores_of("static", self._scanned_and_judged[0], scanned_paths(self.inputs.num_layers, pinned))
        return propose(Effects.measure(scores.quality, pinned), STATIC_CANDIDATES)

    def _clearly_best(self) -> LayerPath:
        """The static path by the rule of `pathgen static`: the full path unless another one gains clearly, held out."""
        judged = self._scanned_and_judged[1]
        if len(judged) < FEWEST_FOLDS:
            raise Unavailable(
                f"{len(judged)} questions of --paths are left to judge paths by, at least {FEWEST_FOLDS} are needed; "
                "give --static, or more --paths"
            )
        candidates = self.static_candidates()
        folds = np.arange(len(judged)) % min(STATIC_FOLDS, len(judged))
        scores = self._scores_of("static", judged, candidates)
        return own_choice(np.ones(len(judged), dtype=bool), folds, candidates, scores)[0]

    @property
    def _scanned_and_judged(self) -> tuple[list[Question], list[Question]]:
        """The fit questions that propose static paths, and those that judge them."""
        count = min(SCAN_QUESTIONS, len(self._fit_questions) // SCAN_SHARE)
        return self._fit_questions[:count], self._fit_questions[count:]

    def _best_on_fit(self, name: str, candidates: Sequence[LayerPath]) -> LayerPath:
        """The first path of highest mean quality outside the benchmark."""
        scores = self._scores_of(name, self._fit_questions, candidates)
        return candidates[int(scores.quality.mean(axis=0).argmax())]

    def _scores_of(self, name: str, questions: Sequence[Question], paths: Sequence[LayerPath]) -> Scores:
        """[Q, P] scores of each path on each question."""
        with counted(name, len(questions), quiet=self.options.quiet) as on_progress:
            return self._book.scores(questions, paths, on_progress)
