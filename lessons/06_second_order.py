# %% [markdown]
# # 6 · Second-order methods
#
# The gradient says which way is down. It does not say how far to go: that is what the learning rate is for. The second
# derivative knows it. Where the loss curves strongly the minimum is near, where it curves weakly it is far. Newton's
# method, Gauss–Newton and Levenberg–Marquardt use this. They have no learning rate to tune, and near a minimum a few
# steps bring them to the last digit.
#
# Here all three are written by hand and found again in `minidl/optim/second_order.py`. On the way there are three
# things to be careful about: a loss that curves downwards, a step that is too long to be true, and a matrix whose
# condition number is squared. The end says why nobody trains a large network this way.
#
# Lecture notes §1.2.3.2; Levenberg 1944; Marquardt 1963; Nielsen 1999; Dauphin et al. 2014; Nocedal and Wright 2006.

# %%
import numpy as np
import scipy.linalg

import minidl as ml
from minidl import course, ops, optim, surfaces, training, viz

this = course.lesson("6 · Second-order methods")

# %% [markdown]
# ## Newton's method
#
# Near a point $W$ the loss is almost a parabola:
#
# $$L(W + \delta) \approx L(W) + \nabla L^T \delta + \tfrac12\, \delta^T H\, \delta, \qquad
# H_{ij} = \frac{\partial^2 L}{\partial W_i\, \partial W_j}$$
#
# Its derivative by $\delta$ is zero where $H\delta = -\nabla L$. Going there is the step
#
# $$W^t = W^{t-1} - H^{-1} \nabla L$$
#
# Take Rosenbrock's valley, $f = 100\,(y - x^2)^2 + (1 - x)^2$, with the minimum 0 at $(1, 1)$. Its derivatives fit on a
# few lines. minidl gets them from the same ops that compute $f$: `ml.hessian` is exact, not a difference quotient.


# %%
def f(W):
    x, y = W
    return 100 * (y - x**2) ** 2 + (1 - x) ** 2


def gradient(W):
    x, y = W
    return np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])


def hessian(W):
    x, y = W
    return np.array([[1200 * x**2 - 400 * y + 2, -400 * x], [-400 * x, 200.0]])


valley = surfaces.rosenbrock()
start = np.array(valley.start)
W = ml.Tensor(start, requires_grad=True)
from_minidl = ml.hessian(lambda: valley(W), W)
print("the Hessian at the start, by hand:", hessian(start).tolist())
print(f"largest difference from ml.hessian: {np.abs(hessian(start) - from_minidl).max():.1e}")
np.testing.assert_allclose(hessian(start), from_minidl, rtol=1e-13)

# %% [markdown]
# The step is never computed by inverting $H$: the equation $H\delta = -\nabla L$ is solved. And the parabola is only
# an approximation, so a step that does not lower the loss enough is halved until it does (Armijo's condition):
#
# $$L(W + \eta\delta) \le L(W) + 10^{-4}\, \eta\, \nabla L^T \delta, \qquad \eta = 1, \tfrac12, \tfrac14, \dots$$


# %%
def shortened(f, g, W, direction):
    """Return the point at the largest of 1, 1/2, 1/4, … of the step that lowers f enough."""
    eta = 1.0
    while f(W + eta * direction) > f(W) + 1e-4 * eta * g @ direction:
        eta /= 2
    return W + eta * direction


def newton(f, gradient, hessian, W):
    g, H = gradient(W), hessian(W)
    return shortened(f, g, W, np.linalg.solve(H, -g))


steps = 21
path = [start]
for _ in range(steps):
    path.append(newton(f, gradient, hessian, path[-1]))
by_hand = np.array(path)


def minimized(problem, start, make, steps, squares=False):
    """Run one of minidl's methods on a surface; return its path and the optimizer."""
    W = ml.Tensor(np.array(start), requires_grad=True)

    def closure():
        if squares:
            return problem.residuals(W)
        loss = problem(W)
        loss.backward()
        return loss

    optimizer = make([W])
    return training.minimize(optimizer, closure, max_steps=steps, keep_path=True).path, optimizer


from_minidl, _ = minimized(valley, start, optim.Newton, steps)
print("step        f")
for t in (0, 1, 5, 10, 15, 18, 19, 20, 21):
    print(f"{t:4}  {f(by_hand[t]):9.2e}")
print(f"largest difference from optim.Newton on the way: {np.abs(by_hand - from_minidl).max():.1e}")
np.testing.assert_allclose(by_hand, from_minidl, rtol=1e-9, atol=1e-9)
assert f(by_hand[-1]) < 1e-20

