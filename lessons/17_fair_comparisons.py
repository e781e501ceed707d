# %% [markdown]
# # 17 · Fair comparisons
#
# "Which optimizer is the best?" is asked in every course, and answered in many papers by one training of each. This
# lesson repeats the optimizer study of Chaparala and Tenneti, who compared SGD, RMSProp, Adam and AdaMax on CIFAR-10
# (their table 1), on a small scale, to show how such an answer comes about, and how it can be turned around. A fair
# comparison gives all optimizers the same budget for tuning, judges the tuning on images that nobody is tested on,
# repeats the training with several seeds, and says how sure it is.
#
# The second half looks at where the optimizers go: slices through the loss around their solutions (Li et al. 2018), and
# their paths in one plane. Such pictures are convincing, so it is worth knowing what they leave out.

# %%
import time

import numpy as np

import minidl as ml
from minidl import course, data, nn, optim, training, trials, viz

this = course.lesson("17 · Fair comparisons")

images = this.images("fashion-mnist")
train_count, test_count, epochs, seeds = (1000, 300, 3, 3) if this.quick else (4096, 2000, 4, 5)
train_x, train_y = images.train_x[:train_count], images.train_y[:train_count]
test_x, test_y = images.test_x[:test_count], images.test_y[:test_count]

METHODS = {"SGD": optim.SGD, "RMSProp": optim.RMSProp, "Adam": optim.Adam, "AdaMax": optim.AdaMax}
COLORS = dict(zip(METHODS, (viz.ACCENT, viz.OTHER, "#2b8a57", "#8a4fb0"), strict=True))


class Watch(training.Callback):
    """Notes the weights on the way, and the processor time of every step."""

    def on_start(self, trainer):
        self.states, self.seconds = [trainer.model.state_dict()], []

    def on_batch(self, trainer, x, y):
        self.began = time.process_time()
        return x, y

    def on_step(self, trainer):
        self.seconds.append(time.process_time() - self.began)
        if trainer.steps_done % (6 if this.quick else 16) == 0:
            self.states.append(trainer.model.state_dict())


def network():
    """A small network, which halves the image first: a step takes a few milliseconds."""
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


def train(method, rate, x, y, judged_by, epochs, seed):
    """A training with the initial weights and the batches of a seed; None in place of the history if it diverged."""
    ml.manual_seed(seed)
    model = network()
    watch = Watch()
    trainer = training.Trainer(model, METHODS[method](model, lr=rate), callbacks=[watch], progress=False)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a rate that is too high may diverge
            history = trainer.fit(data.Loader(x, y, batch_size=64, seed=seed), judged_by, epochs=epochs)
    except training.NonFiniteLossError:
        return model, None, watch
    return model, history, watch


# %% [markdown]
# ## The same budget for all
#
# Every optimizer is tried with the same seven rates, two epochs each, on 70 % of the training images. It is judged by
# the loss on the other 30 %. The test images have no part in this: a rate that was chosen on them would make them
# training images. The budget is a part of the result: the best rate for two epochs need not be the best for twenty.
# `minidl compare` (`minidl/studies/comparison.py`) tunes in this way too, and `studies.search`
# (`minidl/studies/search.py`) tunes several settings at once.

# %%
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
kept, held = data.splits.hold_out(train_count, 0.3, seed=0)
tuned = {method: [] for method in METHODS}
for method, losses in tuned.items():
    for rate in RATES:
        _, history, _ = train(method, rate, train_x[kept], train_y[kept], (train_x[held], train_y[held]), 2, seed=0)
        losses.append(np.inf if history is None else history.column("validation_loss")[-1])

print("loss on the images held out, by rate")
print(f"{'':<9}" + "".join(f"{rate:>9g}" for rate in RATES))
for method, losses in tuned.items():
    print(f"{method:<9}" + "".join(f"{loss:>9.3f}" for loss in losses))
best = {method: RATES[int(np.argmin(losses))] for method, losses in tuned.items()}
print("best rates:", ", ".join(f"{method} {rate:g}" for method, rate in best.items()))

# %% [markdown]
# ## An unfair comparison
#
# "All optimizers were run with the same learning rate" sounds fair. It is one column of this table. In the column of
# 0.001 RMSProp is ahead of SGD, in that of 0.1 it is the other way round. Each has its own scale: SGD moves by
# $\eta\,g$, RMSProp by about $\eta$ for each weight, however small the gradient is. So the same number $\eta$ means
# different steps.

