# %% [markdown]
# # 11 · Dropout, in seven ways: solutions

# %%
import itertools

import numpy as np

import minidl as ml
from minidl import course, nn
from minidl.nn import initializers

this = course.lesson("11 · Dropout, in seven ways: solutions")

# %% [markdown]
# ## 1 · All masks of a window
#
# Enumerate all 512 masks of a 3×3 window with random positive values; compare the mean of the largest kept value with
# $\sum_i (1-p)\,p^{i-1}\,x_{(i)}$ and with the evaluation of `PoolingDropout`.
#
# A mask that keeps $k$ of the nine values has the probability $(1-p)^k p^{9-k}$.

# %%
p = 0.5
values = np.sort(np.random.default_rng(0).uniform(0, 1, 9))[::-1]
masks = np.array(list(itertools.product((0, 1), repeat=9)))
probabilities = (1 - p) ** masks.sum(axis=1) * p ** (9 - masks.sum(axis=1))
counted = probabilities @ (masks * values).max(axis=1)
formula = ((1 - p) * p ** np.arange(9) * values).sum()
evaluation = nn.PoolingDropout(3, p).eval()(ml.Tensor(values.reshape(1, 3, 3, 1))).data.item()
print(f"512 masks {counted:.6f}   formula {formula:.6f}   evaluation {evaluation:.6f}")
np.testing.assert_allclose(counted, formula, rtol=1e-12)
np.testing.assert_allclose(evaluation, (1 - p) * values[0], rtol=1e-12)
assert evaluation < formula

# %% [markdown]
# The evaluation is the first term of the formula alone. The larger the window, the more it leaves out: with nine values
# near the largest one the true mean is nearly the maximum itself.
#
# ## 2 · Thirty SELU layers
#
# Send a standard normal batch through 30 dense layers with SELU and LeCun's initialization, with `Dropout(0.1)`,
# `AlphaDropout(0.1)` or nothing behind each.

# %%
width, rows = (100, 200) if this.quick else (300, 500)
x = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
ends = {}
for name, noise in (("nothing", None), ("Dropout", nn.Dropout), ("AlphaDropout", nn.AlphaDropout)):
    ml.manual_seed(0)
    layers = []
    for _ in range(30):
        layers += [nn.Dense(width, width, init=initializers.for_activation("selu")), nn.SELU()]
        layers += [] if noise is None else [noise(0.1)]
    y = nn.Sequential(*layers)(x).data
    ends[name] = float(y.mean()), float(y.var())
    print(f"{name:12}  mean {y.mean():6.3f}   variance {y.var():.3f}")

assert abs(ends["AlphaDropout"][0]) < 0.15
assert abs(ends["AlphaDropout"][1] - 1) < 0.2
assert abs(ends["Dropout"][1] - 1) > abs(ends["AlphaDropout"][1] - 1)

# %% [markdown]
# SELU's fixed point is mean 0 and variance 1. AlphaDropout leaves it where it is. Inverted dropout raises the variance
# at each layer, and the network settles at another fixed point, which is not the one that SELU was made for.
#
# ## 3 · Dropout of the inputs is ridge regression
#
# For least squares, show
# $E\,\|(X \odot B)\,w/(1-p) - y\|^2 = \|Xw - y\|^2 + \frac{p}{1-p} \sum_j w_j^2 \sum_i X_{ij}^2$.
#
# In each row $(X \odot B)\,w/(1-p)$ has the mean $Xw$, because each $B_{ij}/(1-p)$ has the mean 1. The expected square
# is the square of the mean plus the variance. The coins are independent, so the variances $X_{ij}^2 w_j^2\,p/(1-p)$ add
# up.

# %%
generator = np.random.default_rng(0)
p = 0.3
X, w, y = generator.standard_normal((3, 4)), generator.standard_normal(4), generator.standard_normal(3)
masks = np.array(list(itertools.product((0, 1), repeat=12))).reshape(-1, 3, 4)
number_kept = masks.sum(axis=(1, 2))
probabilities = (1 - p) ** number_kept * p ** (12 - number_kept)
losses = (((X * masks) @ w / (1 - p) - y) ** 2).sum(axis=1)
ridge = ((X @ w - y) ** 2).sum() + p / (1 - p) * (w**2 * (X**2).sum(axis=0)).sum()
print(f"mean over {len(masks)} masks {probabilities @ losses:.10f}   ridge {ridge:.10f}")
np.testing.assert_allclose(probabilities @ losses, ridge, rtol=1e-12)

# %% [markdown]
# So the strength of the penalty adapts to the input: a feature with large values is punished more. Ridge regression
# with one $\lambda$ for all does that only after the features were scaled to the same size.
#
# ## 4 · An average behind the dropout
#
# Put a 3×3 average behind `Dropout` and `SpatialDropout2d`, on feature maps that are 1 everywhere; predict the
# variance.
#
# Inverted dropout of 1 has the variance $p/(1-p)$. The average of nine independent values has a ninth of it. The
# average of nine values that are dropped together has all of it.

# %%
p, count = 0.5, 2_000 if this.quick else 20_000
ones = np.ones((count, 3, 3, 4), np.float32)
for layer, prediction in (
    (nn.Dropout(p, generator=np.random.default_rng(0)), p / (1 - p) / 9),
    (nn.SpatialDropout2d(p, generator=np.random.default_rng(0)), p / (1 - p)),
):
    behind = nn.Sequential(layer, nn.AvgPool2d(3))(ones).data
    print(f"{type(layer).__name__:16}  predicted {prediction:.4f}   measured {behind.var():.4f}")
    np.testing.assert_allclose(behind.var(), prediction, rtol=0.05)

# %% [markdown]
# A convolution averages its neighborhood in a similar way. That is why Dropout hardly disturbs a convolutional network
# in its early layers, and SpatialDropout2d does.
