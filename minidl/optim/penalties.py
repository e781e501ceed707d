"""Regularization of the loss: what is added to it, or pulls at the weights after the step.

A penalty holds no state, and may be shared between optimizers; only `AdaptivePenalty` belongs to a loss. Where one has
a decoupled form, ``decoupled=True`` leaves the gradient alone and moves the weights after the update instead, past the
optimizer's momentum and scaling. The pull is multiplied neither by η nor by `lr_scale`, so it stays the same when a
schedule lowers the rate. Several decoupled penalties pull in the order in which they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.graph import recording
from minidl.nn.losses import Loss
from minidl.ops.arguments import number, positive_integer
from minidl.optim.penalty import NormPenalty, Penalty, with_two_axes
from minidl.optim.vector import Layout
from minidl.tensor import Tensor

__all__ = ["L1", "L2", "AdaptivePenalty", "Elastic", "MaxNorm", "NormPenalty", "Penalty", "PerLayer"]


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

    Examples
    --------
    >>> optimizer = optim.SGD(model, lr=0.1, penalty=optim.penalties.L2(1e-4))
    >>> optimizer.penalty_value > 0
    True
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
        with_two_axes(layout, "MaxNorm")

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


class AdaptivePenalty(Penalty):
    r"""A penalty that is stronger where the samples of the batch are fitted badly.

    .. math:: \frac{1}{m} \sum_{i=1}^m \big(f_i(w) + \lambda_i\, \gamma(w)\big), \qquad
              \lambda_i = \lambda \left(1 - e^{-\|f_i(w)\| / \nu}\right), \qquad
              \nabla = \frac{1}{m} \sum_{i=1}^m \lambda_i \, \nabla \gamma(w)

    for the losses :math:`f_i` of the single samples of a step's batch. The :math:`\lambda_i` are constants of the step:
    gradients do not see how they depend on w. As the samples come to be fitted, the penalty fades.

    Parameters
    ----------
    penalty : Penalty
        λγ, one that is not decoupled, such as ``L2(1e-4)``.
    nu : float, positive, default 1
        ν, the loss at which a sample has 63 % of the full strength.

    Attributes
    ----------
    shares : (m,) array or None
        :math:`\lambda_i / \lambda` of the last batch; None before the first.

    Raises
    ------
    RuntimeError
        From a step, if no loss has been observed.

    Notes
    -----
    R, equations 4 to 6. It must see the losses of the samples: train with ``penalty.observing(loss)`` instead of the
    loss. What is computed without a graph, as in evaluation, it does not see. The shares are made anew in every step,
    so that a resumed training goes on to the bit although no checkpoint holds them. The methods for deterministic
    problems refuse it: for them the loss must not change between the places that they try in a step.

    Examples
    --------
    >>> penalty = optim.penalties.AdaptivePenalty(optim.penalties.L2(1e-4), nu=0.5)
    >>> optimizer = optim.HeavyBall(model, lr=0.1, penalty=penalty)
    >>> trainer = training.Trainer(model, optimizer, penalty.observing(nn.CrossEntropy()))
    """

    def __init__(self, penalty: Penalty, nu: float = 1.0) -> None:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"AdaptivePenalty: penalty is {penalty!r}, expected one of optim.penalties")
        if penalty.decoupled:
            raise ValueError(f"AdaptivePenalty: penalty is {penalty!r}, expected one that is not decoupled")
        self.penalty, self.nu = penalty, number(nu, "AdaptivePenalty", "nu", "(0, inf)")
        self.shares: Any = None

    def observing(self, loss: Loss) -> Loss:
        """Return a loss of the same value that tells this penalty the losses of the samples.

        Parameters
        ----------
        loss : nn.Loss
            One with `each`: all of `nn` have it.
        """
        if not isinstance(loss, Loss):
            raise TypeError(f"AdaptivePenalty.observing: loss is {loss!r}, expected an nn.Loss")
        return _Observed(loss, self)

    def observe(self, losses: Any) -> None:
        """Take the losses of the samples of the next step: a Tensor or array (m,)."""
        values = losses.data if isinstance(losses, Tensor) else losses
        self.shares = -np.expm1(-abs(values) / self.nu)

    @property
    def share(self) -> Any:
        """The mean of the shares, which the penalty is multiplied by; on a GPU it is an array of shape ()."""
        if self.shares is None:
            raise RuntimeError(
                "AdaptivePenalty: no loss has been observed; train with penalty.observing(loss) in place of the loss"
            )
        share = self.shares.mean(dtype=np.float64)
        return float(share) if array_module(share) is np else share.astype(self.shares.dtype)

    def check(self, layout: Layout) -> None:
        self.penalty.check(layout)

    def value(self, W: Any, layout: Layout) -> float:
        return self.share * self.penalty.value(W, layout)

    def gradient(self, W: Any, layout: Layout) -> Any:
        return self.share * self.penalty.gradient(W, layout)

    def __repr__(self) -> str:
        return f"AdaptivePenalty({self.penalty!r}, nu={self.nu!r})"


class _Observed(Loss):
    """A loss that tells an adaptive penalty those of the single samples, wherever a graph is recorded."""

    def __init__(self, loss: Loss, penalty: AdaptivePenalty) -> None:
        self.loss, self.penalty = loss, penalty

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        losses = self.loss.each(outputs, labels, progress)
        if recording.on:
            self.penalty.observe(losses)
        return losses
