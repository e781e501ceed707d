# %% [markdown]
# # 5 · Adaptive methods: from AdaGrad to AMSGrad
#
# Momentum (lesson 4) helps where the directions of a loss are badly scaled, but all weights still share one learning
# rate. The methods of this lesson give each weight a rate of its own, made of the gradients that it has seen. They
# follow one another, each mending a fault of the one before, and each is two to four lines.
#
# The equations are those of the lecture notes, §1.2.3.3. The methods are from Duchi, Hazan and Singer (2011), Tieleman
# and Hinton (2012), Zeiler (2012), Kingma and Ba (2015), Dozat (2016) and Reddi, Kale and Kumar (2018). All operations
# on vectors are element by element; state starts at zero.

# %%
import numpy as np

import minidl as ml
from minidl import course, optim, surfaces, viz

this = course.lesson("5 · Adaptive methods: from AdaGrad to AMSGrad")

# %% [markdown]
# ## How each is checked
#
# An optimizer is a rule that makes steps out of gradients. So each hand-made rule is given the same 60 random gradients
# as minidl's, and all 60 points must agree. The gradients are made to be unpleasant: of very different sizes, one of
# them rare, one always zero.

# %%
rng = np.random.default_rng(0)
gradients = rng.standard_normal((60, 5)) * np.array([1e-3, 1.0, 100.0, 1.0, 0.0])
gradients[:, 3] *= rng.random(60) < 0.1  # a rare one


def minidl_path(optimizer_class, gs, **settings):
    """Where minidl's optimizer goes from 0 with these gradients."""
    W = ml.Tensor(np.zeros(gs.shape[1]), requires_grad=True)
    optimizer = optimizer_class([W], **settings)
    path = []
    for g in gs:
        optimizer.zero_grad()
        W.grad = g
        optimizer.step()
        path.append(optimizer.weights)
    return np.array(path)


def check(name, by_hand, optimizer_class, **settings):
    mine, theirs = by_hand(gradients), minidl_path(optimizer_class, gradients, **settings)
    print(f"{name:9} by hand against minidl, 60 steps: largest difference {np.abs(mine - theirs).max():.0e}")
    np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)


# %% [markdown]
# ## AdaGrad: divide by what has been
#
# A feature that is rare but important gets few gradients; a frequent one gets many. AdaGrad divides the rate of each
# weight by the root of the sum of its squared gradients:
#
# $$ G_t = G_{t-1} + g^2, \qquad W^t = W^{t-1} - \frac{\eta}{\sqrt{G_t + \epsilon}}\, g $$


# %%
def adagrad(gs, eta=0.01, eps=1e-8):
    W, G, path = 0.0, 0.0, []
    for g in gs:
        G = G + g**2
        W = W - eta / np.sqrt(G + eps) * g
        path.append(W)
    return np.array(path)


check("AdaGrad", adagrad, optim.AdaGrad)
constant = np.ones((1000, 1))
steps = -np.diff(adagrad(constant)[:, 0], prepend=0)
print("steps in units of η, gradient 1:", ", ".join(f"t = {t}: {steps[t - 1] / 0.01:.3f}" for t in (1, 10, 100, 1000)))
np.testing.assert_allclose(steps, 0.01 / np.sqrt(np.arange(1, 1001)), rtol=1e-6)

# %% [markdown]
# The sum only grows. With a gradient that stays the same the steps shrink as $\eta/\sqrt t$, whether or not the minimum
# is near.
#
# ## RMSProp: forget
#
# A running average in place of the sum keeps a window of about $1/(1 - \gamma)$ steps:
#
# $$ E_t = \gamma E_{t-1} + (1 - \gamma)\, g^2, \qquad W^t = W^{t-1} - \frac{\eta}{\sqrt{E_t + \epsilon}}\, g $$


# %%
def rmsprop(gs, eta=0.001, gamma=0.9, eps=1e-8):
    W, E, path = 0.0, 0.0, []
    for g in gs:
        E = gamma * E + (1 - gamma) * g**2
        W = W - eta / np.sqrt(E + eps) * g
        path.append(W)
    return np.array(path)


check("RMSProp", rmsprop, optim.RMSProp)
steps = -np.diff(rmsprop(constant)[:, 0], prepend=0)
print("steps in units of η, gradient 1:", ", ".join(f"t = {t}: {steps[t - 1] / 0.001:.3f}" for t in (1, 10, 100, 1000)))
np.testing.assert_allclose(steps[[0, -1]], [0.001 / np.sqrt(0.1), 0.001], rtol=1e-6)

