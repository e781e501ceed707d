# %% [markdown]
# # 3 · Gradient descent: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, ops

this = course.lesson("3 · Gradient descent: solutions")

# %% [markdown]
# ## 1 · One rate for each eigenvalue
#
# *On a quadratic with $n$ different eigenvalues, take the rates $1/\lambda_1, \ldots, 1/\lambda_n$ one after the
# other.*
#
# Each step multiplies what is missing in direction $\lambda$ by $1 - \lambda/\lambda_i$. The $i$-th step makes
# direction $i$ exactly 0, and there it stays: after $n$ steps all are 0. It is not used because one would have to know
# all eigenvalues, and because a step with a small eigenvalue enlarges the steep directions, with the smallest and the
# steepest by the factor $1 - \kappa$. With the small eigenvalues first these directions grow enormously before they
# vanish; with the large ones first only what rounding has left of them grows.

# %%
n = 8
eigenvalues = np.logspace(0, 2, n)
start = np.ones(n)
for name, order in (("large ones first", eigenvalues[::-1]), ("small ones first", eigenvalues)):
    W, largest = start, 1.0
    for eigenvalue in order:
        W = W - 1 / eigenvalue * (eigenvalues * W)
        largest = max(largest, np.abs(W).max())
    print(f"1  {name}: after {n} steps ‖W‖ = {np.linalg.norm(W):.0e}, on the way up to {largest:.0e}")
    np.testing.assert_allclose(W, 0, atol=1e-9)

# %% [markdown]
# ## 2 · Whitening
#
# *Multiply the centered features by $(XX^T/m)^{-1/2}$. What is $\kappa$, and how many steps are needed with
# $\eta = 1$?*
#
# With the eigenvectors $Q$ and eigenvalues $\Lambda$ of $XX^T/m$, its inverse root is $Q \Lambda^{-1/2} Q^T$. The new
# Hessian is the identity: $\kappa = 1$, and one step with $\eta = 1$ is the whole way. It is Newton's method, done to
# the data.

# %%
images = this.images("fashion-mnist")
x, labels = next(iter(data.Loader(images.train_x, images.train_y, 500, shuffle=False)))
squares = x[..., 0].astype(np.float64).reshape(500, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(500, 16)
y = (labels == 1).astype(np.float64)
y -= y.mean()  # so that no bias is needed

X = (squares - squares.mean(axis=0)).T
values, Q = np.linalg.eigh(X @ X.T / 500)
white = Q @ np.diag(values**-0.5) @ Q.T @ X
H = white @ white.T / 500
W = np.zeros(16)
W = W - 1.0 * white @ (W @ white - y) / 500
least = np.linalg.lstsq(white.T, y)[0]
print(f"2  κ was {values[-1] / values[0]:,.0f} and is {np.linalg.cond(H):.6f}; ", end="")
print(f"after one step ‖W − W*‖ = {np.linalg.norm(W - least):.0e}")
np.testing.assert_allclose(np.linalg.cond(H), 1, rtol=1e-9)
np.testing.assert_allclose(W, least, atol=1e-10)

# %% [markdown]
# ## 3 · An outlier
#
# *Make one sample of `correlated(0.0, 100)` 1,000 times as large. What becomes of $k(X)$? Do standardizing and limiting
# help?*
#
# The outlier's direction has the largest singular value by far, beside which all other samples look dependent. (Next
# to an outlier, say the notes, even what is normal can seem small.) Standardizing scales each feature, but the outlier
# is large in both features at once, so that they are now strongly correlated. A limit makes it a sample like others.


# %%
def condition(X):
    values = np.linalg.svd(X, compute_uv=False)
    return values[0] / values[-1]


X = np.random.default_rng(1).standard_normal((2, 100))
k_before = condition(X)
spread = 3 * X[:, 1:].std(axis=1, keepdims=True)  # of the other samples
X[:, 0] *= 1000
standardized = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
limited = np.clip(X, -spread, spread)
k_outlier, k_standardized, k_limited = condition(X), condition(standardized), condition(limited)
print(f"3  k without it {k_before:.2f}, with it {k_outlier:.0f}, ", end="")
print(f"standardized {k_standardized:.0f}, limited {k_limited:.2f}")
assert min(k_outlier, k_standardized) > 30 * k_before
assert k_limited < 2 * k_before

# %% [markdown]
# ## 4 · A curvature that changes
#
# *Logistic regression: the largest eigenvalue of the Hessian at $W = 0$ and at the end of a run. Does $\eta = 1.9/M$
# converge, with the $M$ of $W = 0$?*
#
# The Hessian is $\frac1m \sum p_i (1 - p_i)\, x_i x_i^T$, and $p(1 - p)$ is at most $\frac14$, which it is at $W = 0$.
# So the curvature is largest there, and it falls as the model becomes sure of its answers. The $M$ of $W = 0$ is a
# Lipschitz constant for the whole loss, and $\eta = 1.9/M$ is safe everywhere: the loss falls in each step.

# %%
rng = np.random.default_rng(0)
samples = 200
inputs = rng.standard_normal((samples, 5))
signs = np.sign(inputs @ rng.standard_normal(5) + 0.5 * rng.standard_normal(samples))
W = ml.Tensor(np.zeros(5), requires_grad=True)


def loss():
    return ops.softplus(-signs * (inputs @ W)).mean()


M = np.linalg.eigvalsh(ml.hessian(loss, W)).max()
np.testing.assert_allclose(M, np.linalg.eigvalsh(inputs.T @ inputs / samples / 4).max(), rtol=1e-12)
losses = []
for _ in range(100 if this.quick else 300):
    W.grad = None
    value = loss()
    value.backward()
    W.data = W.data - 1.9 / M * W.grad
    losses.append(float(value))
M_end = np.linalg.eigvalsh(ml.hessian(loss, W)).max()
print(f"4  largest curvature {M:.4f} at W = 0, {M_end:.4f} at the end; loss {losses[0]:.4f} → {losses[-1]:.4f}")
assert M_end < M
assert (np.diff(losses) < 1e-12).all()
