r"""Methods that use curvature: Newton's, Gauss–Newton, Levenberg–Marquardt.

They are for small, deterministic problems: fitting a curve or a small network to all data at once, and comparing. With
n weights and m residuals, Newton's method keeps an n × n matrix and factorizes it (8 n² bytes, n³ / 3 operations a
step), the others an m × n matrix (8 m n bytes, 2 m n² operations). H takes 8 MB for 1,000 weights and 3.2 GB for
20,000; a convolutional network's millions are out of reach. What would not fit is refused before it is allocated. On
mini-batches the curvature is as noisy as the gradient, and these methods lose what they are for.

The solvers are SciPy's, on the CPU, in float64; a matrix is factorized, never inverted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.linalg

from minidl import derivatives, memory
from minidl.optim.deterministic import DeterministicOptimizer, float64
from minidl.optim.penalties import Penalty

LEAST_DAMPING = float(np.finfo(float).tiny)  # so that μ can grow again


class Newton(DeterministicOptimizer):
    r"""Newton's method.

    .. math:: W^t = W^{t-1} - H^{-1}\, \nabla L

    Where H is positive definite (its Cholesky factorization exists) this is the step. Where it is not, Newton's step
    would climb along the directions of negative curvature, so the step is damped: the eigenvalues of H are replaced by
    their absolute values, at least 10⁻⁸ of the largest (the saddle-free Newton method). In both cases the step is then
    halved until the loss falls enough (Armijo's condition, c = 10⁻⁴); if no fraction of it lowers the loss, W stays.

    Parameters
    ----------
    params : Module or iterable of Tensors
        n weights; H takes 8 n² bytes, and as much twice again while it is factorized.
    penalty : Penalty or sequence of them, optional
        Not decoupled ones.

    Attributes
    ----------
    damped : bool
        Whether H was not positive definite in the last step.
    eta : float
        The fraction of the step that was taken: 1, ½, ¼, …, or 0.

    Raises
    ------
    ArithmeticError
        From `step`, if the loss, its gradient or H is not finite. W is as before.
    MemoryError
        From `step`, before H is allocated, if it would not fit.

    Notes
    -----
    N §1.2.3.2; Nocedal and Wright 2006, §3.4; Dauphin et al. 2014. A start with zero gradient, such as a saddle, is
    never left.
    """

    def __init__(self, params: Any, penalty: Penalty | Sequence[Penalty] | None = None) -> None:
        super().__init__(params, penalty)
        self.damped, self.eta = False, 1.0

    def advance(self, closure):
        n = self._learned.size
        memory.require(24 * n * n, "Newton.step", f"a Hessian of {n:,} × {n:,} and its factorization")
        losses = lambda: self._number(closure())
        loss, g, H = derivatives.value_gradient_and_hessian(losses, self._tensors, "Newton.step")
        W, g, H, at = self._place, float64(g), float64(H), loss + self.penalty_value
        for penalty in self.penalties:
            g += float64(penalty.gradient(self._vector.iterate, self.layout))[self._learned]
            H[np.diag_indices(n)] += float64(penalty.curvature(self._vector.iterate, self.layout))[self._learned]
        self._finite(loss=at, gradient=g, Hessian=H)
        direction = self._direction(g, H)
        self._finite(step=direction)
        self.eta = self._halved(closure, W, direction, at, float(g @ direction))
        self._move(W + self.eta * direction)
        return at

    def _direction(self, g: Any, H: Any) -> Any:
        try:
            factor = scipy.linalg.cho_factor(H)
            self.damped = False
            return -scipy.linalg.cho_solve(factor, g)
        except np.linalg.LinAlgError:
            self.damped = True
            eigenvalues, Q = scipy.linalg.eigh(H)
            curvature = np.abs(eigenvalues)
            curvature = np.maximum(curvature, 1e-8 * curvature.max() or 1.0)
            return -Q @ (Q.T @ g / curvature)

    def _halved(self, closure: Any, W: Any, direction: Any, at: float, slope: float) -> float:
        """Return the largest of 1, ½, ¼, … with which the loss falls enough; 0 if there is none."""
        rounding = 4 * np.finfo(self._vector.iterate.dtype).eps * abs(at)
        for eta in 0.5 ** np.arange(100):
            if self._loss(closure, W + eta * direction) <= at + 1e-4 * eta * slope + rounding:
                return float(eta)
        return 0.0


class GaussNewton(DeterministicOptimizer):
    r"""The Gauss–Newton method for least squares.

    .. math:: W^t = W^{t-1} - (J^T J)^{-1} J^T r, \qquad r = f(W, x) - y, \quad L = \sum_i r_i^2

    The step solves :math:`\min_\delta \|J\delta + r\|` by a QR factorization of J with pivoting, so that the condition
    number of J counts and not its square. It is taken whole: far from the minimum it may diverge, as the method does.

    Parameters
    ----------
    params : Module or iterable of Tensors
        n weights. With m residuals, J takes 8 m n bytes, and as much twice again while it is factorized.

    Raises
    ------
    numpy.linalg.LinAlgError
        From `step`, if columns of J depend on each other; the message names the weights. W is as before.
    ArithmeticError
        From `step`, if a residual or the Jacobian is not finite. W is as before.
    MemoryError
        From `step`, before J is allocated, if it would not fit.

    Notes
    -----
    N §1.2.3.2. Linear problems are solved in one step. To add an L2 penalty, append √λ · W to the residuals.
    """

    closure_shall = "return the residuals"

    def advance(self, closure):
        r, J = self._residuals(closure)
        self._move(self._place - self._solved(J, r))
        return float(r @ r)

    def _solved(self, J: Any, r: Any) -> Any:
        """Return the δ that minimizes ‖Jδ − r‖."""
        lengths = np.linalg.norm(J, axis=0)
        lengths = np.where(lengths == 0, 1, lengths)
        projected, R, order = scipy.linalg.qr_multiply(J / lengths, r, mode="right", pivoting=True)
        steps = np.abs(np.diag(R))
        rank = int((steps > max(J.shape) * np.finfo(self._vector.iterate.dtype).eps * steps[0]).sum())
        if rank < J.shape[1]:
            names = [self.layout.locate(int(self._learned[column])) for column in sorted(order[rank:])]
            names[10:] = ["…"] if len(names) > 10 else []
            raise np.linalg.LinAlgError(
                f"GaussNewton: the Jacobian has {J.shape[1]} columns but rank {rank} at step {self.t + 1}; the columns "
                f"of {', '.join(names)} depend on the others. LevenbergMarquardt can go on from here"
            )
        delta = np.empty(len(order))
        delta[order] = scipy.linalg.solve_triangular(R, projected)
        return delta / lengths


class LevenbergMarquardt(DeterministicOptimizer):
    r"""The Levenberg–Marquardt method for least squares.

    .. math:: W^t = W^{t-1} - (J^T J + \mu D)^{-1} J^T r, \qquad r = f(W, x) - y, \quad L = \sum_i r_i^2

    with D the identity, or the diagonal of :math:`J^T J`. Small μ gives the Gauss–Newton step, large μ a short step
    along the gradient. μ follows the gain ratio ρ, how much of the fall that the linear model predicts has come, by
    Nielsen's rule:

    .. math:: \rho = \frac{\|r\|^2 - \|r(W + \delta)\|^2}{\|r\|^2 - \|r + J\delta\|^2}, \qquad
              \mu \leftarrow \mu \max\big(\tfrac13, 1 - (2\rho - 1)^3\big) \text{ if } \rho > 0

    Any other step is rejected: W is restored, and the step is tried again with μ doubled, then quadrupled, and so on.
    When the step has shrunk to the size of rounding, W stays.

    The step solves the stacked system :math:`\min_\delta \|(J; \sqrt{\mu D})\,\delta + (r; 0)\|` by QR: J is factorized
    once a step, and its triangle again with each μ. So the condition number of J counts and not its square, and a
    singular J is no obstacle.

    Parameters
    ----------
    params : Module or iterable of Tensors
        n weights. With m residuals, J takes 8 m n bytes, and as much twice again while it is factorized.
    mu : float above 0, default 1e-2
        μ of the first step.
    damping : {"identity", "diagonal"}, default "identity"
        D. "diagonal" does not depend on the units of the weights; use it where they differ much.

    Attributes
    ----------
    mu : float
        μ of the next step.
    gain : float
        ρ of the last trial.
    rejected : int
        How many trials of the last step were rejected.
    accepted : bool
        Whether the last step moved W.

    Raises
    ------
    ArithmeticError
        From `step`, if a residual or the Jacobian is not finite at W. A trial that is not finite is only rejected.
    MemoryError
        From `step`, before J is allocated, if it would not fit.

    Notes
    -----
    N §1.2.3.2; Levenberg 1944, Marquardt 1963, Nielsen 1999. To add an L2 penalty, append √λ · W to the residuals.
    """

    closure_shall = "return the residuals"
    numbers: ClassVar[dict[str, str]] = {"mu": "(0, inf)", "nu": "[2, inf)"}

    def __init__(self, params: Any, mu: float = 1e-2, damping: str = "identity") -> None:
        super().__init__(params)
        if damping not in ("identity", "diagonal"):
            raise ValueError(f"LevenbergMarquardt: damping is {damping!r}, expected 'identity' or 'diagonal'")
        self.damping = damping
        self.mu, self.nu = self.checked("mu", mu, "(0, inf)"), 2.0
        self.gain, self.rejected, self.accepted = 0.0, 0, False

    def advance(self, closure):
        r, J = self._residuals(closure)
        W, loss = self._place, float(r @ r)
        self.rejected, self.accepted = 0, False
        if loss == 0:
            return loss
        projected, R = scipy.linalg.qr_multiply(J, r, mode="right")  # Qᵀr and R, of J = QR
        lengths = np.linalg.norm(J, axis=0)
        D = np.where(lengths > 0, lengths**2, 1) if self.damping == "diagonal" else np.ones(len(W))
        rounding = np.finfo(self._vector.iterate.dtype).eps * np.linalg.norm(W)
        while not self.accepted:
            delta = self._solved(R, projected, D)
            if np.linalg.norm(delta) <= rounding:
                self._move(W)
                if not self.rejected:  # the damping alone holds W; let it go
                    self.mu = max(self.mu / 3, LEAST_DAMPING)
                break
            self.accepted = self._adapt(loss, self._sum_of_squares(closure, W + delta), R @ delta, D * delta**2)
        return loss

    def _solved(self, R: Any, projected: Any, D: Any) -> Any:
        """Return the δ that minimizes ‖(J; √μD) δ + (r; 0)‖, given J = QR and Qᵀr."""
        stacked = np.vstack([R, np.diag(np.sqrt(self.mu * D))])
        right = np.concatenate([-projected, np.zeros(len(D))])
        turned, triangle = scipy.linalg.qr_multiply(stacked, right, mode="right")
        return scipy.linalg.solve_triangular(triangle, turned)

    def _adapt(self, loss: float, trial: float, J_delta: Any, D_delta2: Any) -> bool:
        """Adapt μ by the gain ratio, and return whether the trial is accepted."""
        predicted = float(J_delta @ J_delta + 2 * self.mu * D_delta2.sum())  # ‖r‖² − ‖r + Jδ‖²
        rounding = 8 * np.finfo(self._vector.iterate.dtype).eps * loss  # below it, both differences are noise
        self.gain = (loss - trial + rounding) / (predicted + rounding)
        if self.gain > 0:
            self.mu = max(self.mu * max(1 / 3, 1 - (2 * self.gain - 1) ** 3), LEAST_DAMPING)
            self.nu = 2.0
            return True
        self.mu *= self.nu
        self.nu *= 2
        self.rejected += 1
        return False
