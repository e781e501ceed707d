# %% [markdown]
# # 4 · Momentum
#
# Lesson 3 ended with a problem: on a badly conditioned loss, gradient descent crosses the valley back and forth and
# creeps along it. Momentum keeps a part $\beta$ of the last step. Across the valley successive steps cancel; along it
# they add up. The number of steps then grows with $\sqrt\kappa$ instead of $\kappa$.
#
# The sources are the lecture notes' §1.2.3.3, Polyak (1964) for the heavy ball and Nesterov (1983) for the look-ahead.

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, optim, surfaces, training, viz

this = course.lesson("4 · Momentum")
COLORS = {"gradient descent": "#5b6470", "heavy ball": viz.ACCENT, "Nesterov": viz.OTHER}

# %% [markdown]
# ## Heavy ball and Nesterov by hand
#
# $$ \text{heavy ball:} \quad W^t = W^{t-1} - \eta\, \nabla L(W^{t-1}) + \beta\,(W^{t-1} - W^{t-2}) $$
#
# $$ \text{Nesterov:} \quad W^t = W^{t-1} - \eta\, \nabla L\big(W^{t-1} + \beta\,(W^{t-1} - W^{t-2})\big)
# + \beta\,(W^{t-1} - W^{t-2}) $$
#
# The only difference is where the gradient is taken. Nesterov first goes where the momentum leads, and asks for the
# slope there. The test problem is the quadratic $L = \frac12 (x^2 + \kappa y^2)$, whose gradient is $(x, \kappa y)$.


# %%
def heavy_ball(gradient, start, eta, beta, steps):
    before = W = start
    path = [W]
    for _ in range(steps):
        before, W = W, W - eta * gradient(W) + beta * (W - before)
        path.append(W)
    return np.array(path)


def nesterov(gradient, start, eta, beta, steps):
    before = W = start
    path = [W]
    for _ in range(steps):
        ahead = W + beta * (W - before)
        before, W = W, ahead - eta * gradient(ahead)
        path.append(W)
    return np.array(path)


bowl = surfaces.quadratic(100)
start = np.array(bowl.start)
curvatures = np.array([1.0, 100.0])


def gradient(W):
    return curvatures * W


# %% [markdown]
# The same in minidl (`minidl/optim/first_order.py`), with the gradient from `backward`.


# %%
def minidl_path(make, steps):
    W = ml.Tensor(start, requires_grad=True)
    optimizer = make([W])

    def closure():
        loss = bowl(W)
        loss.backward()
        return loss

    return training.minimize(optimizer, closure, max_steps=steps, keep_path=True).path


eta, beta = 0.01, 0.9
for name, by_hand, method in (("heavy ball", heavy_ball, optim.HeavyBall), ("Nesterov", nesterov, optim.Nesterov)):
    mine = by_hand(gradient, start, eta, beta, 100)
    theirs = minidl_path(lambda params, method=method: method(params, lr=eta, beta=beta), 100)
    print(f"{name:10} by hand against minidl, 100 steps: largest difference {np.abs(mine - theirs).max():.0e}")
    np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-14)

# %% [markdown]
# ## The second form is the same
#
# The notes, and many papers, also write Nesterov's method with a velocity $v$ (which the notes call $W$):
#
# $$ v^t = \gamma v^{t-1} + \eta\, \nabla L(\theta - \gamma v^{t-1}), \qquad \theta \leftarrow \theta - v^t $$
#
# Put $v^t = W^{t-1} - W^t$ and $\gamma = \beta$: then $\theta - \gamma v^{t-1} = W^{t-1} + \beta (W^{t-1} - W^{t-2})$
# is the look-ahead point, and both lines are the first form.

# %%
theta, v = start, np.zeros(2)
second = [theta]
for _ in range(100):
    v = beta * v + eta * gradient(theta - beta * v)
    theta = theta - v
    second.append(theta)
