# %% [markdown]
# # 4 · Momentum: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, optim, viz

this = course.lesson("4 · Momentum: solutions")


# %%
def run(make, gradient, steps, size=1):
    """The weights after every step, from 0 on, with gradients that are given as a function of W."""
    W = ml.Tensor(np.zeros(size), requires_grad=True)
    optimizer = make([W])
    path = [optimizer.weights]
    for _ in range(steps):
        optimizer.zero_grad()
        W.grad = gradient(W.data)
        optimizer.step()
        path.append(optimizer.weights)
    return np.array(path)


# %% [markdown]
# ## 1 · A constant gradient
#
# *The steps grow to $\eta/(1 - \beta)$. When are they at 99 % of it?*
#
# After $t$ steps the step is $\eta (1 + \beta + \ldots + \beta^{t-1}) = \eta (1 - \beta^t)/(1 - \beta)$. It is 99 %
# of $\eta/(1 - \beta)$ when $\beta^t = 0.01$, at $t = \ln 0.01 / \ln\beta$.

# %%
for beta in (0.9, 0.99):
    path = run(lambda W, beta=beta: optim.HeavyBall(W, lr=0.01, beta=beta), np.ones_like, 1000)
    sizes = -np.diff(path[:, 0])
    reached = int(np.flatnonzero(sizes >= 0.99 * 0.01 / (1 - beta))[0]) + 1
    print(f"1  β = {beta}: the step becomes {sizes[-1]:.4f}; 99 % of it at step {reached}")
    np.testing.assert_allclose(sizes[-1], 0.01 / (1 - beta), rtol=1e-3)
    assert reached == np.ceil(np.log(0.01) / np.log(beta))

# %% [markdown]
# ## 2 · Coasting
#
# *The rate falls from 0.1 to 0.001 after 100 steps. How far do the weights go in the next 50?*
#
# With the rate inside, as in the notes, the displacement is kept: it is 1 when the rate is cut, and
# $\beta + \beta^2 + \ldots = 9$ more of such steps follow. With the rate outside, the sum of the gradients is kept, and
# the new rate holds for all of it: 50 steps of $0.001 / (1 - \beta) = 0.01$.

# %%


def cut(t):
    return 0.1 if t < 100 else 0.001


distance = {}
for inside in (True, False):
    path = run(lambda W, inside=inside: optim.HeavyBall(W, lr=cut, beta=0.9, rate_inside=inside), np.ones_like, 150)
    distance[inside] = float(path[100, 0] - path[150, 0])
    print(f"2  rate_inside={inside}: {distance[inside]:.2f} in the 50 steps after the cut")
new_steps = 0.001 * sum((1 - 0.9**t) / 0.1 for t in range(1, 51))
np.testing.assert_allclose(distance[True], 9 * (1 - 0.9**50) + new_steps, rtol=1e-3)
np.testing.assert_allclose(distance[False], 0.5, rtol=1e-3)

# %% [markdown]
# ## 3 · Nesterov with $\eta = 1/M$
#
# *Which factor has a step for $\lambda = M$? Which $\beta$ is the best for $\kappa = 100$?*
#
# The gradient at the look-ahead point multiplies it by $1 - \eta\lambda$:
#
# $$ e_{t+1} = (1 - \eta\lambda)\,\big((1 + \beta)\, e_t - \beta\, e_{t-1}\big). $$
#
# For $\lambda = M = 1/\eta$ that is 0: the steep direction is done after one step, whatever $\beta$ is. The flat
# direction, with $\eta\lambda = 1/\kappa$, decides; its roots are equal at
# $\beta = (\sqrt\kappa - 1)/(\sqrt\kappa + 1)$, and both are $1 - 1/\sqrt\kappa$ there.


# %%
def nesterov_rate(shrink, beta):
    """The larger root of z² − c (1 + β) z + c β, where c = 1 − ηλ."""
    return np.abs(np.roots([1, -shrink * (1 + beta), shrink * beta])).max()


kappa = 100
assert nesterov_rate(0.0, 0.9) == 0
betas = np.linspace(0, 0.999, 1000)
rates = [max(nesterov_rate(1 - curvature / kappa, beta) for curvature in (1, kappa)) for beta in betas]
best = betas[np.argmin(rates)]
theory = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
print(f"3  best β {best:.3f}, theory {theory:.3f}; rate {min(rates):.4f}, 1 − 1/√κ = {1 - 1 / np.sqrt(kappa):.4f}")
assert abs(best - theory) < 1e-3
np.testing.assert_allclose(min(rates), 1 - 1 / np.sqrt(kappa), rtol=2e-3)
assert min(rates) > float(viz.heavy_ball_rate((2 / (np.sqrt(kappa) + 1)) ** 2, theory**2, (1, kappa)))

# %% [markdown]
# ## 4 · Momentum and noise
#
# *Compare the variances of $W$ after 600 steps.*
#
# In the long run the variance is $\eta/(2 - \eta)$ for SGD and
# $\frac{\eta\,(1 + \beta)}{(1 - \beta)\,(2 (1 + \beta) - \eta)}$ for the heavy ball. With $\eta = 0.01$ and
# $\beta = 0.9$ it is that of SGD with $\eta = 0.1$, nearly. Momentum does average gradients, but it takes a ten times
# longer step with the average: the noise that is left is that of the longer step. What takes the noise away is a
# smaller rate at the end, or a larger batch.

# %%
size = 4000 if this.quick else 20_000
methods = {
    "SGD, η = 0.01": (lambda W: optim.SGD(W, lr=0.01), 0.01 / 1.99),
    "SGD, η = 0.1": (lambda W: optim.SGD(W, lr=0.1), 0.1 / 1.9),
    "heavy ball": (lambda W: optim.HeavyBall(W, lr=0.01, beta=0.9), 0.01 * 1.9 / (0.1 * (3.8 - 0.01))),
}
for name, (make, theory) in methods.items():
    rng = np.random.default_rng(0)
    last = run(make, lambda W, rng=rng: W + rng.standard_normal(W.shape), 600, size)[-1]
    print(f"4  {name:14} variance {last.var():.4f}, theory {theory:.4f}")
    np.testing.assert_allclose(last.var(), theory, rtol=0.1)
