r"""The loss around weights and along the ways to them, on lines and planes that can be drawn. Li et al. 2018.

A network has many weights and a picture two axes, so it shows a slice: the loss at :math:`W + \alpha D` or at
:math:`W + \alpha D + \beta E` for directions D and E. `viz.loss_lines`, `viz.loss_planes` and `viz.loss_paths` draw
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import nn, tables
from minidl.backend import check_seed, to_numpy
from minidl.data import Loader
from minidl.graph import no_grad
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import Tensor

Weights = Mapping[str, Any]
LossFunction = Callable[..., Tensor]
FLAT = 1e-12  # the part of the variance below which there is no second direction


@dataclass(frozen=True, eq=False)
class LossLine:
    """The loss along a line through the weights.

    Attributes
    ----------
    alpha : (K,) array
        Where: W + α D.
    losses : (K,) array
        NaN or infinite where they overflow.
    """

    alpha: Any
    losses: Any


@dataclass(frozen=True, eq=False)
class LossPlane:
    """The loss on a plane through the weights.

    Attributes
    ----------
    alpha : (A,) array
    beta : (B,) array
        Where: W + α D + β E.
    losses : (B, A) array
        A row for each β; NaN or infinite where they overflow.
    """

    alpha: Any
    beta: Any
    losses: Any


@dataclass(frozen=True, eq=False)
class LossPaths:
    """The ways of several optimizers in the plane in which they differ most; printed, it is a report.

    Attributes
    ----------
    plane : LossPlane
        Around the mean of all visited weights; α and β are distances in the space of the weights.
    places : dict of (n, 2) arrays
        For each path where its weights lie in the plane.
    variance : array
        The share of the variance of all visited weights that each principal direction has, largest first.
    true : dict of (n,) arrays
        For each path the loss at the visited weights.
    projected : dict of (n,) arrays
        For each path the loss at their projections: what a picture of the plane shows.
    """

    plane: LossPlane
    places: dict[str, Any]
    variance: Any
    true: dict[str, Any]
    projected: dict[str, Any]

    @property
    def explained(self) -> float:
        """The share of the variance that lies in the plane."""
        return float(self.variance[:2].sum())

    def __str__(self) -> str:
        rows = [
            (name, str(len(true)), f"{true[0]:.4f}", f"{self.projected[name][0]:.4f}", f"{true[-1]:.4f}",
             f"{self.projected[name][-1]:.4f}")
            for name, true in self.true.items()
        ]  # fmt: skip
        first, second = self.variance[:2]
        return tables.as_text(
            f"the plane has {self.explained:.1%} of the variance of the visited weights ({first:.1%} + {second:.1%})",
            ("path", "weights", "first: true", "projected", "last: true", "projected"),
            rows,
        )


def random_direction(model: nn.Module, generator: np.random.Generator | None = None) -> dict[str, Any]:
    r"""Return a random direction whose filters are as long as the weights' filters.

    .. math:: D_f = \frac{\|W_f\|}{\|Z_f\|}\, Z_f, \qquad Z \sim N(0, I)

    for every filter f of a convolution and every unit f of a dense layer: the weights that lead to one output. So a
    step of α changes every filter by the same share, however large it is: with ReLU or batch normalization a network
    whose filters are ten times as large may compute the same, and its slice should look the same. Biases, and scales
    and shifts of normalizations, which have one axis, are left alone: their D is 0. Li et al. 2018, §4.

    Parameters
    ----------
    model : nn.Module
    generator : numpy.random.Generator, optional
        Default: one with the seed 0.

    Returns
    -------
    dict of arrays
        For each parameter by its name.
    """
    generator = np.random.default_rng(0) if generator is None else generator
    direction = {}
    for name, parameter in model.named_parameters():
        W = to_numpy(parameter.data).astype(np.float64)
        if W.ndim < 2:
            direction[name] = np.zeros(W.shape)
            continue
        Z = generator.standard_normal(W.shape)
        filters = tuple(range(W.ndim - 1))  # the last axis counts the outputs
        direction[name] = Z * np.sqrt((W**2).sum(filters) / (Z**2).sum(filters))
    return direction


def loss_line(
    model: nn.Module,
    x: Any,
    y: Any,
    direction: Weights | None = None,
    *,
    span: tuple[float, float] = (-1.0, 1.0),
    points: int = 41,
    loss: LossFunction | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> LossLine:
    r"""Return the loss at :math:`W + \alpha D` for evenly spaced α.

    The model is in evaluation mode meanwhile, with the running statistics that it has. Afterwards its weights, buffers
    and modes are what they were, to the bit, also after an error.

    Parameters
    ----------
    model : nn.Module
    x, y : (N, …) arrays
        As for `data.Loader`. A few hundred samples tell the form of the loss.
    direction : mapping of arrays, optional
        D, for each parameter by its name; those that it leaves out stay as they are, and so do buffers. The difference
        of two state dicts leads from one solution to another. Default: a `random_direction`.
    span : (float, float), default (-1, 1)
        The first and the last α.
    points : int, default 41
    loss : callable, default nn.CrossEntropy()
        Called with (outputs, labels); a mean over the batch.
    batch_size : int, default 256
    seed : int, default 0
        Of the random direction.

    Raises
    ------
    ValueError
        If the direction has a name, shape or value that does not fit, or there are fewer than two points.
    """
    alpha = _grid("loss_line", span, points)
    D = _direction("loss_line", model, direction, np.random.default_rng(check_seed(seed, "loss_line")))
    with _measuring(model, x, y, loss, batch_size) as (W, measure):
        losses = [measure(_moved(W, (a, D))) for a in alpha]
    return LossLine(alpha, np.array(losses))


def loss_plane(
    model: nn.Module,
    x: Any,
    y: Any,
    directions: tuple[Weights, Weights] | None = None,
    *,
    span: tuple[float, float] = (-1.0, 1.0),
    points: int = 21,
    loss: LossFunction | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> LossPlane:
    r"""Return the loss at :math:`W + \alpha D + \beta E` on a square grid.

    Parameters
    ----------
    model, x, y, span, loss, batch_size : see `loss_line`
    directions : pair of mappings of arrays, optional
        D and E. Default: two of `random_direction`, which are nearly orthogonal where there are many weights.
    points : int, default 21
        For each axis, so the loss is computed points² times.
    seed : int, default 0
        Of the random directions; the first is that of `loss_line`.

    Raises
    ------
    ValueError
        As `loss_line`.
    """
    alpha = _grid("loss_plane", span, points)
    generator = np.random.default_rng(check_seed(seed, "loss_plane"))
    if directions is not None and (not isinstance(directions, (tuple, list)) or len(directions) != 2):
        raise ValueError("loss_plane: directions is not a pair (D, E) of mappings")
    D, E = (_direction("loss_plane", model, given, generator) for given in directions or (None, None))
    with _measuring(model, x, y, loss, batch_size) as (W, measure):
        losses = [[measure(_moved(W, (a, D), (b, E))) for a in alpha] for b in alpha]
    return LossPlane(alpha, alpha.copy(), np.array(losses))


def loss_paths(
    model: nn.Module,
    x: Any,
    y: Any,
    paths: Mapping[str, Sequence[Weights]],
    *,
    margin: float = 0.25,
    points: int = 21,
    loss: LossFunction | None = None,
    batch_size: int = 256,
) -> LossPaths:
    r"""Return the ways of optimizers in the plane of the first two principal directions of all weights they visited.

    With the visited weights as rows of a matrix, less their mean,

    .. math:: X = U S V^T, \qquad \text{place} = X V_{:2}, \qquad
              \text{share of the variance}_i = \frac{S_i^2}{\sum_k S_k^2}

    The loss on the plane is that at mean + α v₁ + β v₂, not that of the visited weights: `true` and `projected` tell
    how far they are apart. A high share of the variance says little about that, since already a random walk in many
    dimensions has most of its variance in two directions (Antognini and Sohl-Dickstein 2018).

    Parameters
    ----------
    model, x, y, loss, batch_size : see `loss_line`
    paths : mapping of sequences of state dicts
        For each optimizer, by name, what `model.state_dict()` was along its way. Each counts alike, so give as many of
        each optimizer. The true loss is taken with the buffers of each (running statistics), the loss on the plane with
        those that the model has.
    margin : float, default 0.25
        How far the plane reaches beyond the paths, as a share of their extent.
    points : int, default 21
        For each axis.

    Raises
    ------
    ValueError
        If there is no path, an empty one, weights that do not fit the model, are NaN or infinite, or that lie all on
        one line, or the margin or the number of points is out of range.
    """
    number(margin, "loss_paths", "margin", "[0, inf)")
    states = _checked_paths(model, paths)
    names = [name for name, _ in model.named_parameters()]
    visited = np.array([_flat(state, names) for path in states.values() for state in path])
    mean = visited.mean(axis=0)
    U, S, V = np.linalg.svd(visited - mean, full_matrices=False)
    if len(S) < 2 or S[1] ** 2 <= FLAT * (S**2).sum() or S[0] == 0:
        raise ValueError("loss_paths: all weights of paths lie on one line, expected three that do not")
    places = U[:, :2] * S[:2]
    low, high = places.min(axis=0), places.max(axis=0)
    room = margin * (high - low)
    alpha, beta = (_grid("loss_paths", span, points) for span in np.stack([low - room, high + room], axis=1))
    v1, v2 = (_unflat(v, model) for v in V[:2])
    ends = np.cumsum([len(path) for path in states.values()])[:-1]
    of_path = dict(zip(states, np.split(places, ends), strict=True))
    with _measuring(model, x, y, loss, batch_size) as (W, measure):
        center = dict(W) | _unflat(mean, model)
        losses = [[measure(_moved(center, (a, v1), (b, v2))) for a in alpha] for b in beta]
        projected = {
            name: np.array([measure(_moved(center, (a, v1), (b, v2))) for a, b in path])
            for name, path in of_path.items()
        }
        true = {name: np.array([measure(state) for state in path]) for name, path in states.items()}
    shares = S**2 / (S**2).sum()
    return LossPaths(LossPlane(alpha, beta, np.array(losses)), of_path, shares, true, projected)


# ---------------------------------------------------------------- the loss at other weights


@contextlib.contextmanager
def _measuring(
    model: nn.Module, x: Any, y: Any, loss: LossFunction | None, batch_size: int
) -> Iterator[tuple[dict[str, Any], Callable[[Weights], float]]]:
    """Give the model's state, and a function that returns the loss at another; bring the model back at the end."""
    criterion = nn.CrossEntropy() if loss is None else loss
    batches = list(Loader(x, y, batch_size, shuffle=False))
    count = sum(len(inputs) for inputs, _ in batches)
    saved = model.state_dict()

    def measure(state: Weights) -> float:
        model.load_state_dict(state)
        return sum(criterion(model(inputs), labels).item() * len(inputs) for inputs, labels in batches) / count

    try:
        with no_grad(), nn.evaluating(model), np.errstate(over="ignore", invalid="ignore"):
            yield saved, measure
    finally:
        model.load_state_dict(saved)