difference = np.abs(np.array(second) - nesterov(gradient, start, eta, beta, 100)).max()
print(f"Nesterov's two forms, 100 steps: largest difference {difference:.0e}")
np.testing.assert_allclose(second, nesterov(gradient, start, eta, beta, 100), rtol=1e-10, atol=1e-14)

# %% [markdown]
# ## Where the parameters stand
#
# A library has a difficulty here: `backward` gives the gradient where the parameters are. So they must be moved to the
# look-ahead point before the loss is computed, and back before the step. In minidl `zero_grad` moves them there and
# `step` ends at the true iterate $W^t$; `optimizer.weights` is $W^t$ at every moment, and `model.eval()` or saving the
# model brings the parameters there as well. (PyTorch leaves them at the look-ahead point for good.)

# %%
W = ml.Tensor(start, requires_grad=True)
optimizer = optim.Nesterov([W], lr=eta, beta=beta)
print("            parameters            optimizer.weights")
for t in (1, 2, 3):
    optimizer.zero_grad()
    print(f"zero_grad   {np.array2string(W.data, precision=6):21} {np.array2string(optimizer.weights, precision=6)}")
    if t == 3:
        expected = second[2] + beta * (second[2] - second[1])
        np.testing.assert_allclose(W.data, expected, rtol=1e-12)
        np.testing.assert_allclose(optimizer.weights, second[2], rtol=1e-12)
    bowl(W).backward()
    optimizer.step()
    print(f"step {t}      {np.array2string(W.data, precision=6):21} {np.array2string(optimizer.weights, precision=6)}")
    np.testing.assert_allclose(W.data, optimizer.weights, rtol=0)

# %% [markdown]
# ## Overshoot
#
# Momentum does not stop at the minimum. In the direction of an eigenvalue $\lambda$ the heavy ball follows
#
# $$ e_{t+1} = (1 + \beta - \eta\lambda)\, e_t - \beta\, e_{t-1}, $$
#
# a pendulum with friction. Its characteristic polynomial is $z^2 - (1 + \beta - \eta\lambda) z + \beta$. If
# $(1 + \beta - \eta\lambda)^2 < 4\beta$ the roots are complex: the error swings around 0, and shrinks by $\sqrt\beta$
# in each step, whatever $\lambda$ is. Otherwise the root with the larger modulus decides. If it is positive, as here,
# the error creeps; if it is negative, for $\eta\lambda > 1 + \beta$, it changes its sign in each step. We count how
# often the first coordinate, with $\lambda = 1$, passes its minimum.

# %%
print("   β    roots     factor in a step   passes in 500 steps")
for momentum in (0.0, 0.5, 0.8, 0.9, 0.99):
    s = 1 + momentum - eta * 1.0
    roots = np.roots([1, -s, momentum])
    x = heavy_ball(gradient, start, eta, momentum, 500)[:, 0]
    passes = int((x[1:] * x[:-1] < 0).sum())
    kind = "complex" if s**2 < 4 * momentum else "real"
    print(f"{momentum:5}   {kind:8} {np.abs(roots).max():12.4f} {passes:18}")
    np.testing.assert_allclose(np.abs(roots).max(), viz.heavy_ball_rate(eta, momentum, 1.0), rtol=1e-12)
    assert (passes > 0) == (s**2 < 4 * momentum)

