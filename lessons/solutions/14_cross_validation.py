# %% [markdown]
# # 14 · Cross-validation: solutions

# %%
import numpy as np

from minidl import course, data

splits = data.splits
this = course.lesson("14 · Cross-validation: solutions")

# %% [markdown]
# ## 1 · A rare class
#
# 200 samples, 10 of which are of class 1. In how many of 200 seeds has 10-fold a part without any of them?

# %%
labels = np.repeat([0, 1], [190, 10])


def without(pairs):
    return any(labels[held].sum() == 0 for _, held in pairs)


plain = sum(without(splits.k_fold(200, 10, seed=seed)) for seed in range(200))
balanced = sum(without(splits.stratified_k_fold(labels, 10, seed=seed)) for seed in range(200))
print(f"plain 10-fold: {plain} of 200 seeds; stratified: {balanced}")
assert plain == 200
assert balanced == 0

# %% [markdown]
# That ten samples fall into ten different parts by chance has the probability
# $20^{10} / \binom{200}{10} \approx 0.0005$: plain 10-fold practically always has a part that cannot say anything about
# class 1.
#
# ## 2 · Leave-one-out without retraining
#
# With $A = X (X^T X + \lambda I)^{-1} X^T$ the error of sample $i$, when it is left out, is
# $(y_i - \hat y_i) / (1 - A_{ii})$.

# %%
rng = np.random.default_rng(0)
X = rng.standard_normal((40, 6))
y = X @ rng.standard_normal(6) + 0.5 * rng.standard_normal(40)
lam = 0.7


def ridge(X, y):
    return np.linalg.solve(X.T @ X + lam * np.eye(6), X.T @ y)


A = X @ np.linalg.solve(X.T @ X + lam * np.eye(6), X.T)
at_once = (y - A @ y) / (1 - np.diag(A))
retrained = np.concatenate([y[held] - X[held] @ ridge(X[train], y[train]) for train, held in splits.leave_one_out(40)])
print(f"largest difference between one training and 40: {np.abs(at_once - retrained).max():.1e}")
print(f"mean squared error: training {np.mean((y - A @ y) ** 2):.4f}, leave-one-out {np.mean(at_once**2):.4f}")
np.testing.assert_allclose(at_once, retrained, rtol=1e-10)

# %% [markdown]
# ## 3 · Features chosen outside of the folds
#
# 50 samples, 2,000 features, labels 0 and 1, all of it pure chance. Pick the 20 features that correlate most with the
# labels: once with all samples, once anew in each training part.


# %%
def picked(x, y):
    return np.argsort(-np.abs((x - x.mean(axis=0)).T @ (y - y.mean())) / x.std(axis=0))[:20]


def accuracy(x, y, train, held):
    signs = 2 * y - 1
    w = np.linalg.solve(x[train].T @ x[train] + np.eye(x.shape[1]), x[train].T @ signs[train])
    return np.mean((x[held] @ w > 0) == (y[held] == 1))


outside, inside = [], []
for seed in range(5 if this.quick else 20):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((50, 2000)), rng.permutation(np.repeat([0, 1], 25))
    best = picked(x, y)
    for train, held in splits.stratified_k_fold(y, 10, seed=seed):
        outside.append(accuracy(x[:, best], y, train, held))
        inside.append(accuracy(x[:, picked(x[train], y[train])], y, train, held))
print(f"features picked with all samples: {np.mean(outside):.1%}; inside of each fold: {np.mean(inside):.1%}")
assert np.mean(outside) > 0.8
assert abs(np.mean(inside) - 0.5) < 0.1

# %% [markdown]
# The truth is 50 %. The choice of the features belongs to the training, and what belongs to the training must be done
# anew in every fold.
#
# ## 4 · Lucky samples
#
# 100 different sets of 200 digits: for each, the 10-fold estimate and the accuracy on all other digits.

# %%
digits = data.load("digits", size=8)
pixels = np.concatenate([digits.train_x, digits.test_x]).reshape(-1, 64).astype(np.float64)
digit = np.concatenate([digits.train_y, digits.test_y])


def judged(train, held):
    x, y = pixels[train], digit[train]
    W = np.linalg.solve(x.T @ x + np.eye(64), x.T @ np.eye(10)[y])
    return np.mean((pixels[held] @ W).argmax(axis=1) == digit[held])


def ten_fold(mine, seed):
    return np.mean([judged(mine[train], mine[held]) for train, held in splits.k_fold(200, 10, seed=seed)])


count = 40 if this.quick else 100
orders = [np.random.default_rng([2, i]).permutation(len(digit)) for i in range(count)]
estimates = np.array([ten_fold(order[:200], 0) for order in orders])
truths = np.array([judged(order[:200], order[200:]) for order in orders])
one_set = np.array([ten_fold(orders[0][:200], seed) for seed in range(count)])
off = estimates - truths
print(f"one set, {count} seeds of the folds: deviation of the estimate {one_set.std(ddof=1):.1%}")
print(f"{count} sets: the estimate is off by {off.mean():+.1%} on average, with the deviation {off.std(ddof=1):.1%}")
assert off.std(ddof=1) > 1.5 * one_set.std(ddof=1)
assert off.mean() < 0, "ten folds train on 180 of 200"

# %% [markdown]
# The deviation over seeds is only a part of the uncertainty, the smaller one. The bias, by contrast, is small: on
# average 10-fold is only a little too pessimistic, and the lesson's set was an unlucky one.