# %% [markdown]
# The steps no longer die: they settle at $\eta$. But the first is $\eta/\sqrt{1 - \gamma} \approx 3.2\,\eta$, because
# the average starts at zero and is too small at first. Adam will mend that.
#
# ## Adadelta: the right unit
#
# In SGD a step has the unit of a gradient, 1 over that of the weight; in RMSProp it has no unit but that of $\eta$. A
# step should have the unit of the weight. Adadelta takes it from the past steps, and needs no $\eta$:
#
# $$ \Delta_t = -\frac{\mathrm{RMS}[\Delta]_{t-1}}{\mathrm{RMS}[g]_t}\, g, \qquad
#    D_t = \gamma D_{t-1} + (1 - \gamma)\, \Delta_t^2, \qquad W^t = W^{t-1} + \Delta_t $$
#
# with $\mathrm{RMS}[g]_t = \sqrt{E_t + \epsilon}$, $E_t$ as in RMSProp, and
# $\mathrm{RMS}[\Delta]_t = \sqrt{D_t + \epsilon}$.


# %%
def adadelta(gs, gamma=0.95, eps=1e-6):
    W, E, D, path = 0.0, 0.0, 0.0, []
    for g in gs:
        E = gamma * E + (1 - gamma) * g**2
        delta = -np.sqrt(D + eps) / np.sqrt(E + eps) * g
        D = gamma * D + (1 - gamma) * delta**2
        W = W + delta
        path.append(W)
    return np.array(path)


check("Adadelta", adadelta, optim.Adadelta)
for eps in (1e-8, 1e-6, 1e-4):
    first = -adadelta(constant[:1], eps=eps)[0, 0]
    print(f"ε = {eps:.0e}: first step {first:.2e}, √(ε / (1 − γ)) = {np.sqrt(eps / 0.05):.2e}")
    np.testing.assert_allclose(first, np.sqrt(eps / 0.05), rtol=2e-3)

# %% [markdown]
# There is no free lunch: the first step comes out of $\epsilon$, which has taken the place of the rate, and the next
# ones grow from there.
#
# ## Adam: momentum, and a correction
#
# Adam divides not the gradient but its running average, the momentum, and corrects both averages for their start at
# zero. After $t$ steps the weights in the average $m_t = (1 - \beta_1) \sum_k \beta_1^{t-k} g_k$ add up to
# $1 - \beta_1^t$, so that is what it is divided by:
#
# $$ m_t = \beta_1 m_{t-1} + (1-\beta_1)\, g, \quad v_t = \beta_2 v_{t-1} + (1-\beta_2)\, g^2, \quad
#    \hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad \hat v_t = \frac{v_t}{1 - \beta_2^t}, \quad
#    W^t = W^{t-1} - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} $$


# %%
def adam(gs, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8, correct=True):
    W, m, v, path = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = (m / (1 - beta1**t), v / (1 - beta2**t)) if correct else (m, v)
        W = W - eta * m_hat / (np.sqrt(v_hat) + eps)
        path.append(W)
    return np.array(path)


check("Adam", adam, optim.Adam)
check("no corr.", lambda gs: adam(gs, correct=False), optim.Adam, bias_correction=False)
corrected = -np.diff(adam(constant)[:, 0], prepend=0) / 0.001
biased = -np.diff(adam(constant, correct=False)[:, 0], prepend=0) / 0.001
print("steps in units of η, gradient 1       t = 1     10    100   1000   largest")
for name, steps in (("with bias correction", corrected), ("without", biased)):
    print(f"{name:35}" + "".join(f"{steps[t - 1]:7.2f}" for t in (1, 10, 100, 1000)) + f"{steps.max():10.2f}")
np.testing.assert_allclose(corrected, 1, rtol=1e-6)
np.testing.assert_allclose(biased[0], 0.1 / np.sqrt(0.001), rtol=1e-4)

# %% [markdown]
# With the correction each step is $\eta$. Without it the first is $(1-\beta_1)/\sqrt{1-\beta_2} \approx 3.2$ times as
# long, and it becomes worse before it becomes better: $m$ forgets its start in 10 steps, $v$ in 1,000.
#
# ## Where ε stands
#
# $\epsilon$ keeps the quotient finite where the gradient is zero. In AdaGrad, RMSProp and Nadam it stands inside the
# root, in Adam and AMSGrad outside. With the same $10^{-8}$ that is not the same: inside it acts on gradients below
# $\sqrt{10^{-8}} = 10^{-4}$, outside on those below $10^{-8}$. After many equal gradients $g$ the steps of RMSProp and
# Nadam, and those of Adam and AMSGrad, have the sizes
#
# $$ \eta\, \frac{|g|}{\sqrt{g^2 + \epsilon}} \qquad\text{and}\qquad \eta\, \frac{|g|}{|g| + \epsilon}. $$