# %%
figure = viz.titled_figure(
    13, 4.6, "What momentum does in a valley",
    "60 steps on L = ½ (x² + 100 y²), η = 0.01 for all, β = 0.9. The valley lies along x.",
)  # fmt: skip
ways = {
    "gradient descent": heavy_ball(gradient, start, eta, 0.0, 60),
    "heavy ball": heavy_ball(gradient, start, eta, beta, 60),
    "Nesterov": nesterov(gradient, start, eta, beta, 60),
}
grid = figure.add_gridspec(3, 2, width_ratios=(1.5, 1))
grid_x, grid_y = np.meshgrid(np.linspace(-2.2, 1.2, 200), np.linspace(-0.75, 0.75, 100))
heights = bowl(np.stack([grid_x, grid_y], axis=-1)).data
losses = viz.plain(figure.add_subplot(grid[:, 1]))
for row, (name, path) in enumerate(ways.items()):
    axes = viz.plain(figure.add_subplot(grid[row, 0]))
    axes.contour(
        grid_x, grid_y, heights, levels=heights.max() * np.linspace(0.05, 1, 8) ** 2, colors=viz.FAINT, linewidths=0.7
    )
    axes.plot(*path.T, color=COLORS[name], linewidth=1.1, marker="o", markersize=2.8)
    axes.plot(0, 0, "*", color=viz.INK, markersize=11, markerfacecolor="#ffd23f")
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=COLORS[name], pad=2)
    axes.tick_params(labelbottom=row == 2)
    axes.grid(False)
    losses.semilogy(bowl(path).data, color=COLORS[name], label=name)
losses.set(xlabel="step", ylabel="loss")
losses.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "04_paths")
assert bowl(ways["heavy ball"][-1]).item() < bowl(ways["gradient descent"][-1]).item()

# %% [markdown]
# The swing has a cost. With $\beta = 0.99$ a step leaves 0.995 of the error, without momentum only 0.990: too much is
# as bad as too little.
#
# $\eta = 0.01 = 1/M$ takes gradient descent to the bottom of the valley at once, and then it creeps. The heavy ball
# swings in both directions and is much farther after 60 steps, though its loss rises in between: a loss that rises for
# a while is no sign of a wrong rate here. Nesterov's method stays at the bottom: at the look-ahead point, the gradient
# takes back what momentum would add in the steep direction. In both, $x$ passes the minimum and comes back.
#
# ## √κ against κ
#
# The rate of a method is the factor by which a step shrinks the error in the long run: the largest root over all
# eigenvalues between $\mu$ and $M$. The best settings, and what they give, with $\kappa = M / \mu$, $r = \sqrt\kappa$
# and $s = \sqrt{3\kappa + 1}$:
#
# | method | $\eta$ | $\beta$ | rate |
# |---|---|---|---|
# | gradient descent | $\frac{2}{M + \mu}$ | 0 | $\frac{\kappa - 1}{\kappa + 1}$ |
# | Nesterov | $\frac{4}{3M + \mu}$ | $\frac{s - 2}{s + 2}$ | $1 - \frac 2s$ |
# | heavy ball | $\frac{4}{(\sqrt M + \sqrt\mu)^2}$ | $\frac{(r-1)^2}{(r+1)^2}$ | $\frac{r-1}{r+1}$ |
#
# For a large $\kappa$ the first rate is about $1 - 2/\kappa$, the last about $1 - 2/\sqrt\kappa$.
# (Nesterov's line is from Lessard, Recht and Packard 2016.) We count the steps until the error is a millionth of what
# it was, from a start with equal parts of both directions, with $\mu = 1$ and $M = \kappa$.


# %%
def best_settings(kappa):
    root, third = np.sqrt(kappa), np.sqrt(3 * kappa + 1)
    return {
        "gradient descent": (heavy_ball, 2 / (kappa + 1), 0.0, (kappa - 1) / (kappa + 1)),
        "Nesterov": (nesterov, 4 / (3 * kappa + 1), (third - 2) / (third + 2), 1 - 2 / third),
        "heavy ball": (heavy_ball, (2 / (root + 1)) ** 2, ((root - 1) / (root + 1)) ** 2, (root - 1) / (root + 1)),
    }


def steps_to(method, kappa, eta, beta, limit):
    """The first step from which on the error stays below a millionth."""
    path = method(lambda W: np.array([1.0, kappa]) * W, np.ones(2), eta, beta, limit)
    large = np.flatnonzero(np.linalg.norm(path, axis=1) >= 1e-6 * np.sqrt(2))
    return int(large[-1]) + 1


