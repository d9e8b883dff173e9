"""Training learns, is reproducible, goes on after any interruption, and never keeps a broken state."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from killable_training import SETTINGS, toy_trainer
from training_toys import LAYERS, same_weights, toy_config, toy_examples

import router.training.trainer as train_module
from pathgen.errors import InputError, PathgenError
from pathgen.paths.layer_path import LayerPath
from router.dev.metrics import ActionMetrics, chosen_actions
from router.net.router import path_logits
from router.training.settings import TrainSettings
from router.training.tracking import Tracker
from router.training.trainer import Trainer, best_epoch, new_router, predicted_logits

STEPS_PER_EPOCH = 3
"""Of the killable training: 40 questions, 16 a step."""


def trained(examples, dev, settings, **config):
    trainer = Trainer(new_router(toy_config(**config), seed=0), settings, examples, dev, quiet=True)
    return trainer.router, trainer.run()


def same_history(first, second) -> bool:
    """Whether two trainings went the same way; how long they took does not count."""
    one, other = ([dataclasses.replace(report, seconds=0) for report in history] for history in (first, second))
    return one == other


@pytest.mark.parametrize("config", [{}, {"actions": ("skip", "execute", "repeat"), "head": "low_rank", "width": 2}])
def test_training_lowers_the_development_loss(config):
    _, history = trained(toy_examples(80, 0), toy_examples(20, 1), TrainSettings(epochs=4, batch_size=8), **config)
    assert history[-1].dev_loss < history[0].dev_loss


def test_a_learnable_rule_is_learnt_at_every_layer():
    dev = toy_examples(100, 1)
    router, history = trained(toy_examples(240, 0), dev, TrainSettings(epochs=8, batch_size=8, learning_rate=2e-2))
    metrics = ActionMetrics.of(chosen_actions(predicted_logits(router, dev).numpy()), chosen_actions(dev.targets))
    assert (metrics.layer_accuracy > 0.85).all()
    assert metrics.macro_f1 == pytest.approx(history[best_epoch(history) - 1].macro_f1)


def test_heads_are_trained_beside_a_static_part_that_stays():
    router = new_router(toy_config(scale=0.5), seed=0)
    static = path_logits(LayerPath((0, 1, 2)))
    router.static_logits.data.copy_(static)
    before = router.state_dict()["heads.1.up.weight"].clone()
    Trainer(router, TrainSettings(epochs=1), toy_examples(20, 0), toy_examples(5, 1), quiet=True).run()
    torch.testing.assert_close(router.static_logits.data, static, rtol=0, atol=0)
    assert not torch.equal(router.state_dict()["heads.1.up.weight"], before)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    routers = []
    for seed in (3, 3, 4):
        trainer = toy_trainer(None, settings=dataclasses.replace(SETTINGS, seed=seed))
        trainer.run()
        routers.append(trainer.router)
    assert same_weights(routers[0], routers[1])
    assert not same_weights(routers[0], routers[2])


def test_a_new_router_leaves_torchs_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = new_router(toy_config(), seed=0)
    assert torch.equal(torch.rand(1), expected)
    assert same_weights(first, new_router(toy_config(), seed=0))
    assert not same_weights(first, new_router(toy_config(), seed=1))


@pytest.mark.parametrize("reading", range(4 * STEPS_PER_EPOCH))
def test_interrupted_anywhere_it_ends_with_the_same_weights(tmp_path, reading):
    whole = toy_trainer(None)
    expected = whole.run()

    def interrupt(now):
        if now == reading:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_trainer(tmp_path, interrupt).run()
    again = toy_trainer(tmp_path)
    assert same_history(again.run(), expected)
    assert same_weights(again.router, whole.router)


def test_killed_between_epochs_it_goes_on_and_ends_with_the_same_weights(tmp_path):
    epochs_done = 2
    script = Path(__file__).parents[2] / "support" / "killable_training.py"
    command = [sys.executable, str(script), str(tmp_path), str(epochs_done * STEPS_PER_EPOCH)]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL

    readings: list[int] = []
    again, whole = toy_trainer(tmp_path, readings.append), toy_trainer(None)
    again.run()
    whole.run()
    assert same_weights(again.router, whole.router)
    assert len(readings) == (SETTINGS.epochs - epochs_done) * STEPS_PER_EPOCH


def test_a_finished_training_run_again_reads_no_features(tmp_path):
    readings: list[int] = []
    first = toy_trainer(tmp_path)
    history = first.run()
    again = toy_trainer(tmp_path, readings.append)
    assert again.run() == history
    assert readings == []
    assert same_weights(first.router, again.router)


def test_a_tracker_is_told_every_epoch_once_also_across_an_interruption(tmp_path):
    told = []

    class Notes(Tracker):
        def log(self, values, step):
            told.append((step, values["dev_loss"]))

    def interrupt(now):
        if now == 2 * STEPS_PER_EPOCH:
            raise KeyboardInterrupt

    def run(before):
        toy, tracker = toy_trainer(None), Notes("none", tmp_path, {})
        examples = toy_examples(40, 0, before)
        return Trainer(
            toy.router, SETTINGS, examples, toy_examples(10, 1), folder=tmp_path, tracker=tracker, quiet=True
        ).run()

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    history = run(lambda reading: None)
    assert told == [(report.epoch, report.dev_loss) for report in history]


def test_other_settings_start_anew_and_say_so(tmp_path, caplog):
    toy_trainer(tmp_path).run()
    readings: list[int] = []
    settings = dataclasses.replace(SETTINGS, learning_rate=1e-4)
    toy_trainer(tmp_path, readings.append, settings).run()
    assert len(readings) == 4 * STEPS_PER_EPOCH
    assert "other settings or data: training starts over" in caplog.text


def test_features_of_another_dtype_start_anew(tmp_path, caplog):
    toy = toy_trainer(tmp_path)
    toy.run()
    train, dev = (dataclasses.replace(given, dtype="bfloat16") for given in (toy._train, toy._dev))
    Trainer(toy_trainer(None).router, SETTINGS, train, dev, folder=tmp_path, tracker=toy._tracker, quiet=True).run()
    assert "other settings or data: training starts over" in caplog.text


def scripted_losses(monkeypatch, losses):
    """Let development losses be those given, epoch by epoch."""
    given = iter(losses)
    monkeypatch.setattr(Trainer, "_evaluate", lambda self: (next(given), 0.5))


def test_it_stops_when_the_development_loss_no_longer_falls_and_keeps_the_best_epoch(monkeypatch):
    examples, dev = toy_examples(20, 0), toy_examples(5, 1)
    scripted_losses(monkeypatch, [3.0, 2.0, 2.5, 2.0, 9.0])
    _, history = trained(examples, dev, TrainSettings(epochs=20, patience=2, warmup_share=0))
    assert [report.dev_loss for report in history] == [3.0, 2.0, 2.5, 2.0]
    scripted_losses(monkeypatch, [3.0, 2.0, 2.5, 2.0, 9.0])
    _, history = trained(examples, dev, TrainSettings(epochs=5, patience=None))
    assert len(history) == 5
    assert best_epoch(history) == 2


def test_the_weights_kept_are_those_after_the_best_epoch(monkeypatch):
    after = []
    learn = Trainer._learn

    def learn_and_note(self, epoch):
        loss = learn(self, epoch)
        after.append({name: value.clone() for name, value in self.router.state_dict().items()})
        return loss

    monkeypatch.setattr(Trainer, "_learn", learn_and_note)
    scripted_losses(monkeypatch, [3.0, 1.0, 2.0])
    router, _ = trained(toy_examples(20, 0), toy_examples(5, 1), TrainSettings(epochs=3))
    assert all(torch.equal(value, after[1][name]) for name, value in router.state_dict().items())
    assert not torch.equal(after[1]["heads.0.up.weight"], after[2]["heads.0.up.weight"])


def test_a_loss_that_is_not_finite_ends_it_and_the_good_state_stays(tmp_path, monkeypatch):
    loss = train_module.focal_loss
    calls = []

    def breaks_in_the_second_epoch(*args):
        calls.append(args)
        return loss(*args) * (math.nan if len(calls) > STEPS_PER_EPOCH + 1 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "focal_loss", breaks_in_the_second_epoch)
        with pytest.raises(PathgenError, match="loss of epoch 2 is not finite"):
            toy_trainer(tmp_path).run()
    again, whole = toy_trainer(tmp_path), toy_trainer(None)
    again.run()
    whole.run()
    assert same_weights(again.router, whole.router)


def test_questions_without_weight_teach_nothing():
    """Half of the questions have weight 0 and wrong targets: the others' gradients are all there are."""
    good = toy_examples(32, 0)
    spoilt = good.targets.copy()
    spoilt[16:] = np.roll(spoilt[16:], 1, axis=-1)
    weights = np.array([1.0] * 16 + [0.0] * 16)
    settings, dev = TrainSettings(epochs=2, batch_size=32, class_beta=0), toy_examples(5, 1)
    one, _ = trained(dataclasses.replace(good, weights=weights), dev, settings)
    other, _ = trained(dataclasses.replace(good, weights=weights, targets=spoilt), dev, settings)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


