# %% [markdown]
# # 7 · Learning-rate schedules
#
# A large learning rate is fast and never arrives: the noise of the mini-batches throws the weights about the minimum. A
# small one arrives and takes forever. So one begins with a large rate and ends with a small one. How the rate gets from
# one to the other is the schedule: a function of the step $t$ and of nothing else.
#
# Here every schedule is written as its formula and compared with the one of `minidl/optim/schedules.py`. Then come the
# one that is no function of $t$ alone (it watches the loss), the test that finds the rate to start from, and a small
# training in which the schedules meet a constant rate.
#
# Lecture notes §1.2.3.2; Loshchilov and Hutter 2017 (cosine, restarts); Smith 2017 (range test).

# %%
import itertools
import math

import numpy as np

import minidl as ml
from minidl import course, data, models, ops, optim, training, viz

schedules = optim.schedules
this = course.lesson("7 · Learning-rate schedules")

# %% [markdown]
# ## Why the rate should change
#
# The smallest example with all of the trouble: the loss $\tfrac12 w^2$ and a gradient with noise,
# $g = w + \sigma\xi$ with $\xi \sim N(0, 1)$. A step of SGD is $w \leftarrow (1 - \eta)\, w - \eta\sigma\xi$. The first
# factor shrinks the error by $1 - \eta$ a step. The second adds noise, and in the long run both balance at
#
# $$E[w^2] = (1 - \eta)^2 E[w^2] + \eta^2 \sigma^2 \quad\Rightarrow\quad
# E[\tfrac12 w^2] = \frac{\eta\sigma^2}{2\,(2 - \eta)}$$
#
# That is the floor of this rate. A thousand independent runs at once give the mean.

# %%
steps, runs, sigma = 400, 1000, 1.0


def noisy_descent(rate):
    """Return the mean loss before each step; `rate` is a function of t."""
    rng, w, losses = np.random.default_rng(0), np.full(runs, 10.0), []
    for t in range(steps):
        losses.append(np.mean(w**2) / 2)
        w = w - rate(t) * (w + sigma * rng.standard_normal(runs))
    return np.array(losses)


def floor(eta):
    return eta * sigma**2 / (2 * (2 - eta))


large, small = noisy_descent(lambda t: 0.5), noisy_descent(lambda t: 0.01)
falling = noisy_descent(schedules.Cosine(0.5, steps))
print("                 after 50 steps   in the end   floor")
print(f"constant 0.5   {large[50]:16.4f} {large[-50:].mean():12.4f}  {floor(0.5):.4f}")
print(f"constant 0.01  {small[50]:16.4f} {small[-1]:12.4f}  {floor(0.01):.4f}")
print(f"cosine         {falling[50]:16.4f} {falling[-1]:12.4f}")
np.testing.assert_allclose(large[-50:].mean(), floor(0.5), rtol=0.05)
assert falling[50] < 1.1 * large[50] < 0.1 * small[50], "as fast as the large rate"
assert falling[-1] < 0.1 * large[-1], "and in the end far below its floor"

# %% [markdown]
# The falling rate has the speed of the large one and goes below its floor. (The end is after 399 steps; for the rate
# 0.5, which only moves about its floor by then, it is the mean of the last 50.)
#
# ## Every schedule is its formula
#
# $t = 0, 1, 2, \dots$ counts finished steps.
#
# | name | $\eta_t$ |
# |---|---|
# | Constant | $\eta_0$ |
# | Decay | $\eta_t = \eta_{t-1} / (1 + \tau_t t)$; $\tau$ constant, or $\tau \leftarrow \alpha\tau$ every $T$ steps |
# | Exponential | $\eta_0\, e^{-\alpha t}$ |
# | SquareRoot | $\eta_0\, (t + 1)^{-1/2}$ |
# | Cosine | $\eta_T + \frac{\eta_0 - \eta_T}{2}(1 + \cos(\pi t / T))$ for $t < T$, then $\eta_T$ |
# | WarmUp | $\eta_0 + \alpha t$ for $t < T$, then the cosine from the rate that is reached |
# | Restarts | the cosine begun anew every $T$ steps, where $T$ may grow |
# | PiecewiseConstant | a rate for each stretch |
#
# As Python functions of $t$:


# %%
def decay(t, tau=2e-4, step=None, alpha=0.9):
    rate = 0.1
    for k in range(1, t + 1):
        rate = rate / (1 + (tau if step is None else tau * alpha ** (k // step)) * k)
    return rate


def cosine(t, T=100, first=0.1, last=0.001):
    return last + (first - last) / 2 * (1 + math.cos(math.pi * t / T)) if t < T else last


def warm_up(t, T=20, total=100, first=0.01, peak=0.1):
    return first + (peak - first) / T * t if t < T else cosine(t - T, total - T, peak, 0.0)


def restarts(t, T=20, growth=2):
    while t >= T:
        t, T = t - T, T * growth
    return cosine(t, T, 0.1, 0.0)


pairs = {
    "Constant": (lambda t: 0.1, schedules.Constant(0.1)),
    "Decay, constant τ": (decay, schedules.Decay(0.1, 2e-4)),
    "Decay, τ in steps": (lambda t: decay(t, 1e-3, 10), schedules.Decay(0.1, 1e-3, step=10)),
    "Exponential": (lambda t: 0.1 * math.exp(-0.03 * t), schedules.Exponential(0.1, 0.03)),
    "Exponential, as a power": (lambda t: 0.1 * 0.5 ** (t / 25), schedules.Exponential(0.1, rate=0.5, decay_steps=25)),
    "SquareRoot": (lambda t: 0.1 / math.sqrt(t + 1), schedules.SquareRoot(0.1)),
    "Cosine": (cosine, schedules.Cosine(0.1, 100, final=0.001)),
    "WarmUp": (warm_up, schedules.WarmUp(0.01, 0.1, warmup=20, steps=100)),
    "Restarts": (restarts, schedules.Restarts(0.1, 20, mult=2)),
    "PiecewiseConstant": (lambda t: 0.1 if t < 75 else 0.001, schedules.PiecewiseConstant([0.1, 0.001], [75])),
}
times = range(120)
print("                              η at t = 0        50        99   largest difference")
for name, (formula, schedule) in pairs.items():
    by_hand, from_minidl = ([each(t) for t in times] for each in (formula, schedule))
    shown = "".join(f"{by_hand[t]:10.6f}" for t in (0, 50, 99))
    difference = np.abs(np.subtract(by_hand, from_minidl)).max()
    print(f"{name:30}{shown}   {difference:.0e}")
    np.testing.assert_allclose(by_hand, from_minidl, rtol=1e-12, atol=1e-16)

# %% [markdown]
# Formula and library agree to rounding. `viz.rates` draws them, each with an axis of its own:

# %%
figure = viz.rates({name: schedule for name, (_, schedule) in pairs.items()}, 120)
this.show(figure, "07_schedules_all")

# %% [markdown]
# ## Warm-up, and a formula that jumps
#
# Warm-up begins low and rises in a line. Early gradients are large and point elsewhere after every step; a full rate
# could throw the weights to where they do not come back from. The notes go on for $t \ge T$ with
#
# $$\eta_T + \frac{\eta_0 - \eta_T}{2}\,(1 + \cos(\pi t / T))$$
#
# Look at $t = T$: the cosine is $-1$, so the rate is $\eta_T$, the *last* one, right after the line has reached the
# peak. Then it rises again, because the cosine does. The continuous form starts the cosine at $T$ from the rate that is
# reached, $\eta_p$, and ends it at $S$:
#
# $$\eta_S + \frac{\eta_p - \eta_S}{2}\Big(1 + \cos\frac{\pi\,(t - T)}{S - T}\Big)$$

# %%
T, S = 20, 100
jumping = [0.01 + 0.09 / T * t if t < T else 0.01 / 2 * (1 + math.cos(math.pi * t / T)) for t in range(S + 1)]
smooth = [pairs["WarmUp"][1](t) for t in range(S + 1)]
print("  t   as printed   continuous")
for t in (T - 1, T, T + 1, 2 * T):
    print(f"{t:3}   {jumping[t]:10.5f}   {smooth[t]:10.5f}")
largest = {name: np.abs(np.diff(rates)).max() for name, rates in (("printed", jumping), ("continuous", smooth))}
for name, change in largest.items():
    print(f"{name + ':':12} the largest change from one step to the next is {change:.4f}")
assert largest["printed"] > 0.09
assert largest["continuous"] < 0.0046, "no more than the slope of the line"

figure = viz.titled_figure(
    7.2, 3.8, "Warm-up", f"a line for {T} steps, then a cosine; faint: the cosine as printed, which jumps"
)
axes = viz.plain(figure.add_subplot())
axes.plot(jumping, color=viz.FAINT, linewidth=2)
axes.plot(smooth, color=viz.ACCENT, linewidth=2)
axes.annotate("continuous", (50, smooth[50]), xytext=(8, 6), textcoords="offset points", color=viz.ACCENT)
axes.annotate("as printed", (40, jumping[40]), xytext=(-24, 8), textcoords="offset points", color=viz.INK)
axes.set_xlabel("t")
axes.set_ylabel("η")
this.show(figure, "07_schedules_warm_up")

# %% [markdown]
# ## Watching the loss
#
# `ReduceOnPlateau` cuts the rate when the loss has not fallen for more than `patience` looks in a row. To have fallen
# it must be below its best value by a ten-thousandth at least. This is no function of $t$ alone: somebody must tell it
# the loss, and the `Trainer` does so after every epoch. By hand it is a counter. The example is the noisy descent from
# above.

# %%
patience, factor, every = 4, 0.5, 5
rate, best, waited, rates, cuts = 0.5, math.inf, 0, [], []
schedule = schedules.ReduceOnPlateau(0.5, factor=factor, patience=patience)
rng, w, watched = np.random.default_rng(0), np.full(runs, 10.0), []
for t in range(steps):
    watched.append(np.mean(w**2) / 2)
    if t % every == 0 and t > 0:  # look
        schedule.observe(t, watched[-1])
        if watched[-1] < best * (1 - 1e-4):
            best, waited = watched[-1], 0
        else:
            waited += 1
        if waited > patience:
            rate, waited = rate * factor, 0
            cuts.append(t)
    rates.append(rate)
    w = w - rate * (w + sigma * rng.standard_normal(runs))

print("cut at t =", *cuts, "  minidl:", *schedule.cuts)
np.testing.assert_allclose(rates, [schedule(t) for t in range(steps)], rtol=1e-14)
assert cuts == schedule.cuts
print(f"last rate {rate:g}; loss {np.mean(watched[-20:]):.4f}, floor of that rate {floor(rate):.4f}")

figure = viz.titled_figure(
    9, 4.2, "A noisy loss under four rates", f"mean of {runs} runs with the loss w² / 2 and noise in the gradient"
)
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
for name, losses, used, color in (
    ("constant 0.5", large, [0.5] * steps, viz.INK),
    ("constant 0.01", small, [0.01] * steps, "#8a93a0"),
    ("cosine", falling, [schedules.Cosine(0.5, steps)(t) for t in range(steps)], viz.ACCENT),
    ("reduce on plateau", watched, rates, viz.OTHER),
):
    left.plot(losses, color=color, linewidth=1.6, label=name)
    right.plot(used, color=color, linewidth=1.6)
left.set_yscale("log")
left.set_ylabel("loss")
right.set_ylabel("η")
for axes in (left, right):
    axes.set_xlabel("step")
left.legend(frameon=False, fontsize=9, loc="upper right")
this.show(figure, "07_schedules_noise")

# %% [markdown]
# Here it ends even lower than the cosine. But it watches the mean of a thousand runs, and the loss of one training is
# far noisier.
#
# ## The range test: where to start
#
# Train for a hundred steps while the rate rises, by the same factor each step. While it is too low the loss stays; then
# it falls; then it shoots up. The rate where the (smoothed) loss falls most steeply is a good one to begin with.
#
# $$\eta_i = \eta_{low}\, (\eta_{high} / \eta_{low})^{i / (n - 1)}, \qquad
# s_i = \frac{\sum_k 0.9^{\,i - k}\, L_k}{\sum_k 0.9^{\,i - k}}$$
#
# By hand, with the weights and batches that `training.find_rate` will use:

# %%
images = this.images("fashion-mnist")
count, held = (1000, 442) if this.quick else (5000, 2000)
x, y = images.train_x[:count], images.train_y[:count]
held_x, held_y = images.train_x[-held:], images.train_y[-held:]  # not the test images: here something is chosen


def new_model(seed):
    ml.manual_seed(seed)
    return models.mlp([784, 64, 10])


n, low, high = 100, 1e-4, 10.0
rates = low * (high / low) ** (np.arange(n) / (n - 1))
model, loader = new_model(0), data.Loader(x, y, 64, seed=0)
optimizer = optim.SGD(model, lr=lambda t: rates[t])
losses, smoothed = [], []
for batch, labels in itertools.islice((each for _ in range(n) for each in loader), n):
    optimizer.zero_grad()
    loss = ops.cross_entropy(model(batch), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    smoothed.append(np.average(losses, weights=0.9 ** np.arange(len(losses))[::-1]))
    if smoothed[-1] > 4 * min(smoothed):  # it has exploded
        break

slopes = np.gradient(smoothed, np.log10(rates[: len(smoothed)]))
least = 10 + int(np.argmin(smoothed[10:]))  # the first ten are noise
steepest = 10 + int(np.argmin(slopes[10 : least + 1]))

model = new_model(0)
found = training.find_rate(model, optim.SGD(model, lr=0.1), data.Loader(x, y, 64, seed=0), low=low, high=high, steps=n)
print(f"steepest fall   by hand {rates[steepest]:.4f}   find_rate {found.suggestion:.4f}")
print(f"least loss      by hand {rates[least]:.4f}   find_rate {found.least:.4f}")
print(f"steps made      by hand {len(losses)}       find_rate {len(found.losses)}")
np.testing.assert_allclose(found.smoothed, smoothed, rtol=1e-5)
np.testing.assert_allclose([found.suggestion, found.least], [rates[steepest], rates[least]], rtol=1e-12)
before, after = new_model(0), model
for untouched, tested in zip(before.parameters(), after.parameters(), strict=True):
    np.testing.assert_array_equal(untouched.data, tested.data)  # find_rate leaves the model as it was

this.show(viz.rate_range(found), "07_schedules_range_test")

# %% [markdown]
# The rate of the least loss is too high to train with: there the explosion has begun. And the running mean lags about
# ten steps behind. Take the suggestion as an order of magnitude.
#
# ## A training
#
# Three schedules, each with three peak rates: constant, cosine down to 0, and warm-up over the first fifth of the steps
# from a twentieth of the peak, then the cosine. HeavyBall with $\beta = 0.9$, which makes a rate act about ten times as
# large. The same seeds, that is, the same initial weights and batches, for all. Judged by images held out from the
# training part.

# %%
epochs, seeds = (5, 2) if this.quick else (10, 3)
total = epochs * math.ceil(count / 64)
kinds = {
    "constant": lambda peak: schedules.Constant(peak),
    "cosine": lambda peak: schedules.Cosine(peak, total),
    "warm-up": lambda peak: schedules.WarmUp(peak / 20, peak, total / 5, total),
}


def trained(schedule, seed):
    """Return the history of a training."""
    model = new_model(seed)
    trainer = training.Trainer(model, optim.HeavyBall(model, lr=schedule, beta=0.9), progress=False)
    return trainer.fit(data.Loader(x, y, 64, seed=seed), (held_x, held_y), epochs)


curves, final = [], {}
print(f"held-out accuracy and training loss after {epochs} epochs, mean of {seeds} seeds")
print("peak rate   " + "".join(f"{kind:>20}" for kind in kinds))
for peak in (0.01, 0.05, 0.2):
    row = ""
    for kind, make in kinds.items():
        histories = [trained(make(peak), seed) for seed in range(seeds)]
        accuracies = [history.column("validation_accuracy") for history in histories]
        curves.append(viz.TrialCurves(kind, "", accuracies, group=f"peak rate {peak:g}"))
        final[kind, peak] = np.mean([accuracy[-1] for accuracy in accuracies])
        row += f"{final[kind, peak]:11.1%}, {np.mean([history.column('loss')[-1] for history in histories]):.3f}  "
    print(f"{peak:9}   {row}")
assert min(final["cosine", 0.2], final["warm-up", 0.2]) > final["constant", 0.2]

history = trained(kinds["warm-up"](0.2), 0)
formula = [warm_up(t, total / 5, total, 0.01, 0.2) for t in range(total)]
np.testing.assert_allclose([step["rate"] for step in history.steps], formula, rtol=1e-12)
print("the rates in the history of a training are those of the formula")

subtitle = f"a network with one hidden layer, {count:,} images, {seeds} seeds, the same for all"
this.show(
    viz.learning_curves(curves, "Three schedules, three peak rates", subtitle, "held-out accuracy", statistic="final"),
    "07_schedules_training",
)

# %% [markdown]
# In both forms the schedules matter most where the peak rate is too large for a constant one. At 0.2 both schedules
# that end low are above the constant rate, in the mean by 5 percentage points or more. At 0.01, a rate that is small
# anyway, there is nothing to gain. The training losses with the falling rates are even higher there, because they end
# before they arrive, above all in the quick form with its few steps. Warm-up is the best at 0.2 on Fashion-MNIST, but
# with three seeds the intervals of all three overlap there. On the digits it gains nothing.
#
# ## Take away
#
# - A constant rate has a floor, about $\eta\sigma^2/4$ for a small $\eta$. A falling rate is fast first and low in the
#   end.
# - A schedule is a function of $t$: it can be plotted, checked against its formula, and resumed. Plot yours before you
#   train; a jump is easy to see and hard to debug.
# - A schedule makes a training forgive a rate that is too large. It does not mend one that is too small. The range test
#   finds the order of magnitude in a hundred steps.
#
# ## Exercises
#
# 1. In the noisy descent: which constant rate has its floor at 0.01? How many steps does it need to come within 10 % of
#    it? Run them, and compare with the cosine's loss after as many steps.
# 2. Write a schedule of your own, $\eta_t = \eta_0 (1 - t/T)$ until $T$, then 0: any function of $t$ will do. Use it in
#    the noisy descent. Does it end lower than the cosine? Why is a rate that ends at zero too early no use?
# 3. Make the range test once with `SGD` and once with `HeavyBall`, $\beta = 0.9$. How do the suggestions differ, and
#    what would you expect from $1 / (1 - \beta)$? Then take 300 steps, with `smoothing=10 / 300` (the weight of the
#    newest loss in the running mean; 0.1 above), so that the mean covers the same part of the range.
# 4. Train with a cosine for 30 steps. Then once more: 15 steps, save `optimizer.state_dict()` and the weights, load
#    them into a new model and a new optimizer with a new schedule of the same settings, and make the other 15. Check
#    that the weights are the same.