kappas = (10, 100, 1000) if this.quick else (10, 30, 100, 300, 1000, 3000, 10000)
counts = {name: [] for name in COLORS}
print("      κ   " + "   ".join(f"{name:>20}" for name in best_settings(10)))
for kappa in kappas:
    row = []
    for name, (method, rate_eta, rate_beta, rate) in best_settings(kappa).items():
        limit = int(3 * np.log(1e-6) / np.log(rate)) + 20
        counts[name].append(steps_to(method, kappa, rate_eta, rate_beta, limit))
        row.append(f"{counts[name][-1]:7} steps ({rate:.4f})")
        if method is heavy_ball:
            np.testing.assert_allclose(viz.heavy_ball_rate(rate_eta, rate_beta, (1, kappa)), rate, rtol=1e-6)
    print(f"{kappa:7}   " + "   ".join(f"{entry:>20}" for entry in row))
slopes = {name: np.polyfit(np.log(kappas), np.log(steps), 1)[0] for name, steps in counts.items()}
print("steps grow as κ to the power of", ", ".join(f"{slope:.2f} ({name})" for name, slope in slopes.items()))
assert 0.9 < slopes["gradient descent"] < 1.1
assert all(0.4 < slopes[name] < 0.6 for name in ("heavy ball", "Nesterov"))

# %%
figure = viz.titled_figure(
    6.6, 4.4, "The price of a bad condition",
    "Steps until the error is a millionth, each method at its best setting.",
)  # fmt: skip
axes = viz.plain(figure.subplots())
for name, steps in counts.items():
    axes.loglog(kappas, steps, "o-", color=COLORS[name], label=f"{name}: slope {slopes[name]:.2f}", markersize=5)
axes.set(xlabel="condition number κ", ylabel="steps")
axes.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "04_condition")

# %% [markdown]
# The map shows the heavy ball's rate for all $\eta$ (α in the picture, in units of $1/M$) and $\beta$. Gradient descent
# is the bottom edge. For $\kappa = 1$ momentum buys nothing. For $\kappa = 100$ the best is at $\beta = 0.669$ and
# $\eta = 3.3/M$, where gradient descent would diverge: momentum also widens the range of stable rates, up to
# $2(1 + \beta)/M$. But for $\kappa = 100$ the best setting lies only 1 % below the edge of that range, and past the
# edge the method diverges: in practice one takes a smaller rate.

# %%
this.show(viz.momentum_map(), "04_map")
for kappa in (1, 10, 100):
    _, rate_eta, rate_beta, rate = best_settings(kappa)["heavy ball"]
    print(f"κ = {kappa:3}: the best heavy ball has η = {rate_eta * kappa:.3f}/M, β = {rate_beta:.3f}, rate {rate:.3f}")
for factor in (0.99, 1.01):
    rate = float(viz.heavy_ball_rate(factor * 2 * (1 + beta) / 100, beta, (1, 100)))
    print(f"η = {factor} · 2 (1 + β)/M with β = 0.9: rate {rate:.4f}")
    assert (rate < 1) == (factor < 1)

# %% [markdown]
# ## On a network
#
# With a gradient $g$ that stays the same, the steps add up to
# $\eta g (1 + \beta + \beta^2 + \ldots) = \eta g / (1 - \beta)$. So momentum 0.9 is also a ten times larger rate, and a
# fair comparison must offer that to plain SGD as well. LeNet-5, from the same weights, with the same batches:

# %%
images = this.images("fashion-mnist")
size, epochs = (600, 2) if this.quick else (6000, 3)
runs = {
    "SGD, η = 0.01": lambda model: optim.SGD(model, lr=0.01),
    "SGD, η = 0.1": lambda model: optim.SGD(model, lr=0.1),
    "heavy ball, η = 0.01, β = 0.9": lambda model: optim.HeavyBall(model, lr=0.01, beta=0.9),
    "Nesterov, η = 0.01, β = 0.9": lambda model: optim.Nesterov(model, lr=0.01, beta=0.9),
}
records = {}
for name, make in runs.items():
    ml.manual_seed(0)
    model = models.lenet5(dropout=0)
    trainer = training.Trainer(model, make(model), progress=False)
    batches = data.Loader(images.train_x[:size], images.train_y[:size], batch_size=32, seed=0)
    trainer.fit(batches, validation=(images.test_x[:1000], images.test_y[:1000]), epochs=epochs)
    records[name] = trainer.history
    last = trainer.history.epochs[-1]
    print(f"{name:30} training loss {last['loss']:.3f}, test accuracy {last['validation_accuracy']:.3f}")
