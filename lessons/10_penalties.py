# %% [markdown]
# # 10 · Penalties: L1, L2 and their relatives
#
# A model with many weights fits the noise. The oldest remedy is to make weights expensive: add a price for their size
# to the loss. Two prices are common. L2, the square, makes all weights smaller. L1, the absolute value, makes many of
# them exactly zero. This lesson shows why: by their gradients, by the belief about the weights that each of them
# amounts to, and on a regression with more weights than the data can bear.
#
# Everything is written by hand first and then found in `minidl/optim/penalties.py`.
#
# Lecture notes §1.1.3; Tibshirani 1996 (L1); Zou and Hastie 2005 (elastic net); Daubechies et al. 2004 (soft
# thresholding); Loshchilov and Hutter 2019 (decoupled decay); Srivastava et al. 2014 (maximum norm).

# %%
import numpy as np

import minidl as ml
from minidl import course, models, ops, optim, viz

penalties = optim.penalties
this = course.lesson("10 · Penalties: L1, L2 and their relatives")

# %% [markdown]
# ## Values and gradients
#
# With $m$ the size of the mini-batch:
#
# | penalty | added to $L$ | its gradient |
# |---|---|---|
# | L1 | $\lambda \lVert W \rVert_1$ | $\lambda\, \mathrm{sign}(w)$ |
# | L2 | $\frac{\lambda}{2m} \lVert W \rVert_2^2$ | $\frac{\lambda}{m} w$ |
# | elastic | $\frac{\lambda_2}{2m} \lVert W \rVert_2^2 + \lambda_1 \lVert W \rVert_1$ | the sum of both |
#
# The gradient of L2 fades with the weight. That of L1 stays the same until the weight is zero: this is the whole
# difference. In minidl a penalty is given to the optimizer, which adds its gradient to the one of the loss. With a loss
# that is zero everywhere, a step of SGD shows the penalty alone.

# %%
W = np.array([1.5, -0.02, 0.0, -0.7])
lam, m, eta = 0.3, 10, 0.1
by_hand = {
    "L1": (lam * np.abs(W).sum(), lam * np.sign(W)),
    "L2": (lam / (2 * m) * (W**2).sum(), lam / m * W),
    "Elastic": (lam / (2 * m) * (W**2).sum() + lam * np.abs(W).sum(), lam / m * W + lam * np.sign(W)),
}
given = {
    "L1": penalties.L1(lam),
    "L2": penalties.L2(lam, batch_size=m),
    "Elastic": penalties.Elastic(lam, lam, batch_size=m),
}


def one_step(penalty, loss_gradient=0.0):
    """Return the weights after a step of SGD on a loss with this gradient, and the penalty's value before it."""
    tensor = ml.Tensor(W, requires_grad=True)
    optimizer = optim.SGD([tensor], lr=eta, penalty=penalty)
    value = optimizer.penalty_value
    (loss_gradient * tensor).sum().backward()
    optimizer.step()
    return optimizer.weights, value


for name, (value, gradient) in by_hand.items():
    after, from_minidl = one_step(given[name])
    print(f"{name:8} value {value:.6f}   W − η∇ = {W - eta * gradient}")
    np.testing.assert_allclose(from_minidl, value, rtol=1e-13)
    np.testing.assert_allclose(after, W - eta * gradient, rtol=1e-13)

# %% [markdown]
# Look at the second weight: it was −0.02, and L1 has made it 0.01. It stepped over zero and will step back: with a
# subgradient a weight does not come to rest at zero. (The third one was there from the start, and nothing pulls at it.)
#
# ## Decoupled, and soft thresholding
#
# The notes write the update with the penalty outside of the learning rate,
#
# $$w \leftarrow w - \eta \nabla L - \lambda\, \mathrm{sign}(w), \qquad
# w \leftarrow w - \eta \nabla L - \frac{\lambda}{m} w$$
#
# so that no scaling and no momentum of the optimizer touches the pull. In minidl that is `decoupled=True`. For L1 the
# step ends at zero instead of stepping over it. With $v = w - \eta \nabla L$:
#
# $$S_\lambda(v) = \mathrm{sign}(v)\, \max(|v| - \lambda,\, 0)$$
#
# This is soft thresholding, and it is exact: $S_\lambda(v)$ is the minimizer of $\tfrac12 (w - v)^2 + \lambda |w|$.