# %% [markdown]
# The last lines of the table show what the effort is for: near the minimum each step about doubles the number of
# correct digits. Gradient descent gains about the same part of a digit with each step.
#
# ## Where the loss curves downwards
#
# Newton's step goes to where the gradient of the parabola is zero. In a bowl that is the minimum. If $H$ has a negative
# eigenvalue, the parabola is a saddle (or a hilltop), and Newton's step goes *up* along that direction. The surface
# $f = \tfrac12 x^2 + \tfrac14 (y^2 - 1)^2$ has a saddle at $(0, 0)$ between two minima; its Hessian is
# $\mathrm{diag}(1,\, 3y^2 - 1)$.
#
# The remedy: write $H = Q \Lambda Q^T$ and use $|\Lambda|$ in place of $\Lambda$ (saddle-free Newton). The size of the
# curvature still says how far to go; the direction is always down.


# %%
def f_saddle(W):
    return W[0] ** 2 / 2 + (W[1] ** 2 - 1) ** 2 / 4


def gradient_saddle(W):
    return np.array([W[0], W[1] * (W[1] ** 2 - 1)])


def hessian_saddle(W):
    return np.diag([1.0, 3 * W[1] ** 2 - 1])


def saddle_free(f, gradient, hessian, W):
    g = gradient(W)
    eigenvalues, Q = np.linalg.eigh(hessian(W))
    return shortened(f, g, W, -Q @ (Q.T @ g / np.abs(eigenvalues)))


saddle, from_here = surfaces.saddle(), np.array([1.5, 0.3])
pure, free = [from_here], [from_here]
for _ in range(6):
    pure.append(pure[-1] - np.linalg.solve(hessian_saddle(pure[-1]), gradient_saddle(pure[-1])))
    free.append(saddle_free(f_saddle, gradient_saddle, hessian_saddle, free[-1]))
pure, free = np.array(pure), np.array(free)
from_minidl, _ = minimized(saddle, from_here, optim.Newton, 6)
print("eigenvalues of H at the start:", np.linalg.eigvalsh(hessian_saddle(from_here)).round(2).tolist())
for name, path in (("pure Newton", pure), ("saddle-free", free)):
    print(f"{name} ends at ({path[-1][0]:.3f}, {path[-1][1]:.3f}) with f = {f_saddle(path[-1]):.3g}")
print(f"largest difference of the saddle-free path from optim.Newton: {np.abs(free - from_minidl).max():.1e}")
np.testing.assert_allclose(free, from_minidl, rtol=1e-12, atol=1e-12)
assert np.allclose(pure[-1], 0, atol=1e-6), "pure Newton is caught by the saddle"
assert f_saddle(free[-1]) < 1e-10, "the saddle-free step finds a minimum"

# %%
title = "Newton's step goes to where the gradient is zero"
figure = viz.titled_figure(6.4, 5.6, title, "which may be a saddle; with |eigenvalues| it goes down")
axes = viz.plain(figure.add_subplot())
xs, ys = np.meshgrid(np.linspace(-0.6, 1.8, 120), np.linspace(-0.6, 1.4, 120))
axes.contour(xs, ys, f_saddle(np.stack([xs, ys])), levels=16, colors=viz.FAINT, linewidths=0.8)
axes.plot(*pure.T, "o-", color=viz.INK, markersize=5)
axes.plot(*free.T, "o-", color=viz.ACCENT, markersize=5)
for text, place, offset, color in (
    ("start", from_here, (6, 6), viz.INK),
    ("pure Newton:\nthe saddle, f = ¼", pure[-1], (10, -42), viz.INK),
    ("saddle-free:\nthe minimum, f = 0", free[-1], (10, 4), viz.ACCENT),
):
    axes.annotate(text, place, xytext=offset, textcoords="offset points", color=color, fontsize=10)
axes.set_xlabel("x")
axes.set_ylabel("y")
this.show(figure, "06_second_order_saddle")

# %% [markdown]
# ## Gauss–Newton: a Hessian for nothing
#
# Very often the loss is a sum of squares, $L = \sum_i r_i^2$ with residuals $r = f(W, x) - y$. With the Jacobian
# $J_{ij} = \partial r_i / \partial W_j$,
#
# $$\nabla L = 2 J^T r, \qquad H = 2 J^T J + 2 \sum_i r_i\, \nabla^2 r_i$$
#
# Near a good fit the residuals are small, and so is the second term. Without it no second derivative is needed:
#
# $$W^t = W^{t-1} - (J^T J)^{-1} J^T r$$
#
# A curve to fit: a damped oscillation, $f(W, x) = w_0\, e^{-w_1 x} \cos(w_2 x)$, sixty points with noise.

