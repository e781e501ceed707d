# %% [markdown]
# # 10 · Penalties: L1, L2 and their relatives: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, optim

penalties = optim.penalties
this = course.lesson("10 · Penalties: L1, L2 and their relatives: solutions")


def soft(v, lam):
    return np.sign(v) * np.maximum(np.abs(v) - lam, 0)


def lasso(X, y, lam, ridge=0.0, steps=5000):
    """Minimize the squared error / 2n + lam ‖w‖₁ + ridge/2 ‖w‖₂²; the L2 part is a part of the gradient."""
    n, w = len(X), np.zeros(X.shape[1])
    eta = 1 / (np.linalg.eigvalsh(X.T @ X / n)[-1] + ridge)
    for _ in range(steps):
        w = soft(w - eta * (X.T @ (X @ w - y) / n + ridge * w), eta * lam)
    return w


# %% [markdown]
# ## 1 · Select, then fit again
#
# For $\lambda = 0.5$ find the features that L1 leaves, and fit them again by least squares without a penalty.

# %%
rng = np.random.default_rng(0)
n, d = 60, 50
true = np.zeros(d)
true[:5] = [3.0, -2.0, 1.5, -1.0, 0.5]
X, unseen = rng.standard_normal((n, d)), rng.standard_normal((2000, d))
y = X @ true + 1.5 * rng.standard_normal(n)

shrunk = lasso(X, y, 0.5)
kept = np.flatnonzero(shrunk)
again = np.zeros(d)
again[kept] = np.linalg.lstsq(X[:, kept], y, rcond=None)[0]
print("features kept:", kept.tolist())
for name, w in (("L1", shrunk), ("fitted again", again)):
    error = np.mean((unseen @ (w - true)) ** 2)
    print(f"{name:13} first weight {w[0]:.2f} (true: 3), error on unseen samples {error:.2f}")
assert abs(again[0] - 3) < abs(shrunk[0] - 3)
assert np.mean((unseen @ (again - true)) ** 2) < np.mean((unseen @ (shrunk - true)) ** 2)

# %% [markdown]
# L1 keeps the four large features, loses the small one, and takes 3 of the 45 that do not matter. Its weights are too
# small; fitted again, the first one is nearer to the truth, and so are the predictions.
#
# ## 2 · Two features that are almost the same
#
# Feature 1 is almost a copy of feature 0, and $y = 3 x_0 + noise$. Which weights do the penalties give to the two?

# %%
rng = np.random.default_rng(1)
x0 = rng.standard_normal(200)
twins = np.stack([x0, x0 + 0.1 * rng.standard_normal(200)], axis=1)
y2 = 3 * x0 + 0.5 * rng.standard_normal(200)
print(f"correlation {np.corrcoef(twins.T)[0, 1]:.4f}")
found = {"L1": lasso(twins, y2, 0.3), "L2": lasso(twins, y2, 0.0, 0.3), "elastic": lasso(twins, y2, 0.3, 0.3)}
for name, w in found.items():
    print(f"{name:8} {w.round(3)}")
assert found["L1"][1] == 0, "L1 chooses one"
assert abs(found["L2"][0] - found["L2"][1]) < 0.3, "L2 shares"
assert abs(found["elastic"][0] - found["elastic"][1]) < 0.5

# %% [markdown]
# L1 takes one of the group and drops the other. L2 divides the weight between them, because
# $(w/2)^2 + (w/2)^2 < w^2$. The elastic net can make zeros as L1 does, and shares within a group as L2 does.
#
# ## 3 · The proximal step of the elastic net
#
# $S_{\lambda_1}(v) / (1 + \lambda_2)$ minimizes $\tfrac12 (w - v)^2 + \lambda_1 |w| + \tfrac{\lambda_2}{2} w^2$.

# %%
grid = np.linspace(-3, 3, 600_001)
for v in (-2.0, -0.3, 0.4, 1.7):
    value = (grid - v) ** 2 / 2 + 0.5 * np.abs(grid) + 0.8 / 2 * grid**2
    on_grid, formula = grid[value.argmin()], soft(v, 0.5) / 1.8
    print(f"v = {v:4.1f}   least on the grid at {on_grid:8.5f}   formula {formula:8.5f}")
    assert abs(on_grid - formula) < 2e-5

# %% [markdown]
# ## 4 · L2 and Adam
#
# The loss is zero everywhere; one step of Adam with L2, coupled and decoupled, on the weights 2 and 0.02.

# %%
W = np.array([2.0, 0.02])
change = {}
for decoupled in (False, True):
    tensor = ml.Tensor(W, requires_grad=True)
    optimizer = optim.Adam([tensor], lr=0.01, penalty=penalties.L2(0.01, decoupled=decoupled))
    (0 * tensor).sum().backward()
    optimizer.step()
    change[decoupled] = optimizer.weights - W
    form = "decoupled" if decoupled else "coupled"
    print(f"{form:10} change {change[decoupled]}, in parts of W {change[decoupled] / W}")
np.testing.assert_allclose(change[False], [-0.01, -0.01], rtol=1e-3)
np.testing.assert_allclose(change[True], -0.01 * W, rtol=1e-12)

# %% [markdown]
# Adam divides the gradient by the root of its mean square. If the gradient is the penalty's alone, what is left is its
# sign times the rate: 0.01 for the large weight and for the small one. The decoupled pull stays in proportion.