# %%
def soft(v, lam):
    return np.sign(v) * np.maximum(np.abs(v) - lam, 0)


g = np.array([0.2, 0.1, -0.1, 3.0])  # the gradient of the loss
v = W - eta * g
decoupled = {
    "L1": (penalties.L1(0.05, decoupled=True), soft(v, 0.05)),
    "L2": (penalties.L2(lam, batch_size=m, decoupled=True), v - lam / m * W),
    "Elastic": (penalties.Elastic(0.05, lam, batch_size=m, decoupled=True), soft(v - lam / m * W, 0.05)),
}
print("before         ", W)
for name, (penalty, expected) in decoupled.items():
    after, _ = one_step(penalty, ml.Tensor(g))
    print(f"{name:8} after ", after)
    np.testing.assert_allclose(after, expected, rtol=1e-13, atol=1e-16)

grid = np.linspace(-3, 3, 600_001)
for v in (-0.4, 0.3, 1.7):
    minimizer = grid[np.argmin((grid - v) ** 2 / 2 + 0.5 * np.abs(grid))]
    assert abs(minimizer - soft(v, 0.5)) < 2e-5, "soft thresholding is the minimizer"

# %% [markdown]
# ## The same, as a belief
#
# By Bayes' rule, $P(W \mid data) \propto P(data \mid W)\, P(W)$. Its maximum (MAP, *maximum a posteriori*) is where the
# following is least:
#
# $$-\log P(data \mid W) - \log P(W)$$
#
# The first term is the loss. (The notes print a plus before $\log P(W)$; the sign must be minus, so that unlikely
# weights cost something.) The second is the penalty, for the belief $P(W)$ that one had before seeing data:
#
# | belief | $-\log P(w)$, up to a constant | penalty |
# |---|---|---|
# | Gaussian, $P(w) \propto e^{-w^2 / 2\sigma^2}$ | $w^2 / 2\sigma^2$ | L2 with $\lambda / m = 1 / \sigma^2$ |
# | Laplace, $P(w) \propto e^{-\lvert w \rvert / b}$ | $\lvert w \rvert / b$ | L1 with $\lambda = 1 / b$ |
#
# Check it on one weight and one observation $y$ of it with noise of variance 1: the posterior, on a fine grid, must
# have its maximum where the penalized loss $\tfrac12 (w - y)^2 + penalty$ has its minimum, $y / (1 + \lambda)$ for L2
# (with $m = 1$) and $S_\lambda(y)$ for L1.

