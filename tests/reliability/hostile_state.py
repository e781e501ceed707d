"""States and texts that might harm their reader: checkpoints, histories, records, recipes, augmentations, grids."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from reliability.damage import damaged, damaged_text, damaged_tree, nested, twice_named
from safetensors import SafetensorError, safe_open

import minidl as ml
from minidl import cli, data, nn, optim, studies, training
from minidl.data import augment
from minidl.studies import command, run
from minidl.training import container

RNG = np.random.default_rng(0)
IMAGES = data.Dataset(
    RNG.integers(0, 256, (8, 8, 8, 1), np.uint8), np.arange(8) % 2, RNG.integers(0, 256, (4, 8, 8, 1), np.uint8),
    np.arange(4) % 2, ("a", "b"),
)  # fmt: skip

# ---------------------------------------------------------------- checkpoints


class Training:
    """What a checkpoint is loaded into."""

    def __init__(self) -> None:
        ml.manual_seed(0)
        noise = np.random.Generator(np.random.MT19937(1)), np.random.Generator(np.random.Philox(2))
        drops = [nn.Dropout(0.5, generator=generator) for generator in noise]
        self.model = nn.Sequential(nn.Dense(4, 6), nn.BatchNorm(6), *drops, nn.Dense(6, 2))
        self.optimizer = optim.Adam(self.model, lr=optim.schedules.Cosine(0.1, 30))
        self.loader = data.Loader(np.ones((8, 4), np.float32), np.arange(8) % 2, 4, seed=5)
        self.history = training.History([{"step": n, "loss": 1 / n} for n in range(1, 20)], [{"epoch": 1}], "")

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "loader": self.loader, "history": self.history}

    def step(self) -> None:
        x = next(iter(self.loader))[0]
        self.model(x)

    def state(self) -> list[Any]:
        """Return all that loading may change, as bytes and plain values."""
        generators = [layer.generator.bit_generator.state for layer in self.model if isinstance(layer, nn.Dropout)]
        rows = self.history.steps[:], self.history.epochs[:], self.history.stopped
        return _plain([self.model.state_dict(), self.optimizer.state_dict(), generators, self.loader.epoch, *rows])


def _plain(value: Any) -> Any:
    """Return a nest with the arrays in it as bytes, for comparison."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.tobytes() if isinstance(value, np.ndarray) else value


@functools.cache
def _training() -> Training:
    return Training()


@functools.cache
def _checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "good")
        training.save_checkpoint(path, **Training().parts, extra={"epoch": 1, "losses": [0.5], "x": np.arange(3)})
        return path.read_bytes()


def make_checkpoint(draw: random.Random) -> tuple[str, bytes]:
    content = _checkpoint()
    kind = draw.randrange(5)
    if kind == 0:
        return "run.safetensors", damaged(content, draw)
    length = int.from_bytes(content[:8], "little")
    header, arrays = json.loads(content[8 : 8 + length]), content[8 + length :]
    if kind == 1:
        arrays = damaged(arrays, draw)
    elif kind == 2:
        changed = damaged_tree(header, draw)
        header = changed if isinstance(changed, dict) else header
    else:
        state = json.dumps(damaged_tree(json.loads(header["__metadata__"]["state"]), draw))
        state = damaged_text(state, draw) if kind == 4 else twice_named(state, draw)
        header["__metadata__"]["state"] = nested(draw) if draw.random() < 0.02 else state
    encoded = json.dumps(header)
    if kind == 2 and draw.random() < 0.3:
        encoded = twice_named(encoded, draw)
    return "run.safetensors", _with_right_checksum(encoded.encode(), arrays)


def _with_right_checksum(header: bytes, arrays: bytes) -> bytes:
    """Return the file with the checksum that its content has, as who means harm would write it."""
    content = len(header).to_bytes(8, "little") + header + arrays
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            with safe_open(file.name, framework="numpy") as opened:
                metadata = opened.metadata()
                named = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            old = metadata.pop("crc32")
            return content.replace(old.encode(), container._checksum(metadata, named).encode(), 1)
        except (SafetensorError, AttributeError, LookupError, TypeError, ValueError):
            return content


def read_checkpoint(path: Path) -> None:
    target = _training()
    before = target.state()
    try:
        training.load_checkpoint(path, **target.parts)
    except ValueError:
        assert target.state() == before, "what is refused changes nothing"
        raise
    with np.errstate(all="ignore"):  # the weights may be any numbers
        target.step()
    good = path.with_name("good")
    good.write_bytes(_checkpoint())
    training.load_checkpoint(good, **target.parts)
    good.unlink()


# ---------------------------------------------------------------- histories and records, as JSON