# %%
for rate in (0.001, 0.1):
    column = {method: tuned[method][RATES.index(rate)] for method in ("SGD", "RMSProp")}
    winner = min(column, key=column.get)
    print(f"rate {rate:g} for both: SGD {column['SGD']:.3f}, RMSProp {column['RMSProp']:.3f}: {winner} is better")
assert tuned["RMSProp"][RATES.index(0.001)] < tuned["SGD"][RATES.index(0.001)]
assert tuned["SGD"][RATES.index(0.1)] < tuned["RMSProp"][RATES.index(0.1)]

figure = viz.titled_figure(
    7.2,
    4.6,
    "The rate decides who wins",
    "loss on held-out images after two epochs; dots: the best",
)
axes = viz.plain(figure.add_subplot())
for rate in (0.001, 0.1):
    axes.axvline(rate, color=viz.FAINT, linewidth=6)
for method, losses in tuned.items():
    axes.plot(RATES, np.minimum(losses, 5), color=COLORS[method], linewidth=2, label=method)
    axes.plot(best[method], min(losses), "o", color=COLORS[method], markersize=8, markeredgecolor="white")
axes.set_xscale("log")
axes.set_yscale("log")
axes.yaxis.set_major_formatter("{x:g}")
axes.yaxis.set_minor_formatter("{x:g}")
axes.set_xlabel("learning rate η; the two unfair comparisons are shaded")
axes.set_ylabel("loss, at most 5")
axes.legend(frameon=False)
this.show(figure, "17_fair_comparisons_rates")

# %% [markdown]
# ## Several seeds, and how sure the mean is
#
# Now each optimizer is trained with its own best rate, on all training images, once for each seed: other initial
# weights, another order of the batches. From $n$ accuracies $x_i$ with the mean $\bar x$ the interval
#
# $$\bar x \pm t_{0.975,\,n-1}\,\frac{s}{\sqrt n}, \qquad s^2 = \frac{1}{n-1}\sum_i (x_i - \bar x)^2$$
#
# holds the true mean in 95 % of all such experiments, if the accuracies are normally distributed. $t$ is Student's,
# 4.303 for three and 2.776 for five trainings.

# %%
runs = {
    method: [train(method, best[method], train_x, train_y, (test_x, test_y), epochs, seed) for seed in range(seeds)]
    for method in METHODS
}
curves = {
    method: trials.TrialCurves(
        method,
        f"rate {best[method]:g}",
        [history and history.column("validation_accuracy") for _, history, _ in of_method],
    )
    for method, of_method in runs.items()
}
final = {method: np.array(list(curve.values("final").values())) for method, curve in curves.items()}

student = {3: 4.303, 5: 2.776}[seeds]
print(f"test accuracy after {epochs} epochs, {seeds} seeds")
for method, accuracies in final.items():
    half = student * accuracies.std(ddof=1) / np.sqrt(seeds)
    found = curves[method].estimate("final")
    np.testing.assert_allclose((accuracies.mean(), half), (found.mean, found.half_width), rtol=1e-3)
    print(f"{method:<9}{accuracies.mean():.1%} ± {half:.1%}   by minidl {found.percent()} %")

# %% [markdown]
# Two optimizers that were trained with the same seeds are compared seed by seed: initial weights that suit nobody then
# fall out of the difference. If 0 lies in its interval, these trainings cannot tell the two apart.

# %%
ranking = sorted(METHODS, key=lambda method: -final[method].mean())
for method in ranking[1:]:
    difference = trials.estimate(list(final[ranking[0]] - final[method]))
    low, high = difference.interval
    verdict = "cannot be told apart" if low < 0 < high else "differ"
    print(f"{ranking[0]} − {method}: {difference.percent(sign=True)} points, they {verdict}")
winners = [max(METHODS, key=lambda method: final[method][seed]) for seed in range(seeds)]
print("best with seed 0, 1, …:", ", ".join(winners))

this.show(
    viz.learning_curves(
        list(curves.values()),
        "Four optimizers, each with its best rate",
        f"{train_count:,} images, {epochs} epochs, {seeds} seeds; seven rates tried for each, on images held out",
        statistic="final",
    ),
    "17_fair_comparisons_seeds",
)

