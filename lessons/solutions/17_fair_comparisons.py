# %% [markdown]
# # 17 · Fair comparisons: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, nn, optim, training, trials, viz

this = course.lesson("17 · Fair comparisons: solutions")

images = this.images("fashion-mnist")
train_count = 1000 if this.quick else 4096
train_x, train_y = images.train_x[:train_count], images.train_y[:train_count]


def network():
    return nn.Sequential(
        half=nn.AvgPool2d(2),
        conv1=nn.Conv2d(1, 8, 5),
        relu1=nn.ReLU(),
        pool=nn.AvgPool2d(2),
        conv2=nn.Conv2d(8, 16, 3),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        dense=nn.Dense(3 * 3 * 16, 10),
    )


# %% [markdown]
# ## 1 · Two unfair grids
#
# *Adam with all rates, SGD with 0.001, 0.003 and 0.01; then SGD with all, Adam with 0.1, 0.3 and 1.*
#
# Both write "each was tuned", and both are right. What they do not write is that one grid holds the good rates and the
# other does not. So a report needs the grids, and a best rate at the edge of its grid is a reason to look further.

# %%
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
kept, held = data.splits.hold_out(train_count, 0.3, seed=0)


def held_out_loss(method, rate):
    ml.manual_seed(0)
    model = network()
    trainer = training.Trainer(model, method(model, lr=rate), progress=False)
    batches = data.Loader(train_x[kept], train_y[kept], batch_size=64, seed=0)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            history = trainer.fit(batches, (train_x[held], train_y[held]), epochs=2)
    except training.NonFiniteLossError:
        return np.inf
    return history.column("validation_loss")[-1]


losses = {
    name: np.array([held_out_loss(method, rate) for rate in RATES])
    for name, method in (("SGD", optim.SGD), ("Adam", optim.Adam))
}
for friend, sgd, adam in (
    ("nobody", slice(None), slice(None)),
    ("Adam", slice(0, 3), slice(None)),
    ("SGD", slice(None), slice(4, 7)),
):
    best = {"SGD": losses["SGD"][sgd].min(), "Adam": losses["Adam"][adam].min()}
    print(f"a friend of {friend:<7} reports SGD {best['SGD']:.3f}, Adam {best['Adam']:.3f}")
assert losses["Adam"].min() < losses["SGD"].min(), "with all rates Adam is better"
assert losses["SGD"].min() < losses["Adam"][4:7].min(), "with large rates for Adam only, SGD is"

# %% [markdown]
# The friend of Adam makes its lead larger, the friend of SGD turns it around. In both cases the best rate of the other
# one is at the edge of its grid.
#
# ## 2 · What the interval holds
#
# *Does the interval hold the mean in 95 % of the cases, and how does it shrink with the number of trainings?*
#
# The half-width is $t_{0.975,\,n-1}\, s / \sqrt n$. From $n = 3$ to 5 it shrinks by more than $\sqrt{3/5}$, because
# $t$ shrinks too. Later only the root is left: four times as many trainings for half the interval.

# %%
generator = np.random.default_rng(0)
holds = 0
for _ in range(2000):
    found = trials.estimate(list(generator.normal(0.8, 0.01, 5)))
    low, high = found.interval
    holds += low < 0.8 < high
print(f"the interval holds the true mean in {holds / 2000:.1%} of 2,000 experiments")
assert 0.935 < holds / 2000 < 0.965


def half_width(n):
    """Of n values with the standard deviation 1."""
    values = generator.normal(size=n)
    return trials.estimate(list((values - values.mean()) / values.std(ddof=1))).half_width


widths = {n: half_width(n) for n in (3, 5, 20, 80)}
print("half-width in units of s:", ", ".join(f"{width:.3f} for n = {n}" for n, width in widths.items()))
assert np.isclose(widths[3] / widths[5], 4.303 / 2.776 * np.sqrt(5 / 3), rtol=1e-3)

# %% [markdown]
# From three to five trainings it halves, from five to twenty it becomes 2.7 times as narrow, and the next factor of
# four gives a little more than 2.
#
# ## 3 · Other weights, the same function
#
# *The same function with other weights: `conv1` times 10, `conv2` by 10. Which slices change?*
#
# $\mathrm{ReLU}(10 a) = 10\,\mathrm{ReLU}(a)$, so the factor passes through and `conv2` takes it away. The
# filter-normalized direction is ten times as long where the filters are, and a tenth where they are a tenth. So along
# it both networks remain the same function for every $\alpha$.

# %%
ml.manual_seed(0)
model = network()
trainer = training.Trainer(model, optim.Adam(model, lr=0.01), progress=False)
trainer.fit(data.Loader(train_x, train_y, batch_size=64, seed=0), epochs=2)
scaled = network()
scaled.load_state_dict(model.state_dict())
for tensor, factor in ((scaled.conv1.weight, 10), (scaled.conv1.bias, 10), (scaled.conv2.weight, 0.1)):
    tensor.data = factor * tensor.data

x, y = next(iter(data.Loader(train_x, train_y, 200, shuffle=False)))
np.testing.assert_allclose(model(x).data, scaled(x).data, rtol=1e-3, atol=1e-3)

normal = np.random.default_rng(0)
# times 0.3, so that all slices fit into one picture
raw = {name: 0.3 * normal.standard_normal(p.shape) for name, p in model.named_parameters() if p.ndim > 1}
lines = {
    "raw": training.loss_line(model, x, y, raw, points=17),
    "raw, scaled weights": training.loss_line(scaled, x, y, raw, points=17),
    "normalized": training.loss_line(model, x, y, points=17),
    "normalized, scaled weights": training.loss_line(scaled, x, y, points=17),
}
for name, line in lines.items():
    print(f"{name:<27} loss at α = −1, 0, 1: " + "  ".join(f"{line.losses[i]:10.3f}" for i in (0, 8, 16)))
np.testing.assert_allclose(lines["normalized"].losses, lines["normalized, scaled weights"].losses, rtol=1e-3)
assert lines["raw, scaled weights"].losses[0] > 2 * lines["raw"].losses[0]
figure = viz.loss_lines(
    lines, "One function, two slices", "the second and the fourth network have conv1 · 10 and conv2 / 10"
)
this.show(figure, "17_fair_comparisons_solution_scale")

# %% [markdown]
# The raw direction makes the same function look much sharper with the scaled weights. The two normalized slices lie on
# top of each other.
#
# ## 4 · A random walk
#
# *The principal directions of a random walk.*
#
# Antognini and Sohl-Dickstein (2018) show that for a long walk in many dimensions the share of direction $k$ goes to
# $\frac{6}{\pi^2 k^2}$: 61 % and 15 %, together 76 %. The places along each direction are a cosine with $k$ half-waves,
# so even the picture looks like a purposeful path.

# %%
walk = np.cumsum(np.random.default_rng(0).standard_normal((30, 5000)), axis=0)
S = np.linalg.svd(walk - walk.mean(axis=0), compute_uv=False)
shares = S**2 / (S**2).sum()
limit = 6 / np.pi**2
print(
    f"random walk: {shares[0]:.1%} + {shares[1]:.1%} = {shares[:2].sum():.1%}; the limit {limit:.1%} + {limit / 4:.1%}"
)
np.testing.assert_allclose(shares[:2], (limit, limit / 4), atol=0.02)

# %% [markdown]
# So a plane with 80 % of the variance of one training says hardly more than that the weights have moved. It does not
# say that training takes place in two dimensions.
