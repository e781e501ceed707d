# %% [markdown]
# # 5 · Adaptive methods: from AdaGrad to AMSGrad: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, optim

this = course.lesson("5 · Adaptive methods: from AdaGrad to AMSGrad: solutions")


# %%
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


rng = np.random.default_rng(0)
gradients = rng.standard_normal((60, 5)) * np.array([1e-3, 0.1, 1.0, 10.0, 100.0])

# %% [markdown]
# ## 1 · A missing pair of parentheses
#
# *`eta * m_hat / np.sqrt(v_hat) + eps` in Adam. What does the step become?*
#
# Division comes first. So $\epsilon$ is no longer in the denominator but added to every step: each weight drifts by
# $-\epsilon$ in each step, whatever its gradient is. (And a gradient of 0 is divided by 0.) With $10^{-8}$ the drift is
# $6 \cdot 10^{-7}$ after 60 steps, below the absolute tolerance; with $10^{-2}$ it is ten times the rate in each step.


# %%
def wrong_adam(gs, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    W, m, v, path = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        W = W - (eta * (m / (1 - beta1**t)) / np.sqrt(v / (1 - beta2**t)) + eps)
        path.append(W)
    return np.array(path)


for eps in (1e-8, 1e-2):
    right, wrong = minidl_path(optim.Adam, gradients, eps=eps), wrong_adam(gradients, eps=eps)
    found = not np.allclose(wrong, right, rtol=1e-4, atol=1e-6)
    print(f"1  ε = {eps:.0e}: largest difference {np.abs(wrong - right).max():.1e}, found: {found}")
    assert found == (eps == 1e-2)

# %% [markdown]
# A test should use a large $\epsilon$, and a tolerance near the rounding.
#
# ## 2 · Gradients times 1,000
#
# *Which methods go the same way?*
#
# All that divide a gradient, or an average of gradients, by a root or a maximum of the same gradients: the factor
# cancels. SGD goes 1,000 times as far, and momentum would as well. Adadelta's step is made of past steps alone, but the
# first one comes out of $\epsilon$; with $\epsilon = 0$ it would never move, so there it keeps its $10^{-6}$. Gradients
# well above $\sqrt\epsilon = 10^{-3}$ then go the same way but for a percent; smaller ones, such as the first of the
# five here, go another.

# %%
print("2  largest difference relative to the way")
for method in (
    optim.SGD,
    optim.AdaGrad,
    optim.RMSProp,
    optim.Adadelta,
    optim.Adam,
    optim.AdaMax,
    optim.Nadam,
    optim.AMSGrad,
):
    settings = {} if method in (optim.SGD, optim.AdaMax, optim.Adadelta) else {"eps": 0.0}
    way, scaled = (minidl_path(method, factor * gradients, **settings) for factor in (1, 1000))
    difference = np.abs(scaled - way).max() / np.abs(way).max()
    print(f"   {method.__name__:9} {difference:.0e}")
    if method is optim.SGD:
        np.testing.assert_allclose(scaled, 1000 * way, rtol=1e-10)
    elif method is optim.Adadelta:
        np.testing.assert_allclose(scaled[:, 2:], way[:, 2:], rtol=1e-2)
    else:
        np.testing.assert_allclose(scaled, way, rtol=1e-9, atol=1e-15)

# %% [markdown]
# ## 3 · After a long silence
#
# *The gradient has been 0 for 2,000 steps, and then is 1. How long is the step?*
#
# Adam: $m = 1 - \beta_1$, $v = 1 - \beta_2$, and the corrections have almost gone: $1 - 0.999^{2001} = 0.865$. The step
# is $(1 - \beta_1)\sqrt{0.865} / \sqrt{1 - \beta_2} = 2.94$, and 3.16 after a still longer silence. RMSProp:
# $1 / \sqrt{1 - \gamma} = 3.16$. A rare gradient makes a large step in both; the bias correction, which makes the very
# first step 1, does not help here.

# %%
silence = np.zeros((2001, 1))
silence[-1] = 1.0
adam = -minidl_path(optim.Adam, silence, lr=1.0)[-1, 0]
rmsprop = -minidl_path(optim.RMSProp, silence, lr=1.0)[-1, 0]
print(f"3  Adam {adam:.3f} η, RMSProp {rmsprop:.3f} η")
np.testing.assert_allclose(adam, 0.1 / np.sqrt(0.001) * np.sqrt(1 - 0.999**2001), rtol=1e-6)
np.testing.assert_allclose(rmsprop, 1 / np.sqrt(0.1), rtol=1e-6)

# %% [markdown]
# ## 4 · How long a memory does Adam need?
#
# *For which $\beta_2$ does Adam go to $-1$?*
#
# In the long run $v$ runs through a cycle of three values: $v_1$ after the gradient 3, then
# $v_2 = \beta_2 v_1 + 1 - \beta_2$ and $v_3 = \beta_2 v_2 + 1 - \beta_2$, with $v_1 = \beta_2 v_3 + 9 (1 - \beta_2)$.
# It moves in a cycle by $-3/\sqrt{v_1} + 1/\sqrt{v_2} + 1/\sqrt{v_3}$, in units of $\eta$, and goes to the side that
# this sum says. With 0.1 and 0.3 that is the worst point, with 0.5, 0.9 and 0.999 the best. With 0.5 the sum is so
# small that 3,000 steps do not lead all the way.


# %%
def online_adam(beta2, steps=3000):
    x = v = 0.0
    for t in range(1, steps + 1):
        g = 3.0 if t % 3 == 1 else -1.0
        v = beta2 * v + (1 - beta2) * g**2
        x = min(max(x - 0.3 / np.sqrt(t) * g / np.sqrt(v / (1 - beta2**t)), -1), 1)
    return x


def drift(beta2):
    """What Adam moves in a cycle, in units of η: v is the same again after three steps."""
    forget = 1 - beta2
    v3 = (forget + beta2 * forget + beta2**2 * 9 * forget) / (1 - beta2**3)
    v1 = beta2 * v3 + 9 * forget
    v2 = beta2 * v1 + forget
    return -3 / np.sqrt(v1) + 1 / np.sqrt(v2) + 1 / np.sqrt(v3)


for beta2 in (0.1, 0.3, 0.5, 0.9, 0.999):
    x = online_adam(beta2)
    print(f"4  β₂ = {beta2:5}: in a cycle {drift(beta2):+.3f} η, after 3,000 steps at x = {x:+.3f}")
    assert np.sign(x) == np.sign(drift(beta2))
assert [online_adam(beta2) < 0 for beta2 in (0.1, 0.3, 0.5, 0.9, 0.999)] == [False, False, True, True, True]
