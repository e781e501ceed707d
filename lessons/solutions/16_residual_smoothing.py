# %% [markdown]
# # 16 · Adaptive regularization by residual smoothing: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, nn, ops, optim, training
from minidl.trials import estimate

this = course.lesson("16 · Adaptive regularization by residual smoothing: solutions")
rng = np.random.default_rng(0)


def softmax(z):
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def smooth(d, kappa):
    others = d.sum(axis=1, keepdims=True) - d
    return (1 - kappa) * d + kappa / (d.shape[1] - 1) * others


m, M = 32, 10
h, y = softmax(2 * rng.standard_normal((m, M))), np.eye(M)[rng.integers(M, size=m)]
d = np.abs(h - y)

# %% [markdown]
# ## 1 · The matrix of the global form
#
# Its eigenvalues, and the $\kappa$ for which it forgets everything but the mean.
#
# With one $\kappa$ for all, $w = c\, I + (1 - c)\, J / M$ with $c = 1 - \frac{M}{M-1} \kappa$ and $J$ the matrix of
# ones. Equal elements stay as they are: eigenvalue 1. Whatever sums to 0 is multiplied by $c$: eigenvalue $c$, $M - 1$
# times. For $\kappa = (M-1)/M$ it is 0, and $r$ is the mean everywhere. Since $\kappa = s/2 \le 1/2$ in the global
# form, $c$ is 0.44 or more for ten classes: the order of the elements never turns round.

# %%
for kappa in (0.1, 0.5, (M - 1) / M):
    w = np.full((M, M), kappa / (M - 1))
    np.fill_diagonal(w, 1 - kappa)
    c = 1 - M / (M - 1) * kappa
    eigenvalues = np.sort(np.linalg.eigvalsh(w))
    np.testing.assert_allclose(eigenvalues, np.sort([c] * (M - 1) + [1]), atol=1e-12)
    print(f"kappa = {kappa:.2f}: eigenvalues {abs(eigenvalues[0]):.3f} ({M - 1} times) and {eigenvalues[-1]:.3f}")
np.testing.assert_allclose(smooth(d, (M - 1) / M), np.repeat(d.mean(axis=1, keepdims=True), M, axis=1))

# %% [markdown]
# ## 2 · What the global form does to the loss
#
# $\|r\|^2 = c^2 \|d - \mu\|^2 + M \mu^2$ with $c$ as above.
#
# $d = \mu + (d - \mu)$, and the two parts are orthogonal, since the second sums to 0. The first stays, the second is
# multiplied by $c$. So the loss counts deviations from the mean less, and the mean fully: it is a loss with other
# weights, and no penalty on the weights of the network.

# %%
for s in (0.2, 0.6, 1.0):
    c = 1 - M / (M - 1) * s / 2
    mean = d.mean(axis=1, keepdims=True)
    formula = c**2 * np.sum((d - mean) ** 2, axis=1) + M * mean[:, 0] ** 2
    library = np.sum(ops.residual_smoothing(d, s, 0.0).numpy() ** 2, axis=1)
    np.testing.assert_allclose(formula, library, rtol=1e-12)
    print(f"s = {s}: c = {c:.3f}, the formula and the library agree")

# %% [markdown]
# ## 3 · Without the absolute value
#
# Smooth $h - y$ in place of $|h - y|$, globally.
#
# Both $h$ and $y$ sum to 1, so $h - y$ sums to 0: it has no part along the mean. All of it is multiplied by $c$, and
# the loss by $c^2$. That is nothing but another learning rate. The absolute value is what makes it a different loss.

# %%
c = 1 - M / (M - 1) * 0.3
signed = np.sum(smooth(h - y, 0.3) ** 2, axis=1)
absolute = np.sum(smooth(d, 0.3) ** 2, axis=1)
plain = np.sum(d**2, axis=1)
np.testing.assert_allclose(signed, c**2 * plain, rtol=1e-12)
shares = absolute / plain
print(f"signed: every loss is multiplied by {c**2:.3f}; absolute: by {shares.min():.3f} to {shares.max():.3f}")
assert shares.max() > shares.min() + 0.01

# %% [markdown]
# ## 4 · Residuals that are images
#
# A step of the heat equation by hand, and for which $\kappa$ it is stable.
#
# Where neighbors have a meaning, the paper smooths by $\partial u / \partial \tau = \kappa\, \Delta u$. A step adds
# $\kappa$ times the sum of the differences to the four neighbors. Beyond the border lies the border pixel once more, so
# that nothing flows out: the sum stays. A chessboard of ±1 has a Laplacian of −8 times itself inside the image, so that
# a step multiplies it by $1 - 8 \kappa$. Up to $\kappa = 1/4$ that is not below −1. Beyond, it grows with every step.


# %%
def step(u, kappa):
    padded = np.pad(u, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    neighbors = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return u + kappa * (neighbors - 4 * u)


u = rng.random((2, 9, 9, 1))
np.testing.assert_allclose(step(step(u, 0.2), 0.2), ops.diffuse2d(u, 0.2, steps=2).numpy(), rtol=1e-12)
np.testing.assert_allclose(step(u, 0.2).sum(), u.sum(), rtol=1e-12)
board = (np.indices((20, 20)).sum(axis=0) % 2 * 2.0 - 1)[None, :, :, None]
for kappa in (0.2, 0.25, 0.27):
    after = board
    for _ in range(50):
        after = step(after, kappa)
    print(f"kappa = {kappa}: after 50 steps the largest value is {np.abs(after).max():.2g}")
    assert (np.abs(after).max() > 1) == (kappa > 0.25)

# %% [markdown]
# ## 5 · The other forms
#
# The training of the lesson with the global form and with a differentiated $\kappa$.
#
# In so short a training the seeds differ by several points, or more. The means are below that of the plain loss, as in
# the lesson, but the 95 % intervals of the differences contain zero: three seeds cannot tell the forms apart.

# %%
digits = data.load("digits", size=28)
forms = {
    "plain": nn.SquaredResidual(),
    "global": nn.ResidualSmoothing(nn.LogisticAnnealing(0.3), mode="global"),
    "both, κ differentiated": nn.ResidualSmoothing(nn.LogisticAnnealing(0.3), differentiate_diffusivity=True),
}
epochs = 5 if this.quick else 10


def accuracy(seed, loss):
    part = digits.subset(1 / 4, seed=seed)
    loader = data.Loader(part.train_x, part.train_y, 16, seed=seed)
    ml.manual_seed(seed)
    model = models.lenet5(dropout=0.0)
    rate = optim.schedules.PiecewiseConstant((0.03, 0.0003), (0.75 * epochs * len(loader),))
    optimizer = optim.HeavyBall(model, lr=rate, beta=0.9, rate_inside=False, penalty=optim.penalties.L2(1e-3))
    trainer = training.Trainer(model, optimizer, loss, progress=False)
    trainer.fit(loader, epochs=epochs)
    return trainer.evaluate((digits.test_x, digits.test_y))["accuracy"]


found = {name: [accuracy(seed, loss) for seed in range(3)] for name, loss in forms.items()}
for name, values in found.items():
    difference = estimate([value - plain for value, plain in zip(values, found["plain"], strict=True)])
    shown = "   ".join(f"{value:.1%}" for value in values)
    print(f"{name:<24}{shown}   difference {difference.percent(sign=True)}")
    assert np.mean(values) > 0.4, "far better than chance, which is 0.1"