def _moved(state: Weights, *steps: tuple[float, Weights]) -> dict[str, Any]:
    """Return the state, moved by so much along each direction."""
    moved = dict(state)
    for amount, direction in steps:
        for name, part in direction.items():
            moved[name] = moved[name] + amount * part
    return moved


def _flat(state: Weights, names: Sequence[str]) -> Any:
    return np.concatenate([np.asarray(to_numpy(state[name]), np.float64).ravel() for name in names])


def _unflat(vector: Any, model: nn.Module) -> dict[str, Any]:
    """Return the parts of a vector by the names and in the shapes of the parameters."""
    parameters = dict(model.named_parameters())
    ends = np.cumsum([parameter.size for parameter in parameters.values()])[:-1]
    parts = zip(parameters.items(), np.split(vector, ends), strict=True)
    return {name: part.reshape(parameter.shape) for (name, parameter), part in parts}


# ---------------------------------------------------------------- what was given


def _grid(who: str, span: Any, points: int) -> Any:
    if positive_integer(points, who, "points") < 2:
        raise ValueError(f"{who}: points is {points}, expected at least 2")
    try:
        low, high = map(float, span)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"{who}: span is {span!r}, expected a pair (first, last) of finite numbers")
    return np.linspace(low, high, points)


def _direction(who: str, model: nn.Module, given: Weights | None, generator: np.random.Generator) -> dict[str, Any]:
    if given is None:
        return random_direction(model, generator)
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{who}: a direction is {given!r}, expected a mapping of arrays by the parameters' names")
    own, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    return {name: _fitting(f"{who}: direction", name, part, own) for name, part in given.items() if name not in buffers}