# %%
rng = np.random.default_rng(0)
x = np.linspace(0, 4, 60)
true_weights = np.array([2.0, 0.5, 3.0])


def curve(W):
    return W[0] * np.exp(-W[1] * x) * np.cos(W[2] * x)


def jacobian(W):
    decay, wave = np.exp(-W[1] * x), np.cos(W[2] * x)
    return np.stack([decay * wave, -x * W[0] * decay * wave, -x * W[0] * decay * np.sin(W[2] * x)], axis=1)


y = curve(true_weights) + 0.1 * rng.standard_normal(len(x))
first_guess = np.array([0.5, 0.5, 2.5])


def residuals_of(W):
    """The same residuals, of minidl's ops."""
    return lambda: W[0] * ops.exp(-W[1] * x) * ops.cos(W[2] * x) - y


W = ml.Tensor(first_guess, requires_grad=True)
J = ml.jacobian(residuals_of(W), W)
print(f"J has shape {J.shape}; largest difference from ml.jacobian: {np.abs(J - jacobian(first_guess)).max():.1e}")
np.testing.assert_allclose(jacobian(first_guess), J, rtol=1e-12, atol=1e-13)


def gauss_newton(W):
    return W + np.linalg.lstsq(jacobian(W), -(curve(W) - y), rcond=None)[0]


def loss(W):
    return float(np.sum((curve(W) - y) ** 2))


path = [first_guess]
for _ in range(5):
    path.append(gauss_newton(path[-1]))
W = ml.Tensor(first_guess, requires_grad=True)
found_gn = training.minimize(optim.GaussNewton([W]), residuals_of(W), training.SmallStep(1e-9), 60, keep_path=True)
print("Gauss–Newton, the loss of the first steps:", *(f"{loss(W):.4g}" for W in path))
print(f"largest difference from optim.GaussNewton: {np.abs(np.array(path) - found_gn.path[:6]).max():.1e}")
print(f"it goes on to the loss {loss(found_gn.weights):.6f}, and stops after {found_gn.steps} steps")
np.testing.assert_allclose(path, found_gn.path[:6], rtol=1e-8)
assert max(found_gn.losses) > 1000, "far from the minimum it is thrown about"

# %% [markdown]
# It arrives, but look at the way: the fourth step throws the loss from 13 up to 1294. Far from the minimum the linear
# model of the residuals is wrong, and the step believes it anyway. From other starts it never comes back (exercise 4).
#
# ## Levenberg–Marquardt: trust that is earned
#
# $$W^t = W^{t-1} - (J^T J + \mu I)^{-1} J^T r$$
#
# With a small $\mu$ this is the Gauss–Newton step. With a large one it is a short step along $-J^T r$, the way of the
# gradient. $\mu$ follows from how well the last prediction has held, the gain ratio
#
# $$\rho = \frac{\|r\|^2 - \|r(W + \delta)\|^2}{\|r\|^2 - \|r + J\delta\|^2}$$
#
# Nielsen's rule: if $\rho > 0$ the step is accepted and $\mu \leftarrow \mu \max(\tfrac13,\, 1 - (2\rho - 1)^3)$.
# Otherwise $W$ stays and the step is tried again with $\mu$ multiplied by 2, then by 4, by 8, and so on.
#
# The damped step is again a least-squares problem, with a few rows more:
#
# $$\min_\delta \left\|
# \begin{pmatrix} J \\ \sqrt\mu\, I \end{pmatrix} \delta + \begin{pmatrix} r \\ 0 \end{pmatrix} \right\|$$


# %%
def levenberg_marquardt(W, mu):
    r, J, nu = curve(W) - y, jacobian(W), 2.0
    while True:
        stacked, right = np.vstack([J, np.sqrt(mu) * np.eye(len(W))]), np.append(-r, np.zeros(len(W)))
        delta = np.linalg.lstsq(stacked, right, rcond=None)[0]
        gain = (loss(W) - loss(W + delta)) / (r @ r - np.sum((r + J @ delta) ** 2))
        if gain > 0:
            return W + delta, mu * max(1 / 3, 1 - (2 * gain - 1) ** 3), gain
        mu, nu = mu * nu, 2 * nu


steps = 8
path, mus, gains = [first_guess], [1e-2], []
for _ in range(steps):
    W, mu, gain = levenberg_marquardt(path[-1], mus[-1])
    path.append(W)
    mus.append(mu)
    gains.append(gain)
by_hand = np.array(path)

