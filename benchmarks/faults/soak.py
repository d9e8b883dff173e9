"""Does a run on a cluster stand a bad week? Kills a random actor or a whole node every few seconds, for minutes.

    python -m benchmarks.faults.soak                            # 3 minutes on 3 nodes, as `make soak`
    python -m benchmarks.faults.soak --minutes 0.25 --nodes 2   # a quick look

The nodes are Ray's own, on this machine, each with one CPU, beside a head without any. A lost node comes back before
the next strike. The same command is run again whenever it ends with anything but 0, and on a new folder when it is
done before time is up. The last line of stdout is one JSON document; exit code 1 if any question was lost, doubled or
changed, or if anything was left behind.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
import typer

from benchmarks.lab.killable import OFTEN, ROOT, Run, generate_command, is_actor
from benchmarks.lab.measurement import machine, run_script
from benchmarks.lab.survival import Tally, uninterrupted
from cluster.program.console import print_json

if TYPE_CHECKING:
    from ray_nodes import RayNodes

NODE_SHARE = 0.3
"""Of all strikes, those that take a node."""
RUNS_AFTER_TIME = 5
"""So often the last folder's run may end before it is done, once nothing is killed any more."""


class Killer(threading.Thread):
    """Strikes at random moments until told to stop; then all nodes are there again.

    Args:
        nodes: the cluster, with its head alone.
        count: nodes to keep.
        every_s: mean seconds between strikes.
        seed: of the moments and targets.

    Attributes:
        strikes: how often each kind of target was hit.
    """

    def __init__(self, nodes: RayNodes, count: int, every_s: float, seed: int):
        super().__init__(name="killer")
        self.strikes: Counter[str] = Counter()
        self._nodes = nodes
        self._names = [nodes.add(1) for _ in range(count)]
        self._every_s = every_s
        self._rng = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Kill, and replace what will not come back by itself."""
        while not self._ended.wait(self._rng.uniform(0.5, 1.5) * self._every_s):
            actors = [process for process in self._nodes.process.children(recursive=True) if is_actor(process)]
            if self._rng.random() < NODE_SHARE:
                self._nodes.lose(self._names.pop(self._rng.randrange(len(self._names))))
                self.strikes["node"] += 1
                self._ended.wait(self._every_s / 2)
                self._names.append(self._nodes.add(1))
            elif actors:
                victim = self._rng.choice(actors)
                try:
                    victim.kill()  # psutil compares start times: a reused pid is never hit
                    self.strikes["actor"] += 1
                except psutil.NoSuchProcess:
                    continue

    def stop(self) -> None:
        """No more strikes."""
        self._ended.set()
        self.join()


def run_until_done(command: list[str], out: Path, exits: Counter[int], killer: Killer, until: float) -> int:
    """The same command again and again until it is done, with strikes until a moment; the last exit code.

    Args:
        command: a run of `pathgen generate`, without its folder.
        out: the folder.
        exits: counts how its runs end.
        killer: at work.
        until: when it is stopped, in `time.monotonic()` seconds.
    """
    runs_after = 0
    while True:
        run = Run(command, out)
        while run.process.poll() is None:
            if time.monotonic() >= until and killer.is_alive():
                killer.stop()
            time.sleep(0.1)
        code = run.process.returncode
        exits[code] += 1
        print(f"exit {code} after {run.seconds:.0f} s: {run.errors()[-300:]}", file=sys.stderr, flush=True)
        runs_after += not killer.is_alive()
        if code == 0 or runs_after >= RUNS_AFTER_TIME:
            return code


def main(
    minutes: Annotated[float, typer.Option(help="Of strikes.")] = 3.0,
    nodes: Annotated[int, typer.Option(min=1)] = 3,
    every_s: Annotated[float, typer.Option(help="Mean seconds between strikes.")] = 4.0,
    questions: Annotated[int, typer.Option(min=1)] = 300,
    simulations: Annotated[int, typer.Option(min=1)] = 12,
    seed: int = 0,
    out: Annotated[str | None, typer.Option(help="JSON file to write beside stdout.")] = None,
) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from ray_nodes import ray_nodes
    from tiny_checkpoint import save_tiny_model

    os.environ["RAY_AUTH_MODE"] = "disabled"
    exits: Counter[int] = Counter()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, ray_nodes(**OFTEN) as cluster:
        model = save_tiny_model(Path(folder) / "model")
        command = generate_command(model, questions, simulations, "--device", "cpu")
        reference = uninterrupted(command, Path(folder) / "whole")
        on_cluster = [*command, "--address", cluster.address, "--shared-fs"]
        killer = Killer(cluster, nodes, every_s, seed)
        begun = time.monotonic()
        until = begun + 60 * minutes
        killer.start()
        while killer.is_alive():
            run = Path(folder) / f"run-{tally.tries}"
            code = run_until_done(on_cluster, run, exits, killer, until)
            tally.tries += 1
            tally.wrong_exit += code != 0
            tally.check(run, reference)
            if time.monotonic() >= until and killer.is_alive():
                killer.stop()
        seconds = time.monotonic() - begun
    report = {
        "nodes": nodes,
        "strikes": dict(killer.strikes),
        "every_s": every_s,
        "struck_seconds": 60 * minutes,
        "seconds": round(seconds, 1),
        "folders": tally.tries,
        "runs": sum(exits.values()),
        "exits": {str(code): count for code, count in sorted(exits.items())},
        "questions": tally.tries * questions,
        "lost": tally.lost,
        "doubled": tally.doubled,
        "differing": tally.differing,
        "unfinished": tally.wrong_exit,
        "left_behind": tally.left_behind,
        "problems": tally.problems,
        "uninterrupted_seconds": round(reference.seconds, 1),
        "machine": machine(threads=1),
    }
    if out:
        Path(out).write_text(json.dumps(report, indent=1) + "\n")
    print_json(report)
    raise typer.Exit(int(any(report[name] for name in ("lost", "doubled", "differing", "unfinished", "left_behind"))))


if __name__ == "__main__":
    run_script(main)