def _fitting(who: str, name: str, values: Any, own: Mapping[str, Tensor]) -> Any:
    """Return the values of a parameter or buffer as an array in float64, or raise."""
    if name not in own:
        raise ValueError(f"{who} has {name!r}, which names no parameter; there are {', '.join(own)}")
    array = np.asarray(to_numpy(values.data if isinstance(values, Tensor) else values), np.float64)
    if array.shape != own[name].shape:
        raise ValueError(f"{who} has {name} of shape {array.shape}, expected {own[name].shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{who} has {name} with NaN or infinite values")
    return array


def _checked_paths(model: nn.Module, paths: Any) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(paths, Mapping) or not paths:
        raise ValueError("loss_paths: paths is empty, expected a mapping of names to lists of state dicts")
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    checked: dict[str, list[dict[str, Any]]] = {}
    for name, path in paths.items():
        checked[name] = []
        for i, state in enumerate(path):
            who = f"loss_paths: paths[{name!r}][{i}]"
            missing = own.keys() - state.keys()
            if missing:
                raise ValueError(f"{who} lacks {', '.join(sorted(missing))}")
            checked[name].append({key: _fitting(who, key, values, own) for key, values in state.items()})
        if not checked[name]:
            raise ValueError(f"loss_paths: paths[{name!r}] is empty, expected at least one state dict")
    return checked