# %% [markdown]
# The table of Chaparala and Tenneti, for comparison, has one number for each: after the first cycle Adam 72.07, AdaMax
# 70.99, RMSProp 70.88, SGD 61.65 %. After each was adjusted in its own way the distances are much smaller: 85.50,
# 84.79, 84.50 and 83.30 %. `minidl study optimizers` repeats that on CIFAR-10 with the same adjustments for all.
#
# ## Steps or time
#
# A step of Adam reads and writes more vectors than one of SGD: $m$ and $v$ besides $W$ and $g$. So a picture against
# steps favors it. How much that matters depends on the network: the update takes the same time for a small batch of
# small images as for a large batch of large ones, and the gradient does not. The time at the right is that of the
# processor, measured in this run, so it is another one in the next.

# %%
figure = viz.titled_figure(9.6, 4.4, "Against steps, and against time", "training loss with seed 0, mean of ten steps")
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2, sharey=True))
for method, of_method in runs.items():
    _, history, watch = of_method[0]
    losses = np.convolve([step["loss"] for step in history.steps], np.ones(10) / 10, mode="valid")
    left.plot(np.arange(10, len(losses) + 10), losses, color=COLORS[method], linewidth=1.8, label=method)
    right.plot(np.cumsum(watch.seconds)[9:], losses, color=COLORS[method], linewidth=1.8)
left.set_yscale("log")
left.yaxis.set_major_formatter("{x:g}")
left.yaxis.set_minor_formatter("{x:g}")
left.set_xlabel("steps")
left.set_ylabel("loss")
right.set_xlabel("seconds of processor time")
left.legend(frameon=False)
this.show(figure, "17_fair_comparisons_time")

# %% [markdown]
# ## The loss around a solution
#
# The loss is a function of 2,826 weights. Along a random direction $D$ it is one of a single number, and can be
# drawn: $L(W + \alpha D)$. But which length has $D$? A ReLU network with weights ten times as large in one layer and
# ten times as small in the next computes the same, and a step of length 1 is small for one layer and large for the
# other. Li et al. (2018) give every filter $f$ of the direction the length of the weights' filter:
#
# $$D_f = \frac{\|W_f\|}{\|Z_f\|}\,Z_f, \qquad Z \sim N(0, 1)$$
#
# Biases stay as they are.

# %%
model = runs["SGD"][0][0]
generator = np.random.default_rng(0)
by_hand = {}
for name, parameter in model.named_parameters():
    W = parameter.data.astype(float)
    by_hand[name] = np.zeros(W.shape)
    if W.ndim > 1:
        Z = generator.standard_normal(W.shape)
        for f in range(W.shape[-1]):  # the last axis counts filters, or units
            by_hand[name][..., f] = Z[..., f] * np.linalg.norm(W[..., f]) / np.linalg.norm(Z[..., f])

from_minidl = training.random_direction(model, np.random.default_rng(0))
for name, direction in by_hand.items():
    np.testing.assert_allclose(direction, from_minidl[name], rtol=1e-12)
print(f"{sum(p.size for p in model.parameters()):,} weights; a direction by hand and by minidl agree to rounding")

# %% [markdown]
# `training.loss_line` and `training.loss_plane` (`minidl/training/landscape.py`) evaluate the loss on such slices, here
# on some training images, and put the weights back afterwards. $\alpha = 1$ changes every filter by its own length.

