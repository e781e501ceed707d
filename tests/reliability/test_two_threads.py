"""Two models that are trained in two threads at the same time become what they become one after the other."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minidl as ml
from minidl import data, nn, optim, training
from minidl.data import augment


def train(seed, kind, path, meet=None):
    """Train a network with all that draws random numbers; return weights, buffers, history and what evaluation says."""
    ml.manual_seed(seed)
    digits = data.load("digits")
    changes = augment.compose(augment.shift(1), augment.noise(0.05))
    loader = data.Loader(digits.train_x[:320], digits.train_y[:320], 32, seed=seed, augment=changes)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.2), nn.Flatten(), nn.Dense(128, 10),
    )  # fmt: skip
    trainer = training.Trainer(
        model, kind(model, lr=0.01), callbacks=[training.Checkpoint(path, every_steps=7), Meet(meet)], progress=False
    )
    history = trainer.fit(loader, (digits.test_x[:100], digits.test_y[:100]), epochs=3)
    epochs = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history.epochs]
    return model.state_dict(), history.steps, epochs


class Meet(training.Callback):
    """Both make each step at the same time."""

    def __init__(self, meet):
        self.meet = meet

    def on_step(self, trainer):
        if self.meet is not None:
            self.meet.wait(60)


CASES = ((1, optim.Adam), (2, optim.Nesterov))


def test_two_threads_that_train_give_what_they_give_one_after_the_other(tmp_path):
    apart = [train(seed, kind, tmp_path / f"apart{seed}") for seed, kind in CASES]
    together, meet = [None, None], threading.Barrier(2)

    def work(i):
        together[i] = train(*CASES[i], tmp_path / f"together{i}", meet)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (weights, steps, epochs), made in zip(apart, together, strict=True):
        assert made is not None
        assert made[0].keys() == weights.keys()
        for name in weights:
            np.testing.assert_array_equal(made[0][name], weights[name], strict=True)
        assert (made[1], made[2]) == (steps, epochs)
    assert not np.array_equal(apart[0][1][-1]["loss"], apart[1][1][-1]["loss"]), "they are different trainings"


def test_what_one_thread_switches_off_is_on_in_the_other(tmp_path):
    x = ml.Tensor(np.ones(3), requires_grad=True)
    inside, leave, seen = threading.Event(), threading.Event(), []

    def without():
        with ml.no_grad():
            inside.set()
            leave.wait(30)
            seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=without)
    thread.start()
    inside.wait(30)
    here = (x * 2).requires_grad
    leave.set()
    thread.join()
    assert here
    assert seen == [False]


@pytest.mark.slow
def test_eight_threads_that_train_give_what_they_give_one_after_the_other(tmp_path):
    apart = {seed: train(seed, optim.Adam, tmp_path / f"apart{seed}")[0] for seed in range(8)}
    together = {}

    def work(seed):
        together[seed] = train(seed, optim.Adam, tmp_path / f"together{seed}")[0]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, weights in apart.items():
        for name in weights:
            np.testing.assert_array_equal(together[seed][name], weights[name], strict=True)