def make_history(draw: random.Random) -> tuple[str, bytes]:
    rows = [{"kind": "step", "step": n, "epoch": 1, "loss": 1 / n, "rate": 0.1} for n in (1, 2, 3)]
    tree: Any = [*rows, {"kind": "epoch", "epoch": 1, "loss": 0.5}, {"kind": "end", "stopped": "epochs done"}]
    if draw.random() < 0.5:
        tree = damaged_tree(tree, draw)
    lines = [json.dumps(line) for line in tree] if isinstance(tree, list) else [json.dumps(tree)]
    if draw.random() < 0.3:
        lines[draw.randrange(len(lines)) if lines else 0 :] = [nested(draw), *lines[1:]]
    return "history.jsonl", _as_bytes("\n".join(lines) + "\n", draw)


def read_history(path: Path) -> None:
    found = training.History.load(path)
    assert isinstance(found.stopped, str)
    assert all(isinstance(row, dict) for row in found.steps + found.epochs)
    again = path.with_name("again.jsonl")
    found.save(again)  # so nothing in it is beyond what a history can hold
    assert training.History.load(again) == found
    again.unlink()


def _recipe(**changes: Any) -> studies.Recipe:
    settings = {
        "model": "mlp(8)", "optimizer": "HeavyBall(beta={beta})", "rate": "Cosine({rate}, {epochs})",
        "loss": "LabelSmoothing(0.1)", "penalty": "L2(0.0001)", "augment": "crop(1), flip", "blend": "mixup(alpha=0.2)",
        "values": {"rate": 0.1, "beta": 0.9}, "epochs": 3, "batch_size": 4,
    }  # fmt: skip
    return studies.Recipe("a", **settings | changes)  # type: ignore[arg-type]


def make_record(draw: random.Random) -> tuple[str, bytes]:
    record: dict[str, Any] = {
        "format": run.FORMAT, "run": run.Run(_recipe(), "digits").as_dict(), "training_images": 3, "seconds": 1.5,
        "failure": "", "epochs": [{"epoch": 1, "validation_accuracy": 0.5}], "made": {"date": "", "blas": []},
    }  # fmt: skip
    tree = damaged_tree(record, draw) if draw.random() < 0.7 else record
    return "run.json", _as_bytes(json.dumps(tree), draw)


def read_record(path: Path) -> None:
    record = run.read_record(path)
    made = run.Run.from_dict(record["run"])
    folder = path.parent.resolve()
    assert (folder / f"{made.key}.json").resolve().parent == folder, "the name of a file leads nowhere else"
    assert all(np.isfinite(accuracy) for accuracy in run.accuracies(record))


def _as_bytes(text: str, draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        text = damaged_text(text, draw)
    elif kind == 1:
        text = twice_named(text, draw)
    content = text.encode("utf-8", "replace")
    return damaged(content, draw) if kind == 2 else content


# ---------------------------------------------------------------- texts


def make_recipe(draw: random.Random) -> tuple[str, str]:
    part = draw.choice(("optimizer", "rate", "loss", "penalty", "augment", "blend"))
    return part, damaged_text(draw.choice((getattr(_recipe(), part), getattr(_recipe(), part) + ", flip")), draw)


def read_recipe(part: str, text: str) -> None:
    _recipe(**{part: text}).prepare(IMAGES, seed=0)


def make_augmentation(draw: random.Random) -> tuple[str, str]:
    names = draw.sample(sorted(augment.CHANGES), draw.choice((1, 1, 2)))
    texts = [
        draw.choice((name, f"{name}(0.1)", f"{name}({draw.choice((1, 4, 0.5))}, border='reflect')")) for name in names
    ]
    text = draw.choice(
        (", ".join(texts), "crop(4), flip, rotate(degrees=10)", "erase(p=0.5, area=(0.1, 0.2)), crop(2, size=(8, 8))")
    )
    return "augment", damaged_text(text, draw)


def read_augmentation(part: str, text: str) -> None:
    changes = augment.parse(text)
    x = (IMAGES.train_x / 255).astype(np.float32)
    made = changes(x, data.SampleGenerator(0, 0, np.arange(len(x))))
    assert made.dtype == x.dtype
    assert len(made) == len(x)
    assert np.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1


@functools.cache
def _parser() -> Any:
    return cli._parser()


def make_grid(draw: random.Random) -> tuple[str, str]:
    option, text = draw.choice(
        (("grid", "rate=0.1,0.3,0.5"), ("grid", "rate=1e-3"), ("fraction", "1/8"), ("fraction", "0.5"))
    )
    return option, damaged_text(text, draw)


def read_grid(part: str, text: str) -> None:
    arguments = _parser().parse_args(["study", "smoothing", "--quick", f"--{part}={text}"])
    study = command.STUDIES["smoothing"]
    study.recipes(command.chosen(study, arguments))
