# %% [markdown]
# # 6 · Second-order methods: solutions
#
# The damped oscillation of the lesson, once more, and the four exercises.

# %%
import numpy as np

import minidl as ml
from minidl import course, ops, optim, training

this = course.lesson("6 · Second-order methods: solutions")

rng = np.random.default_rng(0)
x = np.linspace(0, 4, 60)


def curve(W):
    return W[0] * np.exp(-W[1] * x) * np.cos(W[2] * x)


def jacobian(W):
    decay, wave = np.exp(-W[1] * x), np.cos(W[2] * x)
    return np.stack([decay * wave, -x * W[0] * decay * wave, -x * W[0] * decay * np.sin(W[2] * x)], axis=1)


y = curve([2.0, 0.5, 3.0]) + 0.1 * rng.standard_normal(len(x))
first_guess = np.array([0.5, 0.5, 2.5])

# %% [markdown]
# ## 1 · Newton's method in one dimension
#
# Minimize $L = e^w - 2w$ from $w = 0$ by $w \leftarrow w - L'/L''$. Here $L' = e^w - 2$ and $L'' = e^w$.
#
# By Taylor's theorem the new error is $\frac{L'''}{2L''}$ times the square of the old one, and at the minimum
# $L''' = L''$: half the square.

# %%
w, errors = 0.0, []
for _ in range(5):
    errors.append(w - np.log(2))
    w -= (np.exp(w) - 2) / np.exp(w)
errors = np.array(errors)
print("step   error      error / square of the last one")
print(f"   0   {errors[0]:9.2e}")
for t in range(1, 5):
    print(f"   {t}   {errors[t]:9.2e}  {errors[t] / errors[t - 1] ** 2:.3f}")
assert abs(errors[4] / errors[3] ** 2 - 0.5) < 0.01

# %% [markdown]
# ## 2 · Both limits of Levenberg–Marquardt
#
# With $\mu = 10^{-12}$ the step is that of Gauss–Newton, with $\mu = 10^9$ it is $-J^T r / \mu$.

# %%
J, r = jacobian(first_guess), curve(first_guess) - y


def damped(mu):
    return np.linalg.solve(J.T @ J + mu * np.eye(3), -J.T @ r)


gauss_newton = np.linalg.lstsq(J, -r, rcond=None)[0]
print("μ = 1e-12:", damped(1e-12), " Gauss–Newton:", gauss_newton)
print("μ = 1e9:  ", damped(1e9), " −Jᵀr / μ:    ", -J.T @ r / 1e9)
np.testing.assert_allclose(damped(1e-12), gauss_newton, rtol=1e-9)
np.testing.assert_allclose(damped(1e9), -J.T @ r / 1e9, rtol=1e-6)

# %% [markdown]
# ## 3 · Other units
#
# With $x' = 1000\,x$ the weights are $w_1 / 1000$ and $w_2 / 1000$. Their columns of $J$ grow by 1000,
# and the diagonal of $J^T J$ by $1000^2$: "diagonal" damps each weight in its own unit, and takes the same steps.
# "identity" adds the same $\mu$ to all, whatever the unit.


# %%
def fitted(damping, unit):
    """Return the path in the units of the lesson, with x measured in 1 / unit."""
    W = ml.Tensor(first_guess / [1, unit, unit], requires_grad=True)
    residuals = lambda: W[0] * ops.exp(-W[1] * (unit * x)) * ops.cos(W[2] * (unit * x)) - y
    optimizer = optim.LevenbergMarquardt([W], damping=damping)
    return training.minimize(optimizer, residuals, max_steps=10, keep_path=True).path * [1, unit, unit]


for damping in ("identity", "diagonal"):
    difference = np.abs(fitted(damping, 1) - fitted(damping, 1000))
    print(f"{damping:9} largest difference between the two paths: {difference.max():.1e}")
np.testing.assert_allclose(fitted("diagonal", 1), fitted("diagonal", 1000), rtol=1e-6)
assert np.abs(fitted("identity", 1) - fitted("identity", 1000)).max() > 0.1

# %% [markdown]
# ## 4 · From many first guesses
#
# Forty of them, $w_0, w_1 \in [0, 2]$ and $w_2 \in [1, 5]$.

# %%
least = 0.435485  # the lesson's best fit
guesses = np.random.default_rng(1).uniform([0, 0, 1], [2, 2, 5], size=(40, 3))


def outcome(method, guess):
    """Return how it ends, and the w₁ that it ends with."""
    W = ml.Tensor(guess.copy(), requires_grad=True)
    residuals = lambda: W[0] * ops.exp(-W[1] * x) * ops.cos(W[2] * x) - y
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            weights = training.minimize(method([W]), residuals, training.SmallStep(1e-9), 200).weights
    except np.linalg.LinAlgError:
        return "columns of J depend on each other", W.data[1]
    except ArithmeticError:
        return "diverged", W.data[1]
    loss = np.sum((curve(weights) - y) ** 2)
    return "best fit" if abs(loss - least) < 1e-4 else "elsewhere", weights[1]


counts = {}
for method in (optim.GaussNewton, optim.LevenbergMarquardt):
    ends = {}
    for guess in guesses:
        name, w1 = outcome(method, guess)
        ends.setdefault(name, []).append(w1)
    counts[method] = len(ends["best fit"])
    print(method.__name__)
    for name in sorted(ends):
        print(f"    {name:34} {len(ends[name]):2}, w₁ from {min(ends[name]):8.2g} to {max(ends[name]):8.2g}")
assert counts[optim.LevenbergMarquardt] == len(guesses) > 2 * counts[optim.GaussNewton]

# %% [markdown]
# Levenberg–Marquardt reaches the best fit from all of them, Gauss–Newton from 14. In half of the 26 failures a long
# step has made $w_1$ so large that the curve has decayed before the second point. There $w_1$ and $w_2$ have no
# influence any more, and $J^T J$ is singular. In the other half $w_1$ has become negative, and the curve grows instead
# of decaying.