# %%
sizes = np.logspace(-11, 0, 200)
inside, outside = sizes / np.sqrt(sizes**2 + 1e-8), sizes / (sizes + 1e-8)
print("|g|      ε inside the root   ε outside    (step in units of η, ε = 1e-8)")
for size in (1e-2, 1e-4, 1e-6, 1e-8):
    print(f"{size:.0e} {size / np.sqrt(size**2 + 1e-8):18.4f} {size / (size + 1e-8):11.4f}")

figure = viz.titled_figure(
    12, 4.2, "Two small things that are easy to get wrong",
    "Left: Adam's first steps for a gradient that stays the same. Right: what becomes of small gradients, ε = 1e-8.",
)  # fmt: skip
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
left.semilogx(range(1, 1001), biased, color=viz.OTHER, label="without bias correction")
left.semilogx(range(1, 1001), corrected, color=viz.ACCENT, label="with it")
left.set(xlabel="step t", ylabel="step / η", ylim=(0, None))
right.loglog(sizes, inside, color=viz.ACCENT, label="ε inside the root: RMSProp, Nadam")
right.loglog(sizes, outside, color=viz.OTHER, label="ε outside: Adam, AMSGrad")
right.set(xlabel="size of the gradient", ylabel="step / η", ylim=(1e-7, 3))
for axes in (left, right):
    axes.legend(fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "05_first_steps")

# %% [markdown]
# For gradients of $10^{-6}$ RMSProp, in this form, takes steps of $0.01\,\eta$ where Adam takes whole ones.
#
# ## AdaMax and Nadam
#
# AdaMax replaces the root of the average by a maximum that is slowly forgotten. There is no square, and no correction
# for $u$, which starts with the first gradient. As $u$ is hardly less than any of the gradients that still count in the
# average, no step is much longer than $\eta$. A weight whose gradient has always been zero has $u = 0$ and $m = 0$; it
# has to stay where it is, and $0/0$ must not become NaN. (The notes have $v_{t-1}$ in the maximum; the recursion is on
# $u$, as in Kingma and Ba.)
#
# $$ u_t = \max(\beta_2 u_{t-1}, |g|), \qquad W^t = W^{t-1} - \frac{\eta}{u_t}\, \hat m_t $$
#
# Nadam is to Adam what Nesterov's method is to the heavy ball. The coming step's momentum is used now: $\hat m_t$ is
# shortened by $\beta_1$, and the present gradient is added once more.
#
# $$ W^t = W^{t-1} - \frac{\eta}{\sqrt{\hat v_t + \epsilon}}
#    \Big( \beta_1 \hat m_t + \frac{(1 - \beta_1)\, g}{1 - \beta_1^t} \Big) $$


# %%
def adamax(gs, eta=0.002, beta1=0.9, beta2=0.999):
    W, m, u, path = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        W = W - eta * m / (1 - beta1**t) / np.where(u > 0, u, 1)
        path.append(W)
    return np.array(path)