def test_targets_that_the_router_may_not_choose_are_refused():
    examples = toy_examples(20, 0)
    wanted = next(index for index in range(20) if examples.targets[index, :, 2].any())
    router = new_router(toy_config(actions=("skip", "execute")), seed=0)
    with pytest.raises(InputError, match=f"question q{wanted} is labelled"):
        Trainer(router, TrainSettings(), examples, examples)


def test_banned_actions_leave_training_finite():
    targets = np.zeros((20, LAYERS, 3), np.float32)
    targets[::2, :, 0] = targets[1::2, :, 1] = 1
    examples = toy_examples(20, 0, targets=targets)
    router, history = trained(examples, examples, TrainSettings(epochs=2), actions=("skip", "execute"))
    assert math.isfinite(history[-1].dev_loss)
    assert all(torch.isfinite(value).all() for value in router.state_dict().values())


def test_one_class_alone_is_told(caplog):
    targets = np.zeros((8, LAYERS, 3), np.float32)
    targets[..., 1] = 1
    examples = toy_examples(8, 0, targets=targets)
    trained(examples, examples, TrainSettings(epochs=1))
    assert "every target is EXECUTE" in caplog.text


def test_what_cannot_be_trained_is_refused():
    examples = toy_examples(4, 0)
    with pytest.raises(ValueError, match="no heads"):
        Trainer(new_router(toy_config(head="none"), 0), TrainSettings(), examples, examples)
    with pytest.raises(ValueError, match="targets of 3 layers for a router of 4"):
        Trainer(new_router(toy_config(num_layers=4), 0), TrainSettings(), examples, examples)


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"focal_gamma": -1.0}, "focal_gamma must be at least 0"),
        ({"warmup_share": 1.0}, re.escape("warmup_share must be in [0, 1)")),
        ({"class_beta": 1.0}, re.escape("class_beta must be in [0, 1)")),
    ],
)
def test_settings_out_of_bounds_are_named(change, bound):
    with pytest.raises(ValueError, match=bound):
        TrainSettings(**change)
