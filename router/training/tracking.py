"""Training curves in TensorBoard, Weights & Biases, MLflow or Trackio. A failing tracker never stops training."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pathgen.errors import InputError

from ..saved.layout import LOGS_FOLDER

logger = logging.getLogger(__name__)

TRACKERS = ("none", "tensorboard", "wandb", "mlflow", "trackio")
DEFAULT_TRACKER = "tensorboard"


class Tracker:
    """Sends a training's figures to a tracker. After its first failure it logs a warning and is not used again.

    Args:
        folder: of the router; its name is the project's name if the tracker is a service.
        settings: shown with the run; only text and numbers are sent.

    Raises:
        InputError: the name is unknown, or its package is not installed.
    """

    def __init__(self, name: str, folder: str | Path, settings: Mapping[str, Any]):
        if name not in TRACKERS:
            raise InputError(f"unknown tracker {name!r}; trackers are {', '.join(TRACKERS)}")
        if name != "none" and importlib.util.find_spec(name) is None:
            raise InputError(f"tracker {name} needs another package; run: pip install 'layerpaths[trackers]'")
        self._name, self._folder = name, Path(folder)
        self._settings = {key: value for key, value in settings.items() if isinstance(value, str | int | float)}
        self._tracker: Any = None

    def __enter__(self) -> Tracker:
        if self._name != "none":
            self._guarded(self._start)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._tracker is not None:
            self._guarded(self._tracker.finish)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the figures of a step (an epoch)."""
        if self._tracker is not None:
            self._guarded(lambda: self._tracker.log(dict(values), step=step))

    def _start(self) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind = LOGGER_TYPE_TO_CLASS[self._name]
        if kind.requires_logging_directory:
            tracker = kind(LOGS_FOLDER, self._folder)
        else:
            tracker = kind(self._folder.absolute().name)
        tracker.start()
        tracker.store_init_configuration(self._settings)
        self._tracker = tracker

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # an external service may raise anything; training must continue
            self._tracker = None
            logger.warning("tracker %s failed and is no longer used: %s", self._name, error)