def nadam(gs, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    W, m, v, path = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        ahead = beta1 * m / (1 - beta1**t) + (1 - beta1) * g / (1 - beta1**t)
        W = W - eta / np.sqrt(v / (1 - beta2**t) + eps) * ahead
        path.append(W)
    return np.array(path)


check("AdaMax", adamax, optim.AdaMax)
check("Nadam", nadam, optim.Nadam)
longest = np.abs(np.diff(adamax(gradients), axis=0, prepend=0)).max()
print(f"AdaMax's longest step here is {longest / 0.002:.2f} η")
assert adamax(gradients)[-1, 4] == 0  # the weight without gradients

# %% [markdown]
# ## AMSGrad: never forget the largest
#
# Adam forgets. If large gradients are rare but matter, $v$ has become small again when the next one comes, and all the
# small ones in between have been magnified. AMSGrad keeps the largest $v$, so that a weight's rate can only fall:
#
# $$ \hat v_t = \max(\hat v_{t-1}, v_t), \qquad W^t = W^{t-1} - \frac{\eta}{\sqrt{\hat v_t} + \epsilon}\, m_t $$


# %%
def amsgrad(gs, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    W, m, v, v_hat, path = 0.0, 0.0, 0.0, 0.0, []
    for g in gs:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        v_hat = np.maximum(v_hat, v)
        W = W - eta / (np.sqrt(v_hat) + eps) * m
        path.append(W)
    return np.array(path)


check("AMSGrad", amsgrad, optim.AMSGrad)

# %% [markdown]
# The example of Reddi, Kale and Kumar: in step $t$ one pays $3x$ if $t \bmod 3 = 1$, else $-x$, for an $x$ in
# $[-1, 1]$. Three steps cost $x$ together, so $-1$ is the best. With $\beta_1 = 0$, $\beta_2 = 1/10$ and
# $\eta_t = 0.3/\sqrt t$, by hand:


# %%
def online(keep_largest, steps=3000, beta2=0.1):
    x, v, v_hat, moves = 0.0, 0.0, 0.0, []
    for t in range(1, steps + 1):
        g = 3.0 if t % 3 == 1 else -1.0
        v = beta2 * v + (1 - beta2) * g**2
        v_hat = max(v_hat, v) if keep_largest else v / (1 - beta2**t)
        moves.append(-g / np.sqrt(v_hat))  # in units of η
        x = min(max(x + 0.3 / np.sqrt(t) * moves[-1], -1), 1)
    return x, moves[-3:]


def online_minidl(optimizer_class, steps=3000):
    x = ml.Tensor(np.zeros(1), requires_grad=True)
    optimizer = optimizer_class([x], lr=lambda t: 0.3 / np.sqrt(t + 1), betas=(0.0, 0.1), eps=0.0)
    for t in range(1, steps + 1):
        x.grad = np.array([3.0 if t % 3 == 1 else -1.0])
        optimizer.step()
        x.data = np.clip(x.data, -1, 1)
    return float(x.data[0])


for name, keep_largest in (("Adam", False), ("AMSGrad", True)):
    x, moves = online(keep_largest)
    np.testing.assert_allclose(x, online_minidl(getattr(optim, name)), rtol=1e-10)
    print(f"{name:8} after 3,000 steps at x = {x:6.3f}; last moves " + ", ".join(f"{move:+.2f} η" for move in moves))
    assert x < -0.9 if keep_largest else x > 0.9
this.show(viz.amsgrad_counterexample(), "05_amsgrad")

# %% [markdown]
# Adam goes to the worst point there is. In the last cycle (right) its step on the gradient 3 is 1.05 η long, and those
# on the two gradients $-1$ are 0.76 and 0.97 η: together they win. AMSGrad's two are 0.35 η each, because its root
# remembers the 3. The setting is chosen for this: with the usual $\beta_2 = 0.999$ Adam remembers many such cycles, too
# (exercise 4).
#
# ## What a rate for each weight is good for
#
# Least squares with 20 features, mini-batches of ten samples, 400 steps. Two kinds of trouble:
#
# - *rare*: the first ten features are present in each sample, the last ten in one of 50;
# - *badly scaled*: the features are between 1 and 0.03 in size, on a logarithmic scale ($\kappa = 1000$).
#
# The true weights are such that all features matter alike. Each method has the same grid of rates, and is shown at the
# one with the least error over all 20 weights, relative to the true ones.


# %%
def make_batches(presence, scale, steps=400):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((steps, 10, 20)) * (rng.random((steps, 10, 20)) < presence) * scale
    return x, x @ (1 / scale) + 0.1 * rng.standard_normal((steps, 10))


def fit(optimizer_class, batches, lr):
    W = ml.Tensor(np.zeros(20), requires_grad=True)
    optimizer = optimizer_class([W], lr=lr)
    for x, y in zip(*batches, strict=True):
        optimizer.zero_grad()
        W.grad = x.T @ (x @ W.data - y) / len(y)
        optimizer.step()
    return optimizer.weights


def size(error):
    return np.linalg.norm(error) if np.abs(error).max() < 1e6 else np.inf  # also where it is NaN


kinds = {
    "rare": (np.repeat([1.0, 0.02], 10), np.ones(20), ("frequent", "rare")),
    "badly scaled": (np.ones(20), np.logspace(0, -1.5, 20), ("large", "small")),
}
rates = np.logspace(-3, 1, 9 if this.quick else 25)
errors = {}
for kind, (presence, scale, halves) in kinds.items():
    batches = make_batches(presence, scale)
    print(f"{kind:13} best η   error of the {halves[0]:8}   of the {halves[1]} ones")
    for method in (optim.SGD, optim.HeavyBall, optim.AdaGrad, optim.RMSProp, optim.Adam, optim.AMSGrad):
        with np.errstate(over="ignore", invalid="ignore"):  # the largest rates diverge
            off = {rate: fit(method, batches, rate) * scale - 1 for rate in rates}
        best = min(off, key=lambda rate: size(off[rate]))
        first, last = np.sqrt(np.mean(off[best].reshape(2, 10) ** 2, axis=1))
        errors[kind, method.__name__] = np.sqrt((first**2 + last**2) / 2)
        print(f"{method.__name__:13} {best:6.3f} {first:23.3f} {last:17.3f}")
for method in ("AdaGrad", "Adam", "AMSGrad"):
    assert errors["rare", method] < min(errors["rare", "SGD"], errors["rare", "RMSProp"])
for method in ("AdaGrad", "RMSProp", "Adam", "AMSGrad"):
    assert errors["badly scaled", method] < errors["badly scaled", "HeavyBall"] / 2

# %% [markdown]
# With rare features AdaGrad, Adam and AMSGrad are ahead of SGD. How far, depends on how finely SGD's rate was tuned;
# with the finer grid of the full form, the heavy ball is as good as AdaGrad. RMSProp is behind them: its steps stay as
# long to the end, and no momentum averages their noise. With badly scaled features all adaptive methods are far ahead.
# For SGD there is no good rate then: what the large features bear is too little for the small ones.
#
# ## The ways
#
# On a quadratic with $\kappa = 100$ one can see each coordinate's own rate: the lines show $|\Delta W| / |g|$ for both
# coordinates. In SGD they are the same. In the others the flat coordinate $x$ has a much larger rate than the steep
# one; the last panel says by how much. It makes up for a good part of the bad condition.

# %%
shown = ("sgd", "adagrad", "rmsprop", "adam", "amsgrad")
this.show(viz.effective_steps(surfaces.quadratic(100), shown), "05_effective")

# %% [markdown]
# That works because the quadratic's axes are those of the coordinates. A rate for each weight can stretch axes, not
# turn them. Rosenbrock's valley is curved. Here each method is at the best of the same grid of rates (for Adadelta, of
# $\epsilon$) and momenta. The loss is the median over the last quarter of the steps:

# %%
methods = ("sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamax", "nadam", "amsgrad")
length = 100 if this.quick else 400
rates, momenta = (np.logspace(-3, 1, 9), (0.9,)) if this.quick else (np.logspace(-4, 1, 17), (0.5, 0.9, 0.99))
sweep = surfaces.sweep(surfaces.rosenbrock(), methods, steps=length, rates=rates, momenta=momenta)
ranking = sorted(sweep.families, key=lambda family: family.ends[family.best])
for family in ranking:
    print(f"{family.method.label:9} {family.setting():16} loss {family.ends[family.best]:.1e}")
places = [family.method.name for family in ranking]
assert set(places[:4]) == {"adam", "adamax", "nadam", "amsgrad"}
assert all(places.index("sgd") < places.index(name) for name in ("adagrad", "rmsprop", "adadelta"))
this.show(viz.race_sheet(sweep), "05_race")

# %% [markdown]
# The four that have momentum lead. The three that have none, AdaGrad, RMSProp and Adadelta, are behind plain gradient
# descent by this measure: in a curved valley, rates for the coordinates alone are of little use. The order among the
# first four changes with the number of steps and the grid, and says nothing about networks.
#
# ## Take away
#
# - Each method mends one fault: AdaGrad gives each weight its rate, RMSProp forgets, Adadelta does without $\eta$, Adam
#   adds momentum and corrects the start, AMSGrad remembers the largest.
# - The steps of RMSProp and Adam are about $\eta$ long, whatever the size of the gradient. That makes one $\eta$ fit
#   many problems, and it means that the steps do not shrink by themselves near a minimum.
# - $\epsilon$ inside or outside the root, the bias correction, a maximum before or after it: libraries differ, and so
#   do their results. `minidl/optim/adaptive.py` says in each docstring how it differs from PyTorch.
#
# ## Exercises
#
# 1. Somebody writes `eta * m_hat / np.sqrt(v_hat) + eps` in Adam. What does the step become? Compare with the right one
#    over 60 steps for $\epsilon = 10^{-8}$ and $10^{-2}$. Would a test with the relative tolerance $10^{-4}$ and the
#    absolute one $10^{-6}$ find it at the default $\epsilon$?
# 2. Multiply all gradients by 1,000. Which of the methods of this lesson, and SGD, still go the same way? Take
#    $\epsilon = 0$ where there is an $\epsilon$, and gradients without zeros.
# 3. A weight has had the gradient 0 for 2,000 steps, and then it is 1. How long is Adam's step, in units of $\eta$? And
#    RMSProp's? Derive both numbers.
# 4. In the example of Reddi, Kale and Kumar, for which $\beta_2$ does Adam go to the best point, $-1$? Try 0.1, 0.3,
#    0.5, 0.9 and 0.999.
