# %% [markdown]
# # 16 · Adaptive regularization by residual smoothing
#
# Weight decay holds all weights back in the same proportion, however well the data are fitted. Cho, Kwon and Hong
# (2019) regularize without a penalty. They take the residual of each sample, the distance between output and target in
# each class, and *smooth* it among the classes before it is squared: more where it is large, and by an amount that
# changes in the course of the training. How far a sample is smoothed thus depends on how well it is fitted.
#
# This lesson builds their equations (7) to (22) by hand: the residual, the diffusivity in three forms, the smoothing
# layer as a matrix and without one, the annealing, and the gradient. At the end it asks in a small training whether it
# helps, against weight decay alone and against label smoothing.

# %%
import time

import numpy as np

import minidl as ml
from minidl import course, data, models, nn, ops, optim, training, viz
from minidl.trials import estimate

this = course.lesson("16 · Adaptive regularization by residual smoothing")
rng = np.random.default_rng(0)

# %% [markdown]
# ## The residual
#
# With the probabilities $h(x_i)$, a softmax, and the one-hot target $y_i$, both of $M$ classes,
#
# $$d_i = |h(x_i) - y_i| \in \mathbb{R}^M, \qquad L = \frac1m \sum_i \|d_i\|_2^2$$
#
# is a classifier trained by least squares. The absolute value changes nothing in $L$. It will matter for the smoothing.


# %%
def softmax(z):
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


m, M = 64, 10
outputs, labels = 2 * rng.standard_normal((m, M)), rng.integers(M, size=m)
d = np.abs(softmax(outputs) - np.eye(M)[labels])
plain_loss = np.mean(np.sum(d**2, axis=1))
library = nn.SquaredResidual()(ml.Tensor(outputs), labels).item()
np.testing.assert_allclose(plain_loss, library, rtol=1e-12)
mse = ops.mse(ml.Tensor(softmax(outputs)), np.eye(M)[labels]).item()
np.testing.assert_allclose(plain_loss, M * mse, rtol=1e-12)
print(f"loss by hand {plain_loss:.12f}, nn.SquaredResidual {library:.12f}, M times ops.mse {M * mse:.12f}")

# %% [markdown]
# ## How much: the diffusivity
#
# $\kappa_j$ says how much of element $j$ is replaced by the mean of the others. It is a sigmoid of the residual,
#
# $$\kappa_j = \frac{s}{1 + e^{-\alpha \tilde d_j}}, \qquad \tilde d_j = \frac{d_j - \mu}{\sigma}$$
#
# with the mean $\mu$ and the standard deviation $\sigma$ over the $M$ elements of the sample. Three forms:
#
# | form | $s$ | $\alpha$ | what adapts |
# |---|---|---|---|
# | global | changes with the training | 0, so that $\kappa = s/2$ | the time |
# | local | constant | above 0 | larger residuals are smoothed more |
# | both | changes | above 0 | both |
#
# Where all residuals of a sample are equal, $\sigma = 0$ and $\tilde d = 0$ is taken.


# %%
def diffusivity(d, s, alpha):
    centered, deviation = d - d.mean(axis=1, keepdims=True), d.std(axis=1, keepdims=True)
    normalized = np.divide(centered, deviation, out=np.zeros_like(d), where=deviation > 0)
    return s / (1 + np.exp(-alpha * normalized))


np.testing.assert_allclose(diffusivity(d, 0.6, 0), 0.3)
np.testing.assert_allclose(diffusivity(np.full((1, M), 0.2), 0.6, 1), 0.3)
kappa = diffusivity(d, 0.6, 1)
print(f"s = 0.6: kappa is 0.3 for alpha = 0, and from {kappa.min():.2f} to {kappa.max():.2f} for alpha = 1")

# %% [markdown]
# ## Smoothing, as a matrix and without one
#
# The paper's smoothing layer has the weights
#
# $$r = w\, d, \qquad w_{jk} = 1 - \kappa_j \text{ if } k = j, \text{ else } \frac{\kappa_j}{M - 1}$$
#
# That is an $M \times M$ matrix for every sample. But each row holds only two different numbers, so that
#
# $$r_j = (1 - \kappa_j)\, d_j + \frac{\kappa_j}{M-1} \Big( \sum_k d_k - d_j \Big)$$
#
# needs one sum for the sample: $O(M)$ in place of $O(M^2)$.