# %%
some_x, some_y = train_x[:200], train_y[:200]
points = 9 if this.quick else 33  # so that 0 and 1 are among the α of the slices below
solutions = {method: of_method[0][0] for method, of_method in runs.items()}
lines = {name: training.loss_line(solution, some_x, some_y, points=points) for name, solution in solutions.items()}
for name, line in lines.items():
    middle, ends = line.losses[points // 2], (line.losses[0], line.losses[-1])
    print(f"{name:<9}loss {middle:.3f} at the solution, {ends[0]:.2f} and {ends[1]:.2f} at α = −1 and 1")
    assert min(ends) > middle
this.show(
    viz.loss_lines(lines, "A slice through four solutions", "filter-normalized random direction, 200 training images"),
    "17_fair_comparisons_line",
)

# %% [markdown]
# Each lies in a valley. Which one is wider can be read from the picture, but it is one direction out of 2,826, and a
# flatter slice is no proof of better generalization: in the full form, on Fashion-MNIST, SGD has the flattest of the
# four and the lowest mean accuracy. Two directions give a map, here of SGD's and Adam's solutions:

# %%
planes = {
    name: training.loss_plane(solutions[name], some_x, some_y, points=7 if this.quick else 15)
    for name in ("SGD", "Adam")
}
this.show(
    viz.loss_planes(planes, "Two of the solutions in two directions", "the dot is the solution; 200 training images"),
    "17_fair_comparisons_planes",
)

# %% [markdown]
# Are both in the same valley? The straight line from one to the other, $W_{SGD} + \alpha\,(W_{Adam} - W_{SGD})$, tells
# whether there is a wall between them, at least on this way.

# %%
start, end = (solutions[name].state_dict() for name in ("SGD", "Adam"))
between = training.loss_line(
    solutions["SGD"], some_x, some_y, {name: end[name] - start[name] for name in start}, span=(-0.5, 1.5), points=points
)
on_the_way = between.losses[(between.alpha >= 0) & (between.alpha <= 1)]
wall = on_the_way.max() - max(on_the_way[0], on_the_way[-1])
print(f"loss {on_the_way[0]:.3f} at SGD's solution, {on_the_way[-1]:.3f} at Adam's, between them a wall of {wall:.3f}")
this.show(
    viz.loss_lines(
        {"on the straight line": between}, "From SGD's solution to Adam's", "0: SGD, 1: Adam; 200 training images"
    ),
    "17_fair_comparisons_between",
)

# %% [markdown]
# ## All paths in one plane
#
# All four began at the same weights. The visited weights of all, less their mean, are the rows of a matrix
# $X = U S V^T$. Its first two right singular vectors span the plane in which they differ most, and $S_i^2 / \sum S_k^2$
# is the share of the variance in direction $i$.

# %%
paths = {method: of_method[0][2].states for method, of_method in runs.items()}
names = [name for name, _ in model.named_parameters()]
visited = np.array(
    [np.concatenate([state[n].ravel() for n in names]) for path in paths.values() for state in path], float
)
X = visited - visited.mean(axis=0)
S = np.linalg.svd(X, compute_uv=False)
variance = S**2 / (S**2).sum()

found = training.loss_paths(model, some_x, some_y, paths, points=9 if this.quick else 17)
np.testing.assert_allclose(found.variance[:5], variance[:5], rtol=1e-6)
print(found)
this.show(
    viz.loss_paths(
        found, "Four optimizers in one plane", "ring: where all began; solid: the true loss, dashed: on the map"
    ),
    "17_fair_comparisons_paths",
)

# %% [markdown]
# The right panel is what most such pictures leave out. The map shows the loss in the plane, and the optimizers were
# beside it. Where the dashed line is away from the solid one, the map does not show the loss that the optimizer saw.
# Already at the ring it does not:

# %%
true, projected = found.true["SGD"][0], found.projected["SGD"][0]
print(f"where all began, the loss is {true:.2f}; at its place on the map it is {projected:.2f}")
assert true > 1.2 * projected

# %% [markdown]
# Whoever looks at the map alone sees paths that begin lower than they did.
#
# ## Take away
#
# - With one rate for all, the choice of the rate chooses the winner. Tune each optimizer with the same budget, and say
#   which; judge the tuning on images that are not the test images.
# - One training is an anecdote. Several seeds give a mean with an interval, and differences seed by seed. "They cannot
#   be told apart" is a result.
# - A slice is normalized or meaningless, a plane is not the space: print the variance explained, and the true loss
#   beside the projected one.
#
# ## Exercises
#
# 1. Somebody who likes Adam tunes it carefully and gives SGD only the rates 0.001, 0.003 and 0.01. What would they
#    report from the table above? And what would somebody who likes SGD report from the rates 0.1, 0.3 and 1 for
#    Adam?
# 2. Does the interval hold what it promises? Draw five accuracies from a normal distribution with a known mean, 2,000
#    times, and count how often `trials.estimate` holds it. How much narrower does it become from three to five, and
#    from five to twenty trainings with the same $s$?
# 3. Multiply the weights and biases of `conv1` by 10 and divide the weights of `conv2` by 10. Show that the network
#    computes the same. Draw a slice through both along $D = Z$, without normalization, and along filter-normalized
#    directions. Which picture depends on the scale?
# 4. How much of the variance do two principal directions have for a random walk, $W^t = W^{t-1} + Z$, of 30 steps in
#    5,000 dimensions? What does that say about a plane with 80 % of the variance of a training?