final = {name: history.epochs[-1]["loss"] for name, history in records.items()}
slow, fast, ball = (final[name] for name in list(runs)[:3])
print(f"ten times the rate alone gives {(slow - fast) / (slow - ball):.0%} of the heavy ball's gain in loss")
assert ball < fast < slow

# %%
figure = viz.titled_figure(
    8, 4.4, "Much of momentum's gain is its larger rate",
    "Training loss of LeNet-5, mean over ten steps. One run each.",
)  # fmt: skip
axes = viz.plain(figure.subplots())
looks = (("#5b6470", "-"), ("#5b6470", (0, (4, 2))), (viz.ACCENT, "-"), (viz.OTHER, "-"))
for (name, history), (color, stroke) in zip(records.items(), looks, strict=True):
    loss = np.array([step["loss"] for step in history.steps])
    loss = loss[: len(loss) // 10 * 10].reshape(-1, 10).mean(axis=1)
    axes.plot(10 * np.arange(1, len(loss) + 1), loss, color=color, linestyle=stroke, label=name)
axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
axes.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "04_network")

# %% [markdown]
# Much of what momentum wins over SGD at $\eta = 0.01$, plain SGD wins as well with ten times the rate. The rest is
# momentum's own. These are single runs of a few hundred steps at most; they cannot tell which of heavy ball and
# Nesterov is better. The notes recommend momentum "especially for small mini batches": what it does to their noise is
# exercise 4.
#
# ## Take away
#
# - Momentum adds up steps that agree and cancels those that do not. At the best setting the number of steps grows with
#   $\sqrt\kappa$, where that of gradient descent grows with $\kappa$.
# - It overshoots. If $(1 + \beta - \eta\lambda)^2 < 4\beta$ the error swings, and the rate is $\sqrt\beta$: more
#   $\beta$ is then slower.
# - Nesterov's gradient is taken at the look-ahead point, and during training the parameters stand there. The result is
#   $W^t$, `optimizer.weights`.
# - $\beta = 0.9$ makes a steady step ten times as long. Whoever compares with plain SGD must give it ten times the
#   rate.
#
# ## Exercises
#
# 1. Let the gradient be 1 always. Show with `optim.HeavyBall` that the steps grow to $\eta / (1 - \beta)$. After how
#    many steps are they at 99 % of it, for $\beta = 0.9$ and for $0.99$?
# 2. A schedule cuts the rate from 0.1 to 0.001 after 100 steps with the gradient 1. How far do the weights go in the
#    next 50 steps, with `optim.HeavyBall(…, rate_inside=True)`, which is the equation above, and with
#    `rate_inside=False`, which keeps $v_t = \beta v_{t-1} + g$ and steps by $-\eta_t v_t$?
# 3. Take Nesterov's method with $\eta = 1/M$ on quadratics. Which factor does a step have for the eigenvalue
#    $\lambda = M$? Find the best $\beta$ for $\kappa = 100$ on a grid, from the roots of its characteristic polynomial,
#    and compare with $(\sqrt\kappa - 1)/(\sqrt\kappa + 1)$.
# 4. Does momentum average the noise of mini-batches away? Minimize $\frac12 W^2$ with gradients $W + n$,
#    $n \sim N(0, 1)$, for 20,000 weights at once, with SGD ($\eta = 0.01$ and $0.1$) and with the heavy ball
#    ($\eta = 0.01$, $\beta = 0.9$). Compare the variances of $W$ after 600 steps.