W = ml.Tensor(first_guess, requires_grad=True)
optimizer = optim.LevenbergMarquardt([W], mu=mus[0])
found_lm = training.minimize(optimizer, residuals_of(W), training.SmallStep(1e-9), 60, keep_path=True)
print("step       loss   its ρ   μ of the next step")
print(f"   0  {loss(by_hand[0]):9.5f}           {mus[0]:.5f}")
for t in range(1, steps + 1):
    print(f"{t:4}  {loss(by_hand[t]):9.5f}  {gains[t - 1]:6.2f}   {mus[t]:.5f}")
difference = np.abs(by_hand - found_lm.path[: steps + 1]).max()
print(f"largest difference from optim.LevenbergMarquardt: {difference:.1e}")
np.testing.assert_allclose(by_hand, found_lm.path[: steps + 1], rtol=1e-8)
assert np.diff(found_lm.losses).max() < 1e-12, "the loss never rises"

# %% [markdown]
# The loss never rises: that is built in. The table shows the rule at work. While ρ is small, μ grows, also by rejected
# trials, which are not in the table. When the linear model can be trusted, ρ is near 1 and μ falls to a third with each
# step.
#
# ## Against Adam
#
# Adam gets three learning rates and 300 steps, and the best of them is shown. The picture has a logarithmic axis for
# the steps, because the two kinds of methods do not fit on any other.

# %%
least = loss(found_lm.weights)


def adam(lr):
    """Return the losses of 300 steps."""
    W = ml.Tensor(first_guess, requires_grad=True)
    residuals = residuals_of(W)

    def closure():
        total = (residuals() ** 2).sum()
        total.backward()
        return total

    return training.minimize(optim.Adam([W], lr=lr), closure, max_steps=300).losses


def arrival(losses):
    """The first step from which on the loss stays within 1e-6 of the least."""
    return int(np.flatnonzero(np.array(losses) - least > 1e-6)[-1] + 1)


runs = {lr: adam(lr) for lr in (0.03, 0.1, 0.3)}
for lr, losses in runs.items():
    print(f"Adam, η = {lr}: within 1e-6 of the least loss after {arrival(losses)} steps")
best = min(runs, key=lambda lr: arrival(runs[lr]))
print(f"Gauss–Newton: after {arrival(found_gn.losses)} steps; Levenberg–Marquardt: after {arrival(found_lm.losses)}")
print("weights:", found_lm.weights.round(3).tolist(), " the true ones:", true_weights.tolist())
assert arrival(found_lm.losses) < arrival(found_gn.losses) < arrival(runs[best])

subtitle = f"60 points, 3 weights, one start; Adam with the best of three rates, η = {best:g}"
figure = viz.titled_figure(10, 4.6, "Fitting a damped oscillation", subtitle)
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
left.plot(x, y, "o", color=viz.FAINT, markersize=4, label="data")
left.plot(x, curve(first_guess), color=viz.INK, linestyle=(0, (4, 3)), linewidth=1, label="first guess")
left.plot(x, curve(found_lm.weights), color=viz.ACCENT, linewidth=2, label="fit")
left.legend(frameon=False, fontsize=9, loc="upper right")
left.set_xlabel("x")
left.set_ylabel("y")
for name, losses, color, style in (
    ("Adam", runs[best], viz.OTHER, "-"),
    ("Gauss–Newton", found_gn.losses, viz.INK, (0, (4, 2))),
    ("Levenberg–Marquardt", found_lm.losses, viz.ACCENT, "-"),
):
    excess = np.maximum(np.array(losses) - least, 1e-12)
    right.plot(np.arange(1, len(losses) + 1), excess, color=color, linestyle=style, label=name)
right.set_xscale("log")
right.set_yscale("log")
right.set_xlabel("step; the loss is that before it")
right.set_ylabel("loss above the least, cut off at 1e-12")
right.legend(frameon=False, fontsize=9, loc="upper right")
this.show(figure, "06_second_order_fit")

# %% [markdown]
# ## The condition number is squared
#
# The condition number $k(J)$ is the largest singular value over the smallest. It says by how much relative errors may
# grow. $J = U D V^T$ gives $J^T J = V D^2 V^T$, so
#
# $$k(J^T J) = k(J)^2$$
#
# With 16 digits, $k(J) = 10^8$ leaves half of them if one works with $J$ itself (QR), and none with $J^T J$ (Cholesky).
# The columns $1, x, x^2, \dots$ of a polynomial fit show it. The data are exact, so the true weights, all 1, are known.

