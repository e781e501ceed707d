"""Regularization of the loss: what is added to it, or pulls at the weights after the step.

A penalty holds no state, and may be shared between optimizers. Where one has a decoupled form, ``decoupled=True``
leaves the gradient alone and moves the weights after the update instead, past the optimizer's momentum and scaling. The
pull is multiplied neither by η nor by `lr_scale`, so it stays the same when a schedule lowers the rate. Several
decoupled penalties pull in the order in which they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.ops.arguments import number, positive_integer
from minidl.optim.vector import Layout


class Penalty:
    """The base: write `value` and its derivative `gradient`, or `pull`, the decoupled form.

    Attributes
    ----------
    decoupled : bool
        Whether the optimizer calls `pull` after its update, instead of adding `gradient` to the loss's.
    """

    decoupled = False

    def check(self, layout: Layout) -> None:
        """Raise if this penalty does not fit these parameters."""

    def value(self, W: Any, layout: Layout) -> float:
        """Return what is added to the loss."""
        raise TypeError(f"{type(self).__name__} has no value method")

    def gradient(self, W: Any, layout: Layout) -> Any:
        """Return the derivative of `value`, a vector like W."""
        raise TypeError(f"{type(self).__name__} has no gradient method")

    def curvature(self, W: Any, layout: Layout) -> Any:
        """Return the diagonal of the second derivative of `value`, a vector like W."""
        raise TypeError(f"{type(self).__name__} has no curvature method")

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        """Return the weights after the decoupled step; `W` is what the update made of `before`."""
        raise TypeError(f"{type(self).__name__} has no decoupled form")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class NormPenalty(Penalty):
    r"""The base of those that are a sum of norms: write `terms`, the S, Λ and p of each.

    .. math:: \sum_S \Lambda_S \|W_S\|_p^p, \qquad
              \nabla = \Lambda p\, |w|^{p-1} \operatorname{sign}(w), \qquad
              \nabla^2 = \Lambda p (p-1)\, |w|^{p-2}

    `curvature` is 0 for p = 1, and infinite at w = 0 for 1 < p < 2. The decoupled form first subtracts ∇ at the old w
    for all terms with p > 1, then moves the weights towards zero by Λ for those with p = 1, as `L1` describes.

    Parameters
    ----------
    decoupled : bool
    biases : bool
        Whether parameters with fewer than two axes count: biases, and the scales and shifts of normalizations.
    """

    def __init__(self, decoupled: bool, biases: bool) -> None:
        for name, value in (("decoupled", decoupled), ("biases", biases)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{type(self).__name__}: {name} is {value!r}, expected True or False")
        self.decoupled, self.biases = bool(decoupled), bool(biases)

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        """Return (S, Λ, p) for each term; S is the slice of W."""
        raise TypeError(f"{type(self).__name__} has no terms method")

    def check(self, layout: Layout) -> None:
        self.terms(layout)

    def value(self, W: Any, layout: Layout) -> float:
        norms = ((strength, (np.abs(W[part]) ** p).sum(dtype=np.float64)) for part, strength, p in self.terms(layout))
        return sum((strength * float(norm) for strength, norm in norms), 0.0)

    def gradient(self, W: Any, layout: Layout) -> Any:
        gradient = np.zeros_like(W)
        for part, strength, p in self.terms(layout):
            gradient[part] += _derivative(W[part], strength, p)
        return gradient

    def curvature(self, W: Any, layout: Layout) -> Any:
        curvature = np.zeros_like(W)
        for part, strength, p in self.terms(layout):
            if p > 1:
                with np.errstate(divide="ignore"):  # infinite at 0 for p < 2
                    curvature[part] += strength * p * (p - 1) * np.abs(W[part]) ** (p - 2)
        return curvature

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        W, terms = W.copy(), self.terms(layout)
        for part, strength, p in terms:
            if p > 1:
                W[part] -= _derivative(before[part], strength, p)
        for part, strength, p in terms:
            if p == 1:
                W[part] -= np.clip(W[part], -strength, strength)  # exactly 0 where |w| is at most Λ
        return W

    def _parts(self, layout: Layout) -> list[slice]:
        """Return the slices of W that count."""
        return [slice(None)] if self.biases else _with_two_axes(layout, f"{type(self).__name__}: biases is False")


class L1(NormPenalty):
    r"""The sum of the weights' absolute values, which makes networks sparse.

    .. math:: L + \lambda \|W\|_1, \qquad \nabla = \lambda \operatorname{sign}(w), \quad \operatorname{sign}(0) = 0

    Decoupled, with :math:`v = w - \eta \nabla L` for whatever the update makes of w:

    .. math:: w \leftarrow v - \lambda \operatorname{sign}(v) \ \text{ if } |v| > \lambda, \quad \text{else } 0

    Where v has kept the sign of w and is larger than λ, this is the notes'
    :math:`w \leftarrow w - \eta \nabla L - \lambda \operatorname{sign}(w)` letter for letter. That form carries a small
    weight through zero and, with the sign turned, back again, and does not pull at 0: like the coupled gradient it
    oscillates around zero and never rests there. Here the weight stops at zero, and stays while
    :math:`|\eta \nabla L| \le \lambda`. This is the proximal step of λ‖W‖₁. As λ is the pull of one step, plain `SGD`
    at a constant rate minimizes :math:`L + \frac{\lambda}{\eta} \|W\|_1`.

    Parameters
    ----------
    strength : float
        λ.
    decoupled : bool, default False
        Give a decoupled L1 after other decoupled penalties: what pulls later moves its zeros.
    biases : bool, default True
        Whether ‖W‖ is that of the whole vector, as in the equation; False leaves out parameters with fewer than two
        axes (biases, and the scales and shifts of normalizations).

    Notes
    -----
    N §1.1.3; Tibshirani 1996; the proximal step: Daubechies et al. 2004. A Laplace prior on the weights.
    """

    def __init__(self, strength: float, decoupled: bool = False, biases: bool = True) -> None:
        self.strength = number(strength, "L1", "strength")
        super().__init__(decoupled, biases)

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        return [(part, self.strength, 1.0) for part in self._parts(layout)]


class L2(NormPenalty):
    r"""The sum of the weights' squares: weight decay.

    .. math:: L + \frac{\lambda}{2m} \|W\|_2^2, \qquad \nabla = \frac{\lambda}{m} w

    and with ``convention="sum"`` P's :math:`L + \lambda \sum w^2`, whose gradient is :math:`2 \lambda w`. Decoupled,
    with the old w on the right-hand side and :math:`\nabla L` for whatever the optimizer makes of it,

    .. math:: w \leftarrow w - \eta \nabla L - \frac{\lambda}{m} w \qquad \text{(or } 2 \lambda w \text{)}

    Parameters
    ----------
    strength : float
        λ.
    batch_size : int, default 1
        m. It is 1 in the convention "sum".
    convention : {"half", "sum"}, default "half"
    decoupled : bool, default False
    biases : bool, default True
        Whether ‖W‖ is that of the whole vector, as in the equation; False leaves out parameters with fewer than two
        axes (biases, and the scales and shifts of normalizations).

    Notes
    -----
    N §1.1.3; P. PyTorch's `weight_decay=λ/m` is the coupled form. AdamW (Loshchilov and Hutter 2019) multiplies the
    pull by the rate: :math:`w \leftarrow w - \eta_t (\dots + \lambda w)`; the notes' form does not, so for the same
    sequence at a constant rate λ/m is η times AdamW's λ. A Gaussian prior on the weights.
    """

    def __init__(
        self,
        strength: float,
        batch_size: int = 1,
        convention: str = "half",
        decoupled: bool = False,
        biases: bool = True,
    ) -> None:
        if convention not in ("half", "sum"):
            raise ValueError(f"L2: convention is {convention!r}, expected 'half' or 'sum'")
        self.strength = number(strength, "L2", "strength")
        self.batch_size = positive_integer(batch_size, "L2", "batch_size")
        if convention == "sum" and batch_size != 1:
            raise ValueError(f"L2: batch_size is {batch_size}, expected 1 in the convention 'sum', which has no m")
        self.convention = convention
        super().__init__(decoupled, biases)

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        factor = self.strength if self.convention == "sum" else self.strength / (2 * self.batch_size)
        return [(part, factor, 2.0) for part in self._parts(layout)]


class Elastic(NormPenalty):
    r"""`L2` and `L1` together, the elastic net.

    .. math:: L + \frac{\lambda_2}{2m} \|W\|_2^2 + \lambda_1 \|W\|_1, \qquad
              \nabla = \frac{\lambda_2}{m} w + \lambda_1 \operatorname{sign}(w)

    Decoupled both pull: first :math:`-\frac{\lambda_2}{m} w` with the old w, then λ₁ towards zero, as `L1` describes,
    so that zeros stay exact.

    Parameters
    ----------
    l1, l2 : float
        λ₁ and λ₂.
    batch_size : int, default 1
        m.
    decoupled : bool, default False
    biases : bool, default True
        Whether the norms are those of the whole vector, as in the equation; False leaves out parameters with fewer
        than two axes (biases, and the scales and shifts of normalizations).

    Notes
    -----
    N §1.1.3; Zou and Hastie 2005.
    """

    def __init__(self, l1: float, l2: float, batch_size: int = 1, decoupled: bool = False, biases: bool = True) -> None:
        self.l1, self.l2 = number(l1, "Elastic", "l1"), number(l2, "Elastic", "l2")
        self.batch_size = positive_integer(batch_size, "Elastic", "batch_size")
        super().__init__(decoupled, biases)

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        half = self.l2 / (2 * self.batch_size)
        return [term for part in self._parts(layout) for term in ((part, half, 2.0), (part, self.l1, 1.0))]


class PerLayer(NormPenalty):
    r"""Each layer with a strength and a norm of its own.

    .. math:: L + \sum_j \Lambda_j \|W_j\|_{p_j}^{p_j}, \qquad
              \nabla = \Lambda_j p_j\, |w|^{p_j-1} \operatorname{sign}(w)

    Decoupled, for p = 1 a weight moves towards zero by Λ and stops there, as `L1` describes; for p > 1
    :math:`w \leftarrow w - \eta \nabla L - \Lambda p\, |w|^{p-1} \operatorname{sign}(w)` with the old w on the right.

    Parameters
    ----------
    strengths : mapping
        Λ by the name of a layer or parameter, or pairs (Λ, p): {"conv1": 1e-4, "fc.weight": (1e-5, 1)}.
    norm : float, default 2
        p ≥ 1 where none is given.
    decoupled : bool, default False
    biases : bool, default False
        Whether a layer's name means also its parameters with fewer than two axes (biases, and the scales and shifts
        of normalizations). A key that is the parameter's own name always means it.

    Raises
    ------
    ValueError
        When the optimizer is made: if a key names no parameter, or only such as are left out, or two keys the same.

    Notes
    -----
    N §1.1.3. There is no 1/2 and no batch size here: Λ = λ/(2m), p = 2 is `L2(λ, m)`.
    """

    def __init__(
        self,
        strengths: Mapping[str, float | tuple[float, float]],
        norm: float = 2,
        decoupled: bool = False,
        biases: bool = False,
    ) -> None:
        if not isinstance(strengths, Mapping):
            raise TypeError(f"PerLayer: strengths is {strengths!r}, expected a mapping from names to strengths")
        norm = number(norm, "PerLayer", "norm", "[1, inf)")
        self.strengths = {key: self._checked(key, given, norm) for key, given in strengths.items()}
        super().__init__(decoupled, biases)

    @staticmethod
    def _checked(key: str, given: Any, norm: float) -> tuple[float, float]:
        name = f"strengths[{key!r}]"
        if not isinstance(given, (tuple, list)):
            return number(given, "PerLayer", name), norm
        if len(given) != 2:
            raise ValueError(f"PerLayer: {name} is {given!r}, expected a strength or a pair (strength, p)")
        strength, p = given
        return number(strength, "PerLayer", name), number(p, "PerLayer", f"p in {name}", "[1, inf)")

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        terms: list[tuple[slice, float, float]] = []
        key_of: dict[str, str] = {}
        place = dict(zip(layout.names, zip(layout.shapes, layout.spans, strict=True), strict=True))
        for key, (strength, p) in self.strengths.items():
            found = layout.named(key, "PerLayer")
            named = [name for name in found if self.biases or name == key or len(place[name][0]) >= 2]
            if not named:
                why = f"of fewer than two axes, which biases=False leaves out: {', '.join(found)}"
                raise ValueError(f"PerLayer: {key!r} names only parameters {why}; name them in full")
            for name in named:
                if name in key_of:
                    raise ValueError(f"PerLayer: both {key_of[name]!r} and {key!r} name {name}, expected one")
                key_of[name] = key
                terms.append((place[name][1], strength, p))
        return terms


class MaxNorm(Penalty):
    r"""A limit for the norm of each unit's incoming weights, held after every step.

    .. math:: w_u \leftarrow w_u \min\Big(1, \frac{c}{\|w_u\|_2}\Big)

    A unit u is an index of the last axis of a parameter with at least two axes, and all other axes are its incoming
    weights: a column of a dense layer's (in, out), a filter of a convolution's (kh, kw, in, out). Biases, and all
    other parameters with fewer axes, are left alone. Nothing is added to the loss.

    Parameters
    ----------
    limit : float
        c, positive. Give it after other decoupled penalties, so that it has the last word.

    Notes
    -----
    N §1.1.3 (weight constraint); Srivastava et al. 2014, who use it together with dropout. It holds from the first
    step on: initial weights are not touched.
    """

    decoupled = True

    def __init__(self, limit: float) -> None:
        self.limit = number(limit, "MaxNorm", "limit", "(0, inf)")

    def check(self, layout: Layout) -> None:
        _with_two_axes(layout, "MaxNorm")

    def value(self, W: Any, layout: Layout) -> float:
        return 0.0

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        W = W.copy()
        for _, part in layout.parts(W):
            if part.ndim >= 2:
                # in float64, where squares of a float32 neither overflow nor lose what the limit is compared with
                squares = np.square(part, dtype=np.float64).sum(axis=tuple(range(part.ndim - 1)))
                part *= self.limit / np.maximum(np.sqrt(squares), self.limit)
        return W


def _derivative(w: Any, strength: float, p: float) -> Any:
    """Return the gradient of Λ‖w‖_p^p."""
    if p == 1:
        return strength * np.sign(w)
    if p == 2:
        return 2 * strength * w
    return strength * p * np.abs(w) ** (p - 1) * np.sign(w)


def _with_two_axes(layout: Layout, who: str) -> list[slice]:
    """Return where the parameters with at least two axes lie in W; raise if there are none."""
    parts = [span for shape, span in zip(layout.shapes, layout.spans, strict=True) if len(shape) >= 2]
    if not parts:
        raise ValueError(f"{who}, and no parameter has two axes; there are {', '.join(layout.names)}")
    return parts
