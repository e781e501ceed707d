"""A training that is killed and resumed: `python resumable_run.py FOLDER KIND`, the process that test_resume.py kills.

It prints a line after every step, and writes what it reached to result.npz and result.json when it is done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import minidl as ml
from minidl import data, nn, optim, training

STEPS = 70


def flip_and_noise(x, generator):
    """Mirror each image or not, and add noise."""
    mirrored = generator.random(len(x)) < 0.5
    x = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
    return x + np.float32(0.1) * generator.standard_normal(x.shape, dtype=np.float32)


def make(kind):
    """Return model, optimizer, loader, validation and rules, all new: by the same code in every process."""
    ml.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Flatten(), nn.Dropout(0.1, generator=np.random.default_rng(7)), nn.Dense(64, 10),
    )  # fmt: skip
    digits = data.load("digits")
    loader = data.Loader(digits.train_x[:150], digits.train_y[:150], 16, seed=3, augment=flip_and_noise)
    validation = data.Loader(digits.test_x[:50], digits.test_y[:50], 20)  # shuffled: its order is a part of the state
    if kind == "nesterov":
        schedule = optim.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=0, threshold=0.05)
        return model, optim.Nesterov(model, lr=schedule), loader, validation, [training.EarlyStopping(50)]
    schedule = optim.schedules.Cosine(0.01, STEPS)
    return model, optim.Adam(model, lr=schedule), loader, validation, [training.EarlyStopping(50, restore_best=False)]


class Steps(training.Callback):
    """Prints the number of every step, and leaves a moment to kill the process there."""

    def on_step(self, trainer):
        print(len(trainer.history.steps), flush=True)
        time.sleep(0.005)


def slowly(fsync):
    """Return fsync as on a slow disk, so that a process can be killed before, in and after it on a fast one too."""

    def flush(descriptor):
        time.sleep(0.003)
        fsync(descriptor)
        time.sleep(0.003)

    return flush


def main(folder, kind):
    os.fsync = slowly(os.fsync)
    path = folder / "run.safetensors"
    model, optimizer, loader, validation, rules = make(kind)
    callbacks = [training.Checkpoint(path, every_steps=3), Steps(), *rules]
    trainer = training.Trainer(model, optimizer, callbacks=callbacks, progress=False)
    resume = path if path.exists() else None
    history = trainer.fit(loader, validation, epochs=STEPS // len(loader), resume=resume)
    state = optimizer.state_dict()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    np.savez(folder / "result.npz", **arrays, **model.state_dict())
    seconds_apart = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history.epochs]
    generators = [generator.bit_generator.state for generator in (ml.backend.default_generator(), model[6].generator)]
    plain = {name: value for name, value in state.items() if name not in arrays}
    result = [history.steps, seconds_apart, history.stopped, generators, plain, loader.epoch, validation.epoch]
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
