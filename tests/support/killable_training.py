"""A toy training that kills itself at a given reading of its features: python killable_training.py FOLDER READING."""

from __future__ import annotations

import os
import signal
import sys

from training_toys import toy_config, toy_examples

from router.training.settings import TrainSettings
from router.training.trainer import Trainer, new_router

SETTINGS = TrainSettings(epochs=4, batch_size=16, seed=3)


def toy_trainer(folder, before=lambda reading: None, settings=SETTINGS) -> Trainer:
    router = new_router(toy_config(), seed=0)
    return Trainer(router, settings, toy_examples(40, 0, before), toy_examples(10, 1), folder=folder, quiet=True)


def kill_at(wanted: int):
    def before(reading: int) -> None:
        if reading == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


if __name__ == "__main__":
    toy_trainer(sys.argv[1], kill_at(int(sys.argv[2]))).run()
