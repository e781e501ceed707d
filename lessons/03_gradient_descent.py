# %% [markdown]
# # 3 · Gradient descent
#
# Gradient descent is one line. How fast it is, and whether it arrives at all, depends on two numbers of the loss: its
# largest curvature $M$, which limits the learning rate, and the quotient of its largest and its smallest curvature, the
# condition number $\kappa$, which says how many steps there will be. On a quadratic both can be followed exactly, and
# near a minimum every smooth loss is nearly a quadratic.
#
# The sources are the lecture notes' §1.2.1 (the method), §1.2.3.2 (the limit $\eta \le 2/M$ and the quickest descent)
# and §1.1.1 (the condition number of the data). In the end the two meet: badly conditioned data make a badly
# conditioned loss, and scaling the data mends both.

# %%
import numpy as np

import minidl as ml
from minidl import course, data, optim, viz

this = course.lesson("3 · Gradient descent")
COLORS = {"blue": viz.ACCENT, "orange": viz.OTHER, "green": "#2b8a57", "purple": "#8a4fb0"}

# %% [markdown]
# ## By hand
#
# $$ W^t = W^{t-1} - \eta \nabla L(W^{t-1}) $$
#
# The loss is the quadratic $L(W) = \frac12 (W - W^*)^T A\, (W - W^*)$. Its gradient is $A\,(W - W^*)$, its Hessian is
# $A$, and the eigenvalues of $A$ are the curvatures: here 1 and 10, along axes that are turned by 30°.