# %%
points = np.linspace(0, 1, 100)
print("degree      k(J)    k(JᵀJ)    k(J)²    error, Cholesky   error, QR")
degrees, conditions, errors = range(2, 13), [], []
for degree in degrees:
    J = points[:, None] ** np.arange(degree + 1)
    ones = np.ones(degree + 1)
    target = J @ ones
    Q, R = np.linalg.qr(J)
    by_qr = scipy.linalg.solve_triangular(R, Q.T @ target)
    try:
        by_cholesky = scipy.linalg.cho_solve(scipy.linalg.cho_factor(J.T @ J), J.T @ target)
        cholesky = np.abs(by_cholesky - ones).max()
    except np.linalg.LinAlgError:  # rounding has made JᵀJ indefinite
        cholesky = np.nan
    conditions.append((np.linalg.cond(J), np.linalg.cond(J.T @ J)))
    errors.append((cholesky, np.abs(by_qr - ones).max()))
    words = "no factor" if np.isnan(cholesky) else f"{cholesky:.0e}"
    k, k_squared = conditions[-1]
    print(f"{degree:6}  {k:9.1e} {k_squared:9.1e} {k**2:9.1e}  {words:>14} {errors[-1][1]:13.0e}")
conditions, errors = np.array(conditions), np.array(errors)
trusted = conditions[:, 0] ** 2 < 1e13  # beyond, k(JᵀJ) itself drowns in rounding
np.testing.assert_allclose(conditions[trusted, 1], conditions[trusted, 0] ** 2, rtol=1e-2)
assert errors[-1, 1] < 1e-3
assert not errors[-1, 0] < 1e-2, "Cholesky has lost everything, or found no factor"

# %% [markdown]
# This is why `optim.GaussNewton` and `optim.LevenbergMarquardt` factorize $J$, not $J^T J$. It is also a second reason
# for $\mu$: the stacked matrix of Levenberg–Marquardt has no singular value below $\sqrt\mu$.
#
# ## On Rosenbrock's valley
#
# `viz.race_sheet` shows the paths. Rosenbrock's function is a sum of two squares, so all of the methods can run. Adam
# is shown with the best rate and $\beta_1$ of a grid; the others have nothing to tune.

# %%
sweep = surfaces.sweep(valley, ("adam", "newton", "gauss-newton", "lm"), steps=40 if this.quick else 100)
this.show(viz.race_sheet(sweep), "06_second_order_rosenbrock")

gauss_newton_path, _ = minimized(valley, start, optim.GaussNewton, 2, squares=True)
print("Gauss–Newton goes over", [[round(float(v), 3) for v in W] for W in gauss_newton_path])
assert np.allclose(gauss_newton_path[-1], 1)

# %% [markdown]
# Gauss–Newton needs two steps here, and its first one leaves the picture. That is a lucky property of this surface: as
# many residuals as weights, and the second residual linear. The fit above is the more honest example.
#
# ## What it costs
#
# With $n$ weights, $H$ has $n^2$ numbers and its factorization takes $n^3/3$ operations.

# %%
for name, n in (("the fit above", 3), ("a small network", 1_000), ("LeNet-5", 44_426)):
    print(f"{name:16} n = {n:6,}   H: {8 * n * n / 1e9:8.1e} GB   factorization: {n**3 / 3:.1e} operations")

# %% [markdown]
# ## Take away
#
# - Curvature replaces the learning rate. Near a minimum the number of right digits doubles with each step.
# - A raw second-order step cannot be trusted far from the minimum. It may go to a saddle (mend: $|\Lambda|$ and
#   halving) or much too far (mend: $\mu$ by the gain ratio).
# - Work with $J$, not with $J^T J$: the condition number of the product is the square.
# - The price grows with $n^2$ and $n^3$: 16 GB for the Hessian of a network as small as LeNet-5. On mini-batches $H$
#   is as noisy as the gradient. For networks there are first-order methods, lessons 4 and 5.
#
# ## Exercises
#
# 1. In one dimension Newton's method is $w^t = w^{t-1} - L'/L''$. Minimize $L = e^w - 2w$ from $w = 0$ (the minimum is
#    at $\ln 2$) and print the error of each step. Check that an error is about half the square of the one before.
# 2. Show both limits of the Levenberg–Marquardt step at the first guess of the fit: with $\mu = 10^{-12}$ it is the
#    Gauss–Newton step, with $\mu = 10^9$ it is $-J^T r / \mu$.
# 3. Measure $x$ in milliseconds: $x' = 1000\,x$, so that the true $w_1$ and $w_2$ are a thousand times smaller. Compare
#    `damping="identity"` with `damping="diagonal"` in both units. Which one takes the same steps in both?
# 4. Take 40 random first guesses, $w_0, w_1 \in [0, 2]$ and $w_2 \in [1, 5]$. From how many do Gauss–Newton and
#    Levenberg–Marquardt reach the best fit? What do the others end in?