# %%
def smoothing_matrices(kappa):
    """w of every sample: (m, M, M)."""
    m, M = kappa.shape
    w = np.empty((m, M, M))
    w[...] = kappa[:, :, None] / (M - 1)
    w[:, range(M), range(M)] = 1 - kappa
    return w


def smooth_by_matrix(d, kappa):
    return (smoothing_matrices(kappa) @ d[:, :, None])[:, :, 0]


def smooth(d, kappa):
    others = d.sum(axis=1, keepdims=True) - d
    return (1 - kappa) * d + kappa / (d.shape[1] - 1) * others


for name, s, alpha in (("global", 0.6, 0.0), ("local or both", 0.6, 1.0), ("steep", 1.0, 4.0), ("none", 0.0, 1.0)):
    kappa = diffusivity(d, s, alpha)
    by_matrix, by_sum = smooth_by_matrix(d, kappa), smooth(d, kappa)
    library = ops.residual_smoothing(d, s, alpha).numpy()
    np.testing.assert_allclose(by_matrix, by_sum, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(by_sum, library, rtol=1e-12, atol=1e-14)
    print(f"{name:<14} matrix and sum {np.abs(by_matrix - by_sum).max():.0e}, sum and ops.residual_smoothing", end=" ")
    print(f"{np.abs(by_sum - library).max():.0e}")

np.testing.assert_allclose(smoothing_matrices(diffusivity(d, 0.6, 1.0)).sum(axis=2), 1)
np.testing.assert_array_equal(smooth(d, np.zeros_like(d)), d)
print("the rows of w sum to 1; kappa = 0 leaves the residual as it is")

sums = {alpha: smooth(d, diffusivity(d, 0.6, alpha)).sum(axis=1) / d.sum(axis=1) for alpha in (0.0, 1.0)}
np.testing.assert_allclose(sums[0.0], 1)
assert (sums[1.0] < 1).all()
print(f"of the sum of a residual alpha = 0 leaves all, alpha = 1 {sums[1.0].min():.0%} to {sums[1.0].max():.0%}")

# %% [markdown]
# The whole loss by hand against `nn.ResidualSmoothing`, in its three modes, and for $s = 0$, which must be the plain
# loss:

# %%
for mode, s, alpha in (("global", 0.6, 0.0), ("local", 0.6, 1.0), ("both", 0.6, 1.0), ("both", 0.0, 1.0)):
    by_hand = np.mean(np.sum(smooth(d, diffusivity(d, s, alpha)) ** 2, axis=1))
    library = nn.ResidualSmoothing(s, steepness=1.0, mode=mode)(ml.Tensor(outputs), labels).item()
    np.testing.assert_allclose(by_hand, library, rtol=1e-12)
    print(f"mode {mode:<7} s = {s}: by hand {by_hand:.12f}, nn.ResidualSmoothing {library:.12f}")
np.testing.assert_allclose(library, plain_loss, rtol=1e-12)

# %% [markdown]
# One sample in the picture. It is of class 0, and the network gives it a probability of 0.2. Globally, all elements
# come nearer to their mean by the same factor. Locally, the large ones give more than the small ones get back.

# %%
h = np.array([[0.2, 0.45, 0.15, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.005]])
residual = np.abs(h - np.eye(M)[[0]])
figure = viz.titled_figure(
    10, 3.9, "A residual and its smoothing", "The sample is of class 0, h = (0.2, 0.45, 0.15, …), and s = 0.8"
)
for axes, (name, alpha) in zip(
    figure.subplots(1, 3, sharey=True), (("global", 0.0), ("both, α = 1", 1.0), ("both, α = 4", 4.0)), strict=True
):
    kappa = diffusivity(residual, 0.8, alpha)
    viz.plain(axes)
    axes.bar(np.arange(M) - 0.2, residual[0], 0.4, color=viz.FAINT, label="residual d")
    axes.bar(np.arange(M) + 0.2, smooth(residual, kappa)[0], 0.4, color=viz.ACCENT, label="smoothed r")
    axes.plot(kappa[0], "o", color=viz.OTHER, markersize=4, label="diffusivity κ")
    axes.set_title(name, loc="left", fontsize=10, color=viz.INK)
    axes.set_xticks(range(M))
    axes.set_xlabel("class", color=viz.INK)
axes.legend(frameon=False, fontsize=8.5, labelcolor=viz.INK)
this.show(figure, "16_residual_smoothing_sample")

# %% [markdown]
# ## When: the annealing
#
# $s^t$ follows the density of a distribution around $\mu$, at 75 % of the training, scaled to the maximum 1:
#
# $$s^t = \mathrm{sech}^2 \frac{t - \mu}{2b} \quad\text{(logistic)}, \qquad
#   s^t = e^{-|t - \mu| / b} \quad\text{(Laplace)}$$
#
# The paper does not say in which unit $t$ and $b$ are; here $t$ is the share of the training that is done, and $b$ is
# from 0.1 to 0.9.

# %%
t = np.linspace(0, 1, 501)
curves = {
    "logistic": (lambda b: 1 / np.cosh((t - 0.75) / (2 * b)) ** 2, nn.LogisticAnnealing),
    "Laplace": (lambda b: np.exp(-np.abs(t - 0.75) / b), nn.LaplaceAnnealing),
}
figure = viz.titled_figure(
    9.6,
    3.9,
    "How much is smoothed in the course of the training",
    "The scale s; its peak is at 75 %",
)
for axes, (name, (by_hand, annealing)) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
    viz.plain(axes)
    for b, color in zip((0.1, 0.3, 0.5, 0.9), ("#0c2f66", viz.ACCENT, "#5f92dd", "#9ebce8"), strict=True):
        np.testing.assert_allclose(by_hand(b), annealing(b)(t), rtol=1e-12, atol=1e-12)
        axes.plot(t, by_hand(b), color=color, label=f"b = {b}")
        s = annealing(b)
        print(f"{name:<9} b = {b}: s is {s(0.0):.2f} at the beginning and {s(1.0):.2f} at the end")
    axes.set_title(name, loc="left", fontsize=10, color=viz.INK)
    axes.set_xlabel("share of the training done", color=viz.INK)
    axes.set_ylim(0, 1.03)
axes.legend(frameon=False, fontsize=8.5, labelcolor=viz.INK, loc="upper left")
this.show(figure, "16_residual_smoothing_annealing")

# %% [markdown]
# The paper wants the training to arrive at the plain loss at the end. With these $b$ it does not: even the smallest
# leaves 0.28 (logistic) or 0.08 (Laplace), and with $b = 0.5$ the logistic curve is still at 0.94.
#
# ## The gradient: is κ a constant?
#
# $\kappa$ is computed from $d$. The paper alternates: evaluate the residual, choose its regularity, make a step. So
# $\kappa$ counts as a constant of the step, and with $g = \partial L / \partial r$ and $q = \frac{M}{M-1} \kappa \odot
# g$,
#
# $$\frac{\partial L}{\partial d_j} = g_j - q_j + \frac1M \sum_k q_k$$
#
# With `differentiate_diffusivity=True` the derivative also goes through $\kappa$, $\tilde d$, $\mu$ and $\sigma$.
# Finite differences decide which is which: with $\kappa$ held fixed they must give the first, else the second.

# %%
small, g = d[:3], rng.standard_normal((3, M))
fixed = diffusivity(small, 0.6, 1.0)


def differences(function, x, step=1e-6):
    """Central differences of the number that a function makes of x, with respect to every element."""
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        change = np.zeros_like(x)
        change[place] = step
        result[place] = (function(x + change) - function(x - change)) / (2 * step)
    return result


def by_library(differentiate):
    tensor = ml.Tensor(small, requires_grad=True)
    ops.residual_smoothing(tensor, 0.6, 1.0, differentiate_diffusivity=differentiate).backward(g)
    return tensor.grad


q = M / (M - 1) * fixed * g
by_hand = g - q + q.mean(axis=1, keepdims=True)
held = differences(lambda x: np.sum(g * smooth(x, fixed)), small)
free = differences(lambda x: np.sum(g * smooth(x, diffusivity(x, 0.6, 1.0))), small)
np.testing.assert_allclose(by_hand, by_library(False), rtol=1e-12, atol=1e-12)
np.testing.assert_allclose(by_hand, held, rtol=1e-7, atol=1e-8)
np.testing.assert_allclose(by_library(True), free, rtol=1e-7, atol=1e-8)
print(f"frozen kappa: by hand and library         {np.abs(by_hand - by_library(False)).max():.1e}")
print(f"frozen kappa: by hand and differences     {np.abs(by_hand - held).max():.1e}")
print(f"differentiated: library and differences   {np.abs(by_library(True) - free).max():.1e}")
print(f"the two gradients themselves differ by    {np.abs(by_library(True) - by_library(False)).max():.2f}")
assert np.abs(by_library(True) - by_library(False)).max() > 0.01

# %% [markdown]
# Smoothing also makes the gradient shorter, since it takes away from the large residuals:


# %%
def gradient_length(loss):
    tensor = ml.Tensor(outputs, requires_grad=True)
    loss(tensor, labels).backward()
    return np.linalg.norm(tensor.grad)


shares = {s: gradient_length(nn.ResidualSmoothing(s)) / gradient_length(nn.SquaredResidual()) for s in (0.3, 0.6, 1.0)}
print("length of the gradient, plain = 1:", "   ".join(f"s = {s}: {share:.2f}" for s, share in shares.items()))
assert 1 > shares[0.3] > shares[0.6] > shares[1.0]

# %% [markdown]
# ## What it costs
#
# The paper pays $O(M^2)$ a sample, for a training 1.67 times as long. The two forms on the same residuals, with the
# matrices written out for a batch of 8, for a growing number of classes:


# %%
def seconds(function, *arguments):
    """The shortest of several runs, which is the one that nothing disturbed."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - began)
    return min(times)


ratios = []
for classes in (10, 100, 1000):
    residuals = rng.random((8, classes))
    kappa = diffusivity(residuals, 0.6, 1.0)
    ratios.append(seconds(smooth_by_matrix, residuals, kappa) / seconds(smooth, residuals, kappa))
    print(f"M = {classes:4}: the matrix has {classes**2:9,} numbers a sample and takes {ratios[-1]:7.0f} times as long")
assert ratios[-1] > 20

# %% [markdown]
# ## Does it help?
#
# A small training after the paper's recipe: momentum 0.9, least squares of the residual, weight decay of $10^{-3}$, and
# a rate that falls to a hundredth after three quarters of the steps. It begins at 0.03, not at the paper's 0.1, because
# LeNet-5 has no batch normalization. (The paper trains ResNet-20 on all of Fashion-MNIST for 48 epochs; its own gain
# is half a percentage point.) Three losses, each with the same seeds, initial weights and batches:

# %%
images = this.images("fashion-mnist")
seeds, epochs, fraction = (range(3), 8, 1 / 4) if this.quick else (range(5), 12, 1 / 64)
losses = {
    "weight decay alone": nn.SquaredResidual(),
    "label smoothing, 0.1": nn.SquaredResidual(label_smoothing=0.1),
    "residual smoothing": nn.ResidualSmoothing(nn.LogisticAnnealing(0.3), steepness=1.0),
}
test = data.Loader(images.test_x[:2000], images.test_y[:2000], 500, shuffle=False)


def accuracy(seed, loss):
    """The test accuracy after the training."""
    part = images.subset(fraction, seed=seed)
    loader = data.Loader(part.train_x, part.train_y, 16, seed=seed)
    ml.manual_seed(seed)
    model = models.lenet5(dropout=0.0)
    rate = optim.schedules.PiecewiseConstant((0.03, 0.0003), (0.75 * epochs * len(loader),))
    decay = optim.penalties.L2(1e-3)
    optimizer = optim.HeavyBall(model, lr=rate, beta=0.9, rate_inside=False, penalty=decay)
    trainer = training.Trainer(model, optimizer, loss, progress=False)
    trainer.fit(loader, epochs=epochs)
    return trainer.evaluate(test)["accuracy"]


found = {name: [accuracy(seed, loss) for seed in seeds] for name, loss in losses.items()}
baseline = found["weight decay alone"]
print(f"{round(fraction * len(images.train_x)):,} training images, {epochs} epochs, {len(seeds)} seeds")
print(f"{'':<22}{'test accuracy, %':>18}{'difference':>18}   (95 % intervals)")
gains = {}
for name, values in found.items():
    gains[name] = estimate([value - plain for value, plain in zip(values, baseline, strict=True)])
    difference = "" if values is baseline else gains[name].percent(sign=True)
    print(f"{name:<22}{estimate(values).percent():>18}{difference:>18}")

figure = viz.titled_figure(
    8.6, 2.9, "Against weight decay alone", "Differences of test accuracy, seed by seed, and the mean's 95 % interval"
)
axes = viz.plain(figure.subplots())
others = [name for name in found if name != "weight decay alone"]
for place, name in enumerate(others):
    points = 100 * (np.array(found[name]) - baseline)
    axes.plot(points, np.full(len(points), place), "o", color=viz.ACCENT, alpha=0.45, markersize=5)
    low, high = gains[name].interval
    axes.plot((100 * low, 100 * high), (place + 0.2, place + 0.2), color=viz.INK, linewidth=1.6)
    axes.plot(100 * gains[name].mean, place + 0.2, "D", color=viz.INK, markersize=5)
axes.axvline(0, color=viz.OTHER, linewidth=1.2)
axes.set_yticks(range(len(others)), others, fontsize=9.5)
axes.set_ylim(len(others) - 0.4, -0.5)
axes.set_xlabel("percentage points; right of the line is better", color=viz.INK)
this.show(figure, "16_residual_smoothing_gain")

# %% [markdown]
# Here residual smoothing gains nothing. In both forms its mean is below that of weight decay alone, by less than the
# interval: it could be chance. Label smoothing cannot be told from weight decay either. One reason may be the length of
# the gradient. With $b = 0.3$ most of the training is smoothed, so that the steps are shorter, and in a short training
# that costs. The paper's trainings are long, and it chose $b$ and $\alpha$ from a grid.
#
# `minidl study smoothing` runs the paper's whole comparison, with all its recipes, on as much of the data as there is
# time for, and sets the paper's numbers beside it.
#
# ## Take away
#
# - The residual is smoothed among the classes, more where it is large: $\kappa$ is a sigmoid of the normalized
#   residual, scaled by an annealing. The smoothing layer needs a sum for each sample, never a matrix.
# - Whether $\kappa$ is a constant of the step or a function of $d$ gives two different gradients. Finite differences
#   tell which one has been written.
# - A gain of half a point cannot be seen in a small training with a few seeds. An interval that contains zero is a
#   result too.
#
# ## Exercises
#
# 1. **The matrix of the global form.** With one $\kappa$ for all elements: which eigenvalues has $w$? For which
#    $\kappa$ does it forget everything but the mean?
# 2. **What the global form does to the loss.** Show that $\|r\|^2 = c^2 \|d - \mu\|^2 + M \mu^2$ with
#    $c = 1 - \frac{M}{M-1} \kappa$, and check it.
# 3. **Without the absolute value.** Smooth $h - y$ in place of $|h - y|$, globally. What is the loss then?
# 4. **Residuals that are images.** Write one step of the heat equation, $u + \kappa\, \Delta u$, with a border that
#    nothing passes. Compare with `ops.diffuse2d`. What happens to a chessboard for $\kappa > 1/4$?
# 5. **The other forms.** Train with `mode="global"` and with `differentiate_diffusivity=True`. Can three seeds tell
#    them from the plain loss?