# %%
def quadratic(curvatures, angle=np.pi / 6):
    """A symmetric matrix with these two eigenvalues, its axes turned by the angle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag(curvatures) @ turn.T


def gradient_descent(A, start, eta, steps):
    """The path W⁰, W¹, … for the loss ½ Wᵀ A W, whose minimum is at 0."""
    W = start
    path = [W]
    for _ in range(steps):
        W = W - eta * A @ W
        path.append(W)
    return np.array(path)


A = quadratic((1, 10))
start = np.array([-1.6, -0.2])
by_hand = gradient_descent(A, start, eta=0.1, steps=30)

# %% [markdown]
# `optim.SGD` (`minidl/optim/first_order.py`) is the same line. Its gradient comes from `backward`.


# %%
def minidl_path(A, start, optimizer, steps):
    W = ml.Tensor(start, requires_grad=True)
    stepper = optimizer([W])
    path = [stepper.weights]
    for _ in range(steps):
        stepper.zero_grad()
        loss = 0.5 * (W * (A @ W)).sum()
        loss.backward()
        stepper.step()
        path.append(stepper.weights)
    return np.array(path)


from_minidl = minidl_path(A, start, lambda params: optim.SGD(params, lr=0.1), 30)
print(f"by hand against minidl, 30 steps: largest difference {np.abs(by_hand - from_minidl).max():.0e}")
np.testing.assert_allclose(by_hand, from_minidl, rtol=1e-12, atol=1e-15)

# %% [markdown]
# ## The limit of the learning rate
#
# A gradient is $M$-Lipschitz if $\|\nabla L(a) - \nabla L(b)\| \le M \|a - b\|$ for all $a$ and $b$. For a quadratic
# the smallest such $M$ is the largest eigenvalue of $A$. In the direction of an eigenvector with the eigenvalue
# $\lambda$ a step multiplies what is missing to the minimum by a number:
#
# $$ W^t - W^* = (I - \eta A)\,(W^{t-1} - W^*) \quad\Rightarrow\quad e_\lambda^t = (1 - \eta\lambda)^t\, e_\lambda^0 $$
#
# It shrinks if $|1 - \eta\lambda| < 1$, that is, if $\eta < 2/\lambda$. The largest $\lambda$ decides: $\eta < 2/M$.

# %%
M = np.linalg.eigvalsh(A).max()
rng = np.random.default_rng(0)
a, b = rng.standard_normal((2, 1000, 2))
quotients = np.linalg.norm((a - b) @ A, axis=1) / np.linalg.norm(a - b, axis=1)
print(f"M = {M:.6f}; in 1,000 pairs of points the gradient changes by {quotients.max():.6f} ‖a − b‖ at most")
assert 0.99 * M < quotients.max() <= M * (1 + 1e-12)

for factor in (1.0, 1.9, 1.99, 2.01, 2.1):
    path = gradient_descent(A, start, factor / M, 500)
    print(f"η = {factor:4} / M: after 500 steps ‖W − W*‖ = {np.linalg.norm(path[-1]):.1e}")
    assert (np.linalg.norm(path[-1]) < np.linalg.norm(start)) == (factor < 2)


# %%
def contours(axes, A, extent):
    """The loss ½ Wᵀ A W as contours, with a star at its minimum."""
    (left, right), (low, high) = extent
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(low, high, 200))
    points = np.stack([x, y], axis=-1)
    heights = 0.5 * np.einsum("...i,ij,...j", points, A, points)
    axes.contour(x, y, heights, levels=heights.max() * np.linspace(0.02, 1, 12) ** 2, colors=viz.FAINT, linewidths=0.7)
    axes.plot(0, 0, "*", color=viz.INK, markersize=11, markerfacecolor="#ffd23f")
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.grid(False)


figure = viz.titled_figure(
    13, 4.2, "What the learning rate does",
    "25 steps on a quadratic with curvatures 1 and M = 10, whose minimum is the star. The steep direction decides how "
    "large η may be, the flat one how long it takes.",
)  # fmt: skip
words = {
    0.2: "safe and slow",
    1.0: "the steep direction at once",
    1.9: "over the valley and back",
    2.02: "diverges",
}
for axes, (factor, note) in zip(figure.subplots(1, 4), words.items(), strict=True):
    contours(viz.plain(axes), A, ((-2, 2), (-2, 2)))
    path = gradient_descent(A, start, factor / M, 25)
    axes.plot(*path.T, color=viz.ACCENT, linewidth=1.2, marker="o", markersize=3.5)
    axes.plot(*start, "o", color=viz.INK, markerfacecolor="white", markersize=7)
    axes.set_title(f"η = {factor:g} / M", loc="left", fontsize=11, fontweight="bold", color=viz.INK)
    axes.set_xlabel(note, fontsize=9, color=viz.INK)
this.show(figure, "03_learning_rate")

# %% [markdown]
# ## How many steps: the condition number
#
# With $\mu$ the smallest eigenvalue, the slowest direction shrinks by $\max(|1 - \eta\mu|, |1 - \eta M|)$ in each step.
# The best $\eta$ makes both equal:
#
# $$ \eta^* = \frac{2}{M + \mu}, \qquad \text{rate} = \frac{\kappa - 1}{\kappa + 1}, \qquad \kappa = \frac M\mu. $$
#
# One more decimal digit takes $\ln 10 / \ln\frac{\kappa+1}{\kappa-1} \approx 1.15\,\kappa$ steps. That is the price of
# a bad condition. The start is $(1, 1)$ in the directions of the eigenvectors, so that both are needed.

# %%
print("    κ   rate, predicted   measured   steps for a digit")
kappas = (2, 10, 100, 1000)
curves = {}
for kappa in kappas:
    A_kappa = np.diag((1.0, kappa))
    path = gradient_descent(A_kappa, np.ones(2), 2 / (1 + kappa), 400)
    curves[kappa] = np.linalg.norm(path, axis=1) / np.sqrt(2)
    rate, measured = (kappa - 1) / (kappa + 1), curves[kappa][20] / curves[kappa][19]
    print(f"{kappa:5} {rate:17.6f} {measured:10.6f} {-1 / np.log10(rate):19.1f}")
    np.testing.assert_allclose(measured, rate, rtol=1e-9)

figure = viz.titled_figure(
    11, 4.2, "The condition number sets the number of steps",
    "Left: how the slowest direction shrinks in a step, against η. Right: the error with the best η.",
)  # fmt: skip
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
etas = np.linspace(0.01, 2.2, 400)  # in units of 1/M
for kappa, color in zip(kappas, COLORS.values(), strict=True):
    left.plot(etas, np.maximum(np.abs(1 - etas / kappa), np.abs(1 - etas)), color=color, label=f"κ = {kappa}")
    right.semilogy(curves[kappa], color=color, label=f"κ = {kappa}")
left.axhline(1, color=viz.INK, linewidth=0.8, linestyle=":")
left.annotate("diverges", (2.02, 1.05), color=viz.INK, fontsize=8.5, va="bottom", ha="right")
left.set(xlabel="η, in units of 1/M", ylabel="rate", ylim=(0, 1.3))
right.set(xlabel="step", ylabel="‖W − W*‖ / ‖W⁰ − W*‖", ylim=(1e-12, 2))
left.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK, loc="lower left")
this.show(figure, "03_condition")

# %% [markdown]
# ## Where a bad condition comes from: the data
#
# Take a linear model $y = W X$ with features as the rows of $X$ and samples as its columns. Its squared loss
# $\frac12 \|WX - y\|^2$ is a quadratic with the Hessian $XX^T$, so $\kappa$ is the square of the data's condition
# number $k(X) = \sigma_{max} / \sigma_{min}$, the quotient of the singular values. The same $k$ says how much the
# solution moves if the data do. Let $X$ become $X + \Delta X$ and $y$ become $y + \Delta y$, and $W + \Delta W$ be the
# solution then:
#
# $$ \frac{\|\Delta W\|}{\|W + \Delta W\|} \le \frac{k(X)}{1 - k(X) \frac{\|\Delta X\|}{\|X\|}}
#    \left( \frac{\|\Delta X\|}{\|X\|} + \frac{\|\Delta y\|}{\|y\|} \right) $$
#
# This is the bound of the notes for $f(x) = x$, with spectral norms, for data that a model fits exactly. It says
# something only while $k(X) \|\Delta X\| < \|X\|$. We measure the left side with 200 small perturbations and compare.
# First the correlation: two features, of which the second is $\rho$ times the first, and for the rest independent (with
# many samples $k$ is then $\sqrt{(1+\rho)/(1-\rho)}$).


# %%
def correlated(rho, samples, features=2):
    """Features of variance 1; each has the correlation ρ with the first."""
    first, *others = np.random.default_rng(1).standard_normal((features, samples))
    return np.array([first] + [rho * first + np.sqrt(1 - rho**2) * other for other in others])


def condition(X):
    values = np.linalg.svd(X, compute_uv=False)
    return values[0] / values[-1]


def perturbed(X, noise, tries=200):
    """The largest relative change of the solution and the largest bound, over perturbations of X and y by noise."""
    rng = np.random.default_rng(2)
    W = np.ones(len(X))
    y, k, size = W @ X, condition(X), np.linalg.norm(X, 2)
    changes, bounds = [], []
    for _ in range(tries):
        delta_x, delta_y = noise * rng.standard_normal(X.shape), noise * rng.standard_normal(y.shape)
        new = np.linalg.lstsq((X + delta_x).T, y + delta_y)[0]
        part = np.linalg.norm(delta_x, 2) / size
        changes.append(np.linalg.norm(new - W) / np.linalg.norm(new))
        bounds.append(k / (1 - k * part) * (part + np.linalg.norm(delta_y) / np.linalg.norm(y)))
        assert k * part < 1
        assert changes[-1] <= bounds[-1]
    return max(changes), max(bounds)


print("correlation ρ   k(X)   √((1+ρ)/(1−ρ))   change of W   bound      (100 samples, noise 0.001)")
for rho in (0.0, 0.9, 0.99, 0.999):
    X = correlated(rho, 100)
    change, bound = perturbed(X, 0.001)
    print(f"{rho:13} {condition(X):6.1f} {np.sqrt((1 + rho) / (1 - rho)):16.1f} {change:13.5f} {bound:7.4f}")

# %% [markdown]
# The more the features say the same, the worse. The condition number and the change of $W$ grow about in proportion;
# the bound holds, and is cautious, for it assumes the worst direction. Next the number of samples, for ten independent
# features. The notes ask for at least $2d + 1 = 21$: with as many samples as features, chance makes some of them nearly
# dependent.

# %%
print("samples   k(X)   change of W    (10 independent features, noise 0.001)")
by_samples = {}
for samples in (10, 15, 21, 50, 200, 2000):
    X = correlated(0.0, samples, features=10)
    by_samples[samples] = condition(X), perturbed(X, 0.001, 20)[0]
    print(f"{samples:7} {by_samples[samples][0]:6.2f} {by_samples[samples][1]:13.5f}")
assert by_samples[10][0] > 5 * by_samples[21][0] > 10 * by_samples[2000][0]

# %% [markdown]
# And noise. The notes say: the more noise, the worse the condition. Two things happen, and they are not the same. The
# error of $W$ does grow with the noise. But the condition number of the noisy data $X + \Delta X$ becomes *smaller*:
# independent noise makes correlated features less alike. A good $k$ of the data at hand is no proof of a good solution.

# %%
X = correlated(0.99, 100)
print("noise     k(X + ΔX)   change of W    (ρ = 0.99, 100 samples)")
rows = []
for noise in (0.0, 0.001, 0.01, 0.1, 1.0):
    rng = np.random.default_rng(3)
    delta_x, delta_y = noise * rng.standard_normal(X.shape), noise * rng.standard_normal(X.shape[1])
    new = np.linalg.lstsq((X + delta_x).T, np.ones(2) @ X + delta_y)[0]
    rows.append((condition(X + delta_x), np.linalg.norm(new - 1) / np.linalg.norm(new)))
    print(f"{noise:<9g} {rows[-1][0]:9.1f} {rows[-1][1]:13.5f}")
assert rows[-1][0] < rows[0][0]
assert rows[0][1] < rows[1][1] < rows[3][1] < rows[4][1]

# %% [markdown]
# ## Scaling the data
#
# The Hessian of the mean squared loss $\frac{1}{2m} \|WX - y\|^2$ is $\frac1m XX^T$, so scaling the features changes
# the loss's shape. Standardizing, $x' = (x - \bar x) / \sigma$ for each feature, makes the diagonal of the Hessian 1
# and separates the bias from all other weights. What remains is the correlation. On images: the features are the mean
# brightness of each of 16 squares of 7 × 7 pixels, and a constant 1 for the bias; the target is 1 for one class and 0
# for the others.

# %%
images = this.images("fashion-mnist")
count = 500 if this.quick else 4000
x, labels = next(iter(data.Loader(images.train_x, images.train_y, count, shuffle=False)))
count = len(x)
squares = x[..., 0].astype(np.float64).reshape(count, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(count, 16)
y = (labels == 1).astype(np.float64)

standardized = (squares - squares.mean(axis=0)) / squares.std(axis=0)  # by hand
from_minidl = data.Standardization(squares)(squares)
print(f"standardized by hand against minidl: largest difference {np.abs(standardized - from_minidl).max():.0e}")
np.testing.assert_allclose(standardized, from_minidl, rtol=1e-9, atol=1e-12)

forms = {"as they are": squares, "centered": squares - squares.mean(axis=0), "standardized": standardized}
losses, floors, steps = {}, [], 1000 if this.quick else 4000
print("features         κ of the Hessian   steps to 1 % above the least loss")
for name, features in forms.items():
    X = np.hstack([features, np.ones((count, 1))]).T
    H = X @ X.T / count
    curvatures = np.linalg.eigvalsh(H)
    least = np.linalg.lstsq(X.T, y)[0]
    floor = np.mean((least @ X - y) ** 2) / 2
    floors.append(floor)
    W, losses[name] = np.zeros(17), []
    for _ in range(steps):
        residual = W @ X - y
        losses[name].append(np.mean(residual**2) / 2 / floor - 1)
        W = W - 1 / curvatures[-1] * X @ residual / count
    near = np.flatnonzero(np.array(losses[name]) < 0.01)
    kappa = curvatures[-1] / curvatures[0]
    print(f"{name:13} {kappa:19,.0f}   {near[0] if len(near) else f'more than {steps:,}':>33}")
np.testing.assert_allclose(floors, floors[0], rtol=1e-9)
assert losses["standardized"][-1] < losses["centered"][-1] < losses["as they are"][-1]

# %% [markdown]
# Nothing about the model has changed: all three have the same least loss, which the script has checked. Only the way
# there is shorter. The picture shows it for the weights of one feature and of the bias alone: two standardized weights
# have $\kappa = 1$, and the first step with $\eta = 1/M$ ends at the minimum. With all 17 there remains the correlation
# of neighboring squares.

# %%
figure = viz.titled_figure(
    13, 4.3, "Scaling the features straightens the way",
    "Left and middle: the loss over the weights of one feature and of the bias, 60 steps with η = 1/M.",
)  # fmt: skip
panels = [viz.plain(axes) for axes in figure.subplots(1, 3)]
for axes, name in zip(panels, ("as they are", "standardized"), strict=False):
    X = np.stack([forms[name][:, 5], np.ones(count)])
    H = X @ X.T / count
    path = gradient_descent(H, np.array([1.0, 0.6]), 1 / np.linalg.eigvalsh(H).max(), 60)
    contours(axes, H, ((-1.3, 1.3), (-1.3, 1.3)))
    axes.plot(*path.T, color=viz.ACCENT, linewidth=1.2, marker="o", markersize=3.5)
    axes.set_title(f"{name}, κ = {np.linalg.cond(H):.3g}", loc="left", fontsize=11, fontweight="bold", color=viz.INK)
    axes.set(xlabel="weight of the feature, from the minimum", ylabel="bias, from the minimum")
for (name, curve), color in zip(losses.items(), COLORS.values(), strict=False):
    panels[2].loglog(range(1, steps + 1), curve, color=color, label=name)
panels[2].set_title("all 17 weights", loc="left", fontsize=11, fontweight="bold", color=viz.INK)
panels[2].set(xlabel="step", ylabel="loss above the least, relative to it")
panels[2].legend(fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "03_scaling")

# %% [markdown]
# ## Steepest descent
#
# The notes' "quickest descent" looks for the best $\eta$ anew in each step,
# $\eta_t = \arg\min_\eta L(W^{t-1} - \eta g)$. For a quadratic the derivative with respect to $\eta$ is 0 at
#
# $$ \eta_t = \frac{g^T g}{g^T A\, g}. $$
#
# `optim.SteepestDescent` does not know that the loss is a quadratic: it searches along $-g$, with SciPy's form of
# Brent's method, to a relative tolerance of about $10^{-8}$.


# %%
def steepest_descent(A, start, steps):
    W, path, gradients = start, [start], []
    for _ in range(steps):
        g = A @ W
        W = W - (g @ g) / (g @ A @ g) * g
        path.append(W)
        gradients.append(g)
    return np.array(path), np.array(gradients)


def steepest_path(A, start, steps):
    W = ml.Tensor(start, requires_grad=True)
    optimizer = optim.SteepestDescent([W])
    path = [start]

    def closure():
        loss = 0.5 * (W * (A @ W)).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        path.append(optimizer.weights)
    return np.array(path)


flat, steep = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)]), np.array([-np.sin(np.pi / 6), np.cos(np.pi / 6)])
worst = 0.17 * (10 * flat + steep)  # κ parts of the flat direction and one of the steep one
path, g = steepest_descent(A, worst, 12)
searched = steepest_path(A, worst, 12)
print(f"by hand against minidl's search, 12 steps: largest difference {np.abs(path - searched).max():.0e}")
np.testing.assert_allclose(path, searched, atol=1e-6)

cosines = [g[i] @ g[i + 1] / np.linalg.norm(g[i]) / np.linalg.norm(g[i + 1]) for i in range(11)]
print(f"successive gradients are orthogonal: |cos| {np.abs(cosines).max():.0e} at most")
loss = 0.5 * np.einsum("ti,ij,tj->t", path, A, path)
print(f"each step leaves {loss[1] / loss[0]:.6f} of the loss; ((κ − 1)/(κ + 1))² = {(9 / 11) ** 2:.6f}")
assert np.abs(cosines).max() < 1e-9
np.testing.assert_allclose(loss[1:] / loss[:-1], (9 / 11) ** 2, rtol=1e-9)

# %% [markdown]
# This start is the worst. Every search ends at the same rate, $2/(M + \mu)$, the best fixed one: the search has spared
# us knowing $M$ and $\mu$, but it has made nothing faster. From most other starts in the plane it does much better.
# That is the plane's luck. With three weights or more the directions between the extremes die out, and what remains is
# a zigzag between the flattest and the steepest, at nearly the worst rate (Akaike 1959). So we try random starts with
# $n$ weights, with curvatures spaced evenly from 1 to 10:

# %%
rates = (g * g).sum(axis=1) / np.einsum("ti,ij,tj->t", g, A, g)
print(f"the rates it has found: {rates.min():.6f} to {rates.max():.6f}; 2/(M + μ) = {2 / 11:.6f}")
np.testing.assert_allclose(rates, 2 / 11, rtol=1e-9)

descents, remains = {}, {}
for n in (2, 3, 10, 100):
    H = np.diag(np.linspace(1, 10, n))
    way = steepest_descent(H, np.random.default_rng(1).standard_normal(n), 60)[0]
    heights = np.einsum("ti,ij,tj->t", way, H, way)
    descents[n] = heights / heights[0]
    remains[n] = (heights[60] / heights[40]) ** (1 / 20)
    print(f"{n:3} weights: in steps 41 to 60, a step leaves {remains[n]:.3f} of the loss; at worst {(9 / 11) ** 2:.3f}")
assert remains[2] < 0.1
assert all(0.6 < remains[n] <= (9 / 11) ** 2 for n in (3, 10, 100))

# %% [markdown]
# That is what the notes mean by "often do not allow one to obtain fast convergence". The cure is not a better $\eta$,
# but another direction; momentum, in lesson 4, is the cheapest.

# %%
figure = viz.titled_figure(
    11.6, 4.4, "The best step each time is not the best way",
    "Steepest descent on quadratics with κ = 10. It turns by 90° after each step.",
)  # fmt: skip
where, how_fast = (viz.plain(axes) for axes in figure.subplots(1, 2))
contours(where, A, ((-0.3, 1.7), (-0.3, 1.3)))
where.plot(*path.T, color=viz.ACCENT, linewidth=1.2, marker="o", markersize=3.5)
where.plot(*worst, "o", color=viz.INK, markerfacecolor="white", markersize=7)
where.set_title("two weights, from the worst start", loc="left", fontsize=11, fontweight="bold", color=viz.INK)
for (n, curve), color in zip(descents.items(), COLORS.values(), strict=True):
    how_fast.semilogy(curve, color=color, label=f"{n} weights")
how_fast.semilogy((9 / 11) ** (2 * np.arange(61)), color=viz.INK, linewidth=1, linestyle=":", label="the worst rate")
how_fast.set_title("from random starts", loc="left", fontsize=11, fontweight="bold", color=viz.INK)
how_fast.set(xlabel="step", ylabel="part of the loss that is left", ylim=(1e-16, 2))
how_fast.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK, loc="lower left", bbox_to_anchor=(0.18, 0))
this.show(figure, "03_steepest")

# %% [markdown]
# ## Take away
#
# - The steepest direction limits the rate, $\eta < 2/M$; the flattest one sets the time. The number of steps is
#   proportional to $\kappa = M/\mu$.
# - The condition of the loss is the condition of the data, squared. Correlated features and few samples make it bad,
#   and a bad condition carries errors of the data into the solution.
# - Standardize the inputs: it costs two lines and saves many steps. The best $\eta$ in each step does not.
#
# ## Exercises
#
# 1. On a quadratic with $n$ different eigenvalues, take the rates $1/\lambda_1, 1/\lambda_2, \ldots, 1/\lambda_n$ one
#    after the other. Where does gradient descent stand after $n$ steps, from any start? Why is this not used?
# 2. Multiply the centered features of this lesson by $(XX^T/m)^{-1/2}$ ("whitening"). What is $\kappa$ now, and how
#    many steps does gradient descent need with $\eta = 1$?
# 3. The notes warn of outliers. Take `correlated(0.0, 100)` and make one sample 1,000 times as large. What becomes of
#    $k(X)$? Does standardizing help? And limiting each feature to three standard deviations of the other samples?
# 4. In the logistic regression $L = \frac1m \sum \ln(1 + e^{-s_i W x_i})$ the curvature changes with $W$. Compute the
#    largest eigenvalue of the Hessian with `ml.hessian` at $W = 0$ and at the end of a run. Does $\eta = 1.9/M$, with
#    the $M$ of $W = 0$, converge?