# %%
w = np.linspace(-4, 4, 80_001)
y, sigma, b = 1.2, 1.0, 1.0
priors = {
    "Gaussian": np.exp(-(w**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2),
    "Laplace": np.exp(-np.abs(w) / b) / (2 * b),
}
prices = {"Gaussian": w**2 / (2 * sigma**2), "Laplace": np.abs(w) / b}
expected = {"Gaussian": y / (1 + 1 / sigma**2), "Laplace": soft(y, 1 / b)}
likelihood = np.exp(-((w - y) ** 2) / 2)
posteriors = {}
for name, prior in priors.items():
    minus_log = -np.log(prior)
    np.testing.assert_allclose(minus_log - minus_log.min(), prices[name], atol=1e-12)
    posterior = likelihood * prior
    posteriors[name] = posterior / (posterior.sum() * (w[1] - w[0]))
    top = w[np.argmax(posterior)]
    print(f"{name:8} prior: the posterior is largest at {top:.4f}, the penalized loss is least at {expected[name]:.4f}")
    assert abs(top - expected[name]) < 1e-4

tensor = ml.Tensor(np.array([1.7]), requires_grad=True)
for name, penalty in (("Gaussian", penalties.L2(1 / sigma**2)), ("Laplace", penalties.L1(1 / b))):
    value = optim.SGD([tensor], lr=0.1, penalty=penalty).penalty_value
    np.testing.assert_allclose(value, np.interp(1.7, w, prices[name]), rtol=1e-7)

figure = viz.titled_figure(
    10.5, 3.9, "A penalty is a belief", f"one weight, observed once at y = {y} with noise; Gaussian: ink, Laplace: blue"
)
panels = [viz.plain(axes) for axes in figure.subplots(1, 3)]
for name, color in (("Gaussian", viz.INK), ("Laplace", viz.ACCENT)):
    panels[0].plot(w, priors[name], color=color, label=name)
    panels[1].plot(w, -np.log(priors[name]), color=color)
    panels[2].plot(w, posteriors[name], color=color)
    top = np.argmax(posteriors[name])
    panels[2].plot(w[top], posteriors[name][top], "o", color=color)
for axes, title in zip(panels, ("the belief P(w)", "its price −log P(w)", "after seeing y; dots: maxima"), strict=True):
    axes.set_title(title, loc="left", fontsize=11, color=viz.INK)
    axes.set_xlabel("w")
panels[0].legend(frameon=False, fontsize=9, loc="upper left")
this.show(figure, "10_penalties_belief")

# %% [markdown]
# The Laplace belief has a corner at zero. Its price has one as well, and that corner is what holds small weights at
# exactly zero. With $y = 1.2$ and $b = 1$ both maxima are far from $y$: a single observation does not outweigh the
# belief.
#
# ## More weights than the data can bear
#
# A regression with 50 features, of which 5 matter, and $n = 60$ noisy observations:
#
# $$L = \frac{1}{2n} \lVert Xw - y \rVert^2$$
#
# The L2 minimum has a closed form, with $m = n$: $w = (X^T X + \lambda I)^{-1} X^T y$. The L1 minimum has none, but the
# decoupled step finds it: descend, then threshold, with $\eta\lambda$ for the pull of one step.

# %%
rng = np.random.default_rng(0)
n, d = 60, 50
true = np.zeros(d)
true[:5] = [3.0, -2.0, 1.5, -1.0, 0.5]
X, unseen = rng.standard_normal((n, d)), rng.standard_normal((2000, d))
y = X @ true + 1.5 * rng.standard_normal(n)
unseen_y = unseen @ true  # without noise: what a perfect model would say


def ridge(lam):
    return np.linalg.solve(X.T @ X + lam * np.eye(d), X.T @ y)


eta = 1 / np.linalg.eigvalsh(X.T @ X / n)[-1]  # 1/M, for an M-Lipschitz gradient


def lasso(lam, steps, w):
    for _ in range(steps):
        w = soft(w - eta * X.T @ (X @ w - y) / n, eta * lam)
    return w


by_hand = lasso(0.2, 300, np.zeros(d))
W = ml.Tensor(np.zeros(d), requires_grad=True)
optimizer = optim.SGD([W], lr=eta, penalty=penalties.L1(eta * 0.2, decoupled=True))
other = ml.Tensor(np.zeros(d), requires_grad=True)
coupled = optim.SGD([other], lr=eta, penalty=penalties.L1(0.2))
for one, tensor in ((optimizer, W), (coupled, other)):
    for _ in range(300):
        one.zero_grad()
        residuals = ml.Tensor(X) @ tensor - y
        ((residuals * residuals).sum() / (2 * n)).backward()
        one.step()
print(f"largest difference, by hand and optim.SGD with a decoupled L1: {np.abs(optimizer.weights - by_hand).max():.0e}")
print(f"weights that are exactly 0 of {d}: decoupled {np.sum(optimizer.weights == 0)}, ", end="")
print(f"coupled {np.sum(coupled.weights == 0)}; their largest difference {np.abs(coupled.weights - by_hand).max():.2f}")
np.testing.assert_allclose(optimizer.weights, by_hand, rtol=1e-9, atol=1e-12)
assert np.sum(coupled.weights == 0) == 0 < np.sum(by_hand == 0)

# the minimum, checked by its conditions: the gradient is −λ sign(w) where w ≠ 0, and at most λ elsewhere
g = X.T @ (X @ by_hand - y) / n
np.testing.assert_allclose(g[by_hand != 0], -0.2 * np.sign(by_hand[by_hand != 0]), atol=1e-5)
assert np.abs(g[by_hand == 0]).max() <= 0.2

# %% [markdown]
# The coupled form, with the subgradient, comes near to the same weights and makes none of them exactly zero.
#
# Now both penalties over a range of $\lambda$:

# %%
strengths = np.geomspace(3e-3, 3, 13 if this.quick else 40)
l1_path, w = [], np.zeros(d)
for lam in strengths[::-1]:  # from strong to weak, each from the last one's solution
    w = lasso(lam, 500, w)
    l1_path.append(w)
l1_path = np.array(l1_path[::-1])
l2_strengths = n * strengths  # L2's gradient is λ/m · w, m = n
l2_path = np.array([ridge(lam) for lam in l2_strengths])


def errors(path):
    """Mean squared errors on the data, and on unseen samples without noise."""
    return ((path @ X.T - y) ** 2).mean(axis=1), ((path @ unseen.T - unseen_y) ** 2).mean(axis=1)


plain = np.linalg.lstsq(X, y, rcond=None)[0]
(plain_fit,), (plain_error,) = errors(plain[None])
print("                       error on the data   on unseen samples   exact zeros   first weight (true: 3)")
print(f"no penalty             {plain_fit:17.2f} {plain_error:19.2f} {np.sum(plain == 0):13} {plain[0]:15.2f}")
best = {}
for name, path, lams in (("L1", l1_path, strengths), ("L2", l2_path, l2_strengths)):
    fit, error = errors(path)
    best[name] = i = int(error.argmin())
    shown = f"{fit[i]:17.2f} {error[i]:19.2f} {np.sum(path[i] == 0):13} {path[i, 0]:15.2f}"
    print(f"{name}, best λ = {lams[i]:7.3f}   {shown}")
l1_fit, l1_error = errors(l1_path)
l2_fit, l2_error = errors(l2_path)
assert l1_error.min() < l2_error.min() < plain_error, "penalties help, L1 most: few weights matter here"
assert plain_fit < l2_fit.min(), "and they cost: the data are fitted less well"
assert l1_path[best["L1"], 0] < 3, "what remains is too small"
last = l1_path[np.count_nonzero(l1_path, axis=1) <= 4][0]
print("the last weights that L1 leaves:", np.flatnonzero(last).tolist())
assert set(np.flatnonzero(last)) <= {0, 1, 2, 3}

figure = viz.titled_figure(
    11.5, 4.2, "Shrinkage", f"{d} weights, 5 of which matter (blue), {n} noisy observations; dashed: the best λ"
)
panels = [viz.plain(axes) for axes in figure.subplots(1, 3)]
for axes, path, lams, name in zip(panels, (l1_path, l2_path), (strengths, l2_strengths), ("L1", "L2"), strict=False):
    axes.plot(lams, path[:, 5:], color=viz.FAINT, linewidth=0.9)
    axes.plot(lams, path[:, :5], color=viz.ACCENT, linewidth=1.8)
    axes.axvline(lams[best[name]], color=viz.INK, linestyle=(0, (4, 3)), linewidth=0.9)
    axes.set_title(f"weights with {name}", loc="left", fontsize=11, color=viz.INK)
    axes.set_xlabel("λ")
for error, fit, name, color in ((l1_error, l1_fit, "L1", viz.ACCENT), (l2_error, l2_fit, "L2", viz.INK)):
    panels[2].plot(strengths, error, color=color, label=f"{name}, unseen")
    panels[2].plot(strengths, fit, color=color, linestyle=(0, (1, 1.5)), label=f"{name}, data")
panels[2].axhline(plain_error, color=viz.FAINT)
panels[2].annotate(
    "no penalty, unseen", (strengths[0], plain_error), xytext=(0, 4), textcoords="offset points", fontsize=8.5
)
panels[2].set_title("mean squared error", loc="left", fontsize=11, color=viz.INK)
panels[2].set_xlabel("λ of L1; λ / n of L2")
panels[2].set_yscale("log")
panels[2].legend(frameon=False, fontsize=8.5, loc="lower right")
for axes in panels:
    axes.set_xscale("log")
this.show(figure, "10_penalties_shrinkage")

# %% [markdown]
# On the left the weights arrive at zero one after the other. The four largest of those that matter are the last; the
# fifth, 0.5, goes down with the noise. In the middle all fade together and none stays at zero. The best L1 is far
# better than the best L2 here, because the truth is sparse: a belief pays off where it is right. (The best $\lambda$
# was read off the unseen samples. In earnest that takes held-out data: lesson 14.)
#
# The price stands in the first column and in the last one: the data are fitted less well, and the weights that remain
# are too small.
#
# ## In a network
#
# In a network each layer may have its own strength and norm, $L + \sum_j \Lambda_j \lVert W_j \rVert_{p_j}^{p_j}$
# (`PerLayer`), and the incoming weights $w_u$ of a unit may have a limit,
#
# $$w_u \leftarrow w_u \min\Big(1, \frac{c}{\lVert w_u \rVert_2}\Big)$$
#
# (`MaxNorm`). First their formulas, on a small network:

# %%
ml.manual_seed(0)
model = models.mlp([6, 4, 3]).astype(np.float64)
first, second = (p for p in model.parameters() if p.ndim == 2)
before = first.data.copy(), second.data.copy()
names = [name for name, p in model.named_parameters() if p.ndim == 2]
per_layer = penalties.PerLayer({names[0]: (0.2, 1), names[1]: (0.5, 2)})
optimizer = optim.SGD(model, lr=0.1, penalty=per_layer)
by_hand = 0.2 * np.abs(before[0]).sum() + 0.5 * (before[1] ** 2).sum()
print(f"per layer: value by hand {by_hand:.6f}, in minidl {optimizer.penalty_value:.6f}")
np.testing.assert_allclose(optimizer.penalty_value, by_hand, rtol=1e-13)
(model(np.zeros((1, 6))) * 0).sum().backward()
optimizer.step()
np.testing.assert_allclose(first.data, before[0] - 0.1 * 0.2 * np.sign(before[0]), rtol=1e-13)
np.testing.assert_allclose(second.data, before[1] - 0.1 * 2 * 0.5 * before[1], rtol=1e-13)

W, c = second.data.copy(), 0.3
optimizer = optim.SGD(model, lr=0.1, penalty=penalties.MaxNorm(c))
optimizer.zero_grad()
(model(np.zeros((1, 6))) * 0).sum().backward()
optimizer.step()
lengths = np.linalg.norm(W, axis=0)  # a column for each unit
limited = W * np.minimum(1, c / lengths)
print("maximum norm: lengths before", lengths.round(3), " after", np.linalg.norm(second.data, axis=0).round(3))
np.testing.assert_allclose(second.data, limited, rtol=1e-13)

# %% [markdown]
# Then a network that has far too few images: 300, for 50,890 weights. All runs have the same initial weights and the
# same batches, and are judged by images that were held out from the training part.

# %%
images = this.images("fashion-mnist")
count, steps = 300, 150 if this.quick else 600
x, y = images.train_x[:count].astype(np.float32), images.train_y[:count]
held_x, held_y = images.train_x[-1000:].astype(np.float32), images.train_y[-1000:]
if x.max() > 1:
    x, held_x = x / 255, held_x / 255


def accuracy(model, x, y):
    with ml.no_grad():
        return float(np.mean(model(x).data.argmax(axis=1) == y))


def trained(penalty):
    ml.manual_seed(0)
    model = models.mlp([784, 64, 10])
    optimizer = optim.HeavyBall(model, lr=0.02, beta=0.9, penalty=penalty)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = rng.integers(count, size=50)
        optimizer.zero_grad()
        ops.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model, optimizer.weights


recipes = {
    "no penalty": None,
    "L2": penalties.L2(0.5, batch_size=50),
    "L1": penalties.L1(1e-3),
    "L1, decoupled": penalties.L1(1e-4, decoupled=True),
    "elastic, decoupled": penalties.Elastic(5e-5, 0.02, batch_size=50, decoupled=True),
    "maximum norm": penalties.MaxNorm(1.0),
}
weights, scores = {}, {}
print("                      training   held out   exact zeros   length of W")
for name, penalty in recipes.items():
    model, weights[name] = trained(penalty)
    scores[name] = accuracy(model, held_x, held_y)
    zeros, length = np.mean(weights[name] == 0), np.linalg.norm(weights[name])
    print(f"{name:20} {accuracy(model, x, y):9.1%} {scores[name]:10.1%} {zeros:13.1%} {length:13.2f}")
assert np.mean(weights["L1, decoupled"] == 0) > 0.1
subtitle = f"a network with {len(weights['no penalty']):,} weights after {steps} steps on {count} images"
this.show(viz.sparsity(weights, "Penalties, and what they do to the weights", subtitle), "10_penalties_network")

# %% [markdown]
# The weights do what they should. They are shorter with every penalty: L2 about halves their length in the full form.
# The decoupled L1 makes many of them exactly zero, in the full form more than half. The coupled one makes none: the few
# zeros in the picture are there without a penalty, too. The maximum norm cuts the tails off.
#
# The held-out accuracy hardly changes. With 1,000 images its standard error is about one percentage point, so that most
# of the differences say nothing; the coupled L1 may be a little too strong. That is an honest result, and a common one:
# a network trained by gradient descent is not a regression with 50 weights. Here a penalty buys a sparse network for
# about the same accuracy, and no better one.
#
# ## Take away
#
# - L2 pulls in proportion to the weight and shrinks all of them. L1 pulls with a constant force and, with soft
#   thresholding, makes weights exactly zero. A subgradient step steps over it.
# - A penalty is the negative logarithm of a belief about the weights: Gaussian for L2, Laplace for L1. It helps as far
#   as the belief is true.
# - It costs: the data are fitted less well, and the weights that matter come out too small. The strength must be chosen
#   on held-out data.
# - Decoupled, the pull does not pass through the optimizer: $\lambda$ is then per step, and does not follow the rate.
#
# ## Exercises
#
# 1. The weights that L1 leaves are too small. For $\lambda = 0.5$ find the features that remain, and fit them again by
#    least squares without a penalty. What becomes of the first weight and of the error on unseen samples?
# 2. Let feature 1 be almost a copy of feature 0 (correlation above 0.99) and $y = 3 x_0 + noise$. Which weights do L1,
#    L2 and the elastic net give to the two?
# 3. Show that $S_{\lambda_1}(v) / (1 + \lambda_2)$ minimizes
#    $\tfrac12 (w - v)^2 + \lambda_1 |w| + \tfrac{\lambda_2}{2} w^2$, on a grid.
# 4. Let the loss be zero everywhere and make one step of Adam with L2, coupled and decoupled, on the weights 2 and
#    0.02. Why does the coupled form shrink both by the same amount?
