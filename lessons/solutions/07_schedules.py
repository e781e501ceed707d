# %% [markdown]
# # 7 · Learning-rate schedules: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, ops, optim, training

schedules = optim.schedules
this = course.lesson("7 · Learning-rate schedules: solutions")

# %% [markdown]
# The noisy descent of the lesson: the loss $\tfrac12 w^2$, gradients with noise, a thousand runs at once.


# %%
def noisy_descent(rate, steps):
    """Return the mean loss before each step and after the last one."""
    rng, w, losses = np.random.default_rng(0), np.full(1000, 10.0), [50.0]
    for t in range(steps):
        w = w - rate(t) * (w + rng.standard_normal(1000))
        losses.append(np.mean(w**2) / 2)
    return np.array(losses)


# %% [markdown]
# ## 1 · The rate of a floor
#
# Which constant rate has its floor at 0.01, and how many steps does it need? From $\frac{\eta}{2 (2 - \eta)} = f$
# follows $\eta = \frac{4f}{1 + 2f}$. What the loss is above the floor shrinks by the factor $(1 - \eta)^2$ a step, from
# about 50. It is a tenth of the floor when
#
# $$50\,(1 - \eta)^{2t} = 0.1 f$$

# %%
floor = 0.01
eta = 4 * floor / (1 + 2 * floor)
needed = int(np.ceil(np.log(0.1 * floor / 50) / (2 * np.log(1 - eta))))
losses = noisy_descent(lambda t: eta, needed + 200)
cosine = noisy_descent(schedules.Cosine(0.5, needed), needed)
print(f"η = {eta:.4f}, {needed} steps; the loss then {losses[needed]:.4f}, in the long run {losses[-100:].mean():.4f}")
print(f"a cosine from 0.5 over as many steps: {cosine[-1]:.4f}")
np.testing.assert_allclose(losses[needed], 1.1 * floor, rtol=0.15)  # a thousand runs: some percent of noise
np.testing.assert_allclose(losses[-100:].mean(), floor, rtol=0.1)

# %% [markdown]
# The cosine over so few steps ends about where the constant rate does: it has spent most of them at rates that are too
# large for the floor. The advantage grows with the number of steps, and it needs no knowledge of the floor.
#
# ## 2 · A schedule of your own
#
# $\eta_t = \eta_0 (1 - t/T)$ until $T$, then 0, in the noisy descent.


# %%
def linear(t, first=0.5, T=400):
    return first * max(0.0, 1 - t / T)


for name, rate in (
    ("linear", linear),
    ("cosine", schedules.Cosine(0.5, 400)),
    ("linear, 0 from step 50 on", lambda t: linear(t, T=50)),
):
    print(f"{name:26} the loss after 400 steps: {noisy_descent(rate, 400)[-1]:.5f}")
assert noisy_descent(linear, 400)[-1] > noisy_descent(schedules.Cosine(0.5, 400), 400)[-1]
assert noisy_descent(lambda t: linear(t, T=50), 400)[-1] > 2 * noisy_descent(linear, 400)[-1]

# %% [markdown]
# Here the cosine ends lower. Both fall through the same rates, but the cosine spends more of its last steps at small
# ones, where the noise of the large ones dies away. A rate that reaches zero early freezes the weights where they
# happen to be, with the noise that the last large rates have left.
#
# ## 3 · The range test with momentum
#
# With $\beta = 0.9$ a gradient acts in this step and, by the momentum, in later ones too, altogether
# $1 / (1 - \beta) = 10$ times. So one expects a suggestion that is some ten times smaller.

# %%
digits = data.load("digits", size=28)


def suggested(method, steps):
    ml.manual_seed(0)
    model = models.mlp([784, 64, 10])
    loader = data.Loader(digits.train_x, digits.train_y, 64, seed=0)
    optimizer = method(model, lr=0.1)
    return training.find_rate(
        model, optimizer, loader, low=1e-4, high=10.0, steps=steps, smoothing=10 / steps
    ).suggestion


ratios = []
for steps in (100, 300):
    plain, momentum = suggested(optim.SGD, steps), suggested(optim.HeavyBall, steps)
    ratios.append(plain / momentum)
    print(f"{steps} steps: SGD {plain:.4f}   HeavyBall {momentum:.4f}   ratio {ratios[-1]:.1f}")
assert 1 < ratios[0] < ratios[1] < 10

# %% [markdown]
# It is smaller, but in 100 steps not by much: the rate rises by 12 % a step, and momentum needs about ten steps to
# build up. When it is there, the rate has grown threefold. With 300 steps, where the rate rises more slowly, the ratio
# comes closer to ten.
#
# ## 4 · In two parts
#
# Thirty steps at once, and fifteen and fifteen with everything new in between.

# %%
batches = [batch for _ in range(2) for batch in data.Loader(digits.train_x, digits.train_y, 64, seed=0)][:30]


def made():
    ml.manual_seed(0)
    model = models.mlp([784, 64, 10])
    return model, optim.HeavyBall(model, lr=schedules.Cosine(0.1, 30))


def train(model, optimizer, batches):
    for x, y in batches:
        optimizer.step(lambda x=x, y=y: backward(ops.cross_entropy(model(x), y)))


def backward(loss):
    loss.backward()
    return loss


model, optimizer = made()
train(model, optimizer, batches)
at_once = optimizer.weights

model, optimizer = made()
train(model, optimizer, batches[:15])
weights, state = model.state_dict(), optimizer.state_dict()
model, optimizer = made()
model.load_state_dict(weights)
optimizer.load_state_dict(state)
print(f"the new optimizer goes on at t = {optimizer.t} with the rate {optimizer.rate:.4f}")
train(model, optimizer, batches[15:])
print(f"largest difference of the weights: {np.abs(optimizer.weights - at_once).max():.0e}")
np.testing.assert_array_equal(optimizer.weights, at_once)
