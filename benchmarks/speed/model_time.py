"""Where a search's model time goes, and how near the layers are to plain matrix products."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.lab.accelerator import synchronise
from benchmarks.lab.in_process import InProcess
from benchmarks.lab.measurement import target
from pathgen.engine.executor import Executor
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.jobs import RunSettings
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question

FULL_DEPTH_BATCH = 8
"""Questions in one batch at full depth."""
BLOCK = 4
"""Questions searched before their products are run again."""
MOST_REPLAYED = 1500
"""Products of a block that are run again as plain ones."""

Product = tuple[nn.Linear, int]
"""A linear layer, and how many states it multiplied at once."""


def full_depth(evaluator: Evaluator, questions: Sequence[Question]) -> dict[str, Any]:
    """Seconds a question takes at full depth, by step, in batches; the first batch is run once before."""
    full = LayerPath.full(evaluator.model.num_layers)
    prepared = [evaluator.prepare(question) for question in questions]
    batches = [prepared[start : start + FULL_DEPTH_BATCH] for start in range(0, len(prepared), FULL_DEPTH_BATCH)]
    evaluator.executor.kept.max_bytes = 0  # so that the batch run twice is computed twice
    work = evaluator.executor.work
    with synchronised(evaluator.executor):
        evaluator.evaluate([(entry, full) for entry in batches[0]])
        work.seconds.clear()
        for batch in batches:
            evaluator.evaluate([(entry, full) for entry in batch])
    seconds = {step: spent / len(questions) for step, spent in work.seconds.items()}
    return {
        "seconds_per_question": seconds,
        "capture_over_layers": target(seconds["capture"] / seconds["layers"], most=0.03),
    }


def searched(run: RunSettings, evaluator: Evaluator, questions: Sequence[Question]) -> dict[str, Any]:
    """The steps' shares of a search's model time, and the layers' rate over that of plain products.

    The products of the decoder layers are noted as they are asked. After each block of questions, a part of them is run
    again in the same order, in place of the layers: the same weights, as many states, nothing else.

    `layers_launch_share` is the part of the layers' time after which their last call has returned: near 1 on a GPU, it
    waits for Python. A CPU works within the calls.
    """
    model, work, search = evaluator.model, evaluator.executor.work, InProcess(run, evaluator)
    records: list[PathRecord] = []
    wall_s = cpu_s = flops = plain_s = 0.0
    with synchronised(evaluator.executor) as steps:
        for start in range(0, len(questions), BLOCK):
            started, cpu = time.perf_counter(), time.process_time()
            with _noted_products(model) as products:
                records += [entry.record for entry in search.search(questions[start : start + BLOCK])]
            wall_s, cpu_s = wall_s + time.perf_counter() - started, cpu_s + time.process_time() - cpu
            flops += _flops(products)
            replayed = _part_of(products)
            plain_s += _replay_s(replayed) * _flops(products) / _flops(replayed)
    seconds = dict(work.seconds)
    layers_rate, plain_rate = flops / seconds["layers"], flops / plain_s
    return {
        "evaluations_per_question": sum(len(record.evaluations) for record in records) / len(records),
        "wall_seconds_per_question": wall_s / len(records),
        "cpu_seconds_per_question": cpu_s / len(records),
        "seconds_per_question": {step: spent / len(records) for step, spent in seconds.items()},
        "layers_launch_share": steps.layers_launched_s / seconds["layers"],
        "most_kept_bytes": steps.most_kept_bytes,
        "layers_share": target(seconds["layers"] / sum(seconds.values()), least=0.9),
        "layers_gflops_per_s": layers_rate / 1e9,
        "plain_products_gflops_per_s": plain_rate / 1e9,
        "layers_over_plain_products": target(layers_rate / plain_rate, least=0.75),
    }


@dataclass(slots=True)
class Steps:
    """What is seen of an executor's steps from outside.

    Attributes:
        layers_launched_s: time until the layers' calls had returned, the device's work still under way.
        most_kept_bytes: of the states kept between calls.
    """

    layers_launched_s: float = 0.0
    most_kept_bytes: int = 0


@contextmanager
def synchronised(executor: Executor) -> Iterator[Steps]:
    """Within the block, a step ends when the device has done its work, so that `work.seconds` holds on CUDA too.

    Elsewhere calls return before their work is done, and a step's work is counted in a later one that waits for it.
    """
    seen, device = Steps(), executor.model.device

    def waiting(owner: object, step: str) -> Callable[..., Any]:
        own = getattr(owner, step)

        def run(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            out = own(*arguments, **named)
            if step == "_run":
                seen.layers_launched_s += time.perf_counter() - started
                seen.most_kept_bytes = max(seen.most_kept_bytes, executor.kept.nbytes)
            synchronise(device)
            return out

        return run

    with ExitStack() as patched:
        for owner, step in ((executor.model, "capture"), (executor, "_run"), (executor, "_logprobs")):
            patched.enter_context(mock.patch.object(owner, step, waiting(owner, step)))
        yield seen


def _flops(products: Sequence[Product]) -> float:
    return float(sum(2 * states * product.weight.numel() for product, states in products))


def _part_of(products: Sequence[Product]) -> Sequence[Product]:
    """At most MOST_REPLAYED products, from all along the search and from every kind of product of a layer."""
    stride = -(-len(products) // MOST_REPLAYED)
    while math.gcd(stride, len({id(product) for product, _ in products})) > 1:
        stride += 1  # else each layer's same few products would be met, and the others never
    return products[::stride]


@contextmanager
def _noted_products(model: PathModel) -> Iterator[list[Product]]:
    """Within the block, the linear products of the decoder layers are noted in order."""
    products: list[Product] = []

    def note(product: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(product, nn.Linear)
        products.append((product, given[0].numel() // product.in_features))

    found = [module for layer in model.layers for module in layer.modules() if isinstance(module, nn.Linear)]
    hooks = [product.register_forward_pre_hook(note) for product in found]
    try:
        yield products
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def _replay_s(products: Sequence[Product]) -> float:
    """Seconds of the products alone, the states made beforehand."""
    most: dict[int, int] = {}
    for product, states in products:
        most[product.in_features] = max(states, most.get(product.in_features, 0))
    weight = products[0][0].weight
    made = {width: weight.new_empty(states, width).normal_() for width, states in most.items()}

    def run(some: Sequence[Product]) -> None:
        for product, states in some:
            linear(made[product.in_features][:states], product.weight)
        synchronise(weight.device)

    if weight.is_cuda:
        run(products)  # it chooses a kernel for each shape, as it had for the search's
    started = time.perf_counter()
    run(products)
    return time.perf_counter() - started
