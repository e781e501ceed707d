# %% [markdown]
# # 8 · Convolution from loops to kernels: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, nn, ops

this = course.lesson("8 · Convolution from loops to kernels: solutions")
rng = np.random.default_rng(0)
size = 8 if this.quick else 16

# %% [markdown]
# ## 1 · Dilation
#
# A window that takes every $d$-th pixel, as a formula and by `ops.conv2d`.
#
# $$y_{n,p,q,k} = \sum_{i,j,c} x_{n,\,p+id,\,q+jd,\,c}\, w_{i,j,c,k}$$
#
# The window reaches over $d(k - 1) + 1$ pixels, so the output has $H - d(k-1)$ of them. A filter of that size with the
# weights at every $d$-th place and zeros between them does the same; the zeros are multiplied in vain.


# %%
def dilated(x, w, d):
    kh, kw, _, filters = w.shape
    oh, ow = x.shape[1] - d * (kh - 1), x.shape[2] - d * (kw - 1)
    y = np.zeros((len(x), oh, ow, filters))
    for i, j in np.ndindex(kh, kw):
        y += x[:, i * d : i * d + oh, j * d : j * d + ow] @ w[i, j]
    return y


x, w = rng.standard_normal((2, size, size, 3)), rng.standard_normal((3, 3, 3, 4))
for d in (1, 2, 3):
    spread = np.zeros((2 * d + 1, 2 * d + 1, 3, 4))
    spread[::d, ::d] = w
    y = dilated(x, w, d)
    np.testing.assert_allclose(y, ops.conv2d(x, spread).numpy(), rtol=1e-12, atol=1e-12)
    print(f"dilation {d}: a window of {2 * d + 1} pixels, an output of {y.shape[1]}")

# %% [markdown]
# ## 2 · Two small windows or one large one
#
# The filter of two layers of 3 × 3 without an activation between them, and the numbers of weights.
#
# The second layer sums windows of sums of windows, so that the pixel at offset $i + i'$ is met with
# $w_i\, w'_{i'}$: the filters are themselves convolved, in the sense of signal processing, and have 5 × 5 weights.
# With $C$ channels everywhere, two small ones have $2 \cdot 9\, C^2$ weights and the large one $25\, C^2$. But with a
# ReLU between them, the two small ones are no longer one layer.

# %%
first, second = rng.standard_normal((2, 3, 3))
together = np.zeros((5, 5))
for i, j in np.ndindex(3, 3):
    together[i : i + 3, j : j + 3] += first[i, j] * second

x = rng.standard_normal((2, size, size, 1))
one_after_the_other = ops.conv2d(ops.conv2d(x, first[..., None, None]), second[..., None, None]).numpy()
at_once = ops.conv2d(x, together[..., None, None]).numpy()
np.testing.assert_allclose(one_after_the_other, at_once, rtol=1e-11, atol=1e-11)

small = sum(nn.Conv2d(16, 16, 3, bias=False).weight.size for _ in range(2))
large = nn.Conv2d(16, 16, 5, bias=False).weight.size
assert small * 25 == large * 18
print(f"16 channels: two layers of 3 × 3 have {small:,} weights, one of 5 × 5 has {large:,}")

# %% [markdown]
# ## 3 · 1 × 1
#
# `nn.Conv2d(C, K, 1)` is `nn.Dense(C, K)` at each pixel.
#
# With a window of one pixel the sum over $i, j$ has one term: $y_{n,p,q} = x_{n,p,q}\, W + b$. So all pixels of all
# images are the rows of one matrix.

# %%
ml.manual_seed(0)
conv, dense = nn.Conv2d(3, 4, 1).astype(np.float64), nn.Dense(3, 4).astype(np.float64)
dense.weight.data = conv.weight.data[0, 0]

x = rng.standard_normal((2, size, size, 3))
by_conv, by_dense = conv(x), dense(x.reshape(-1, 3))
np.testing.assert_allclose(by_conv.numpy().reshape(-1, 4), by_dense.numpy(), rtol=1e-12, atol=1e-12)

g = rng.standard_normal(by_conv.shape)
by_conv.backward(g)
by_dense.backward(g.reshape(-1, 4))
np.testing.assert_allclose(conv.weight.grad[0, 0], dense.weight.grad, rtol=1e-12, atol=1e-12)
print("the same output, and the same gradient of the weights")

# %% [markdown]
# ## 4 · Pooling as a convolution
#
# Filters with which `ops.conv2d` computes `ops.avg_pool2d(x, 2)` for three channels.
#
# The mean is a sum with weights 1/4, at stride 2. Each channel is pooled by itself, so that filter $k$ has zeros for
# all channels but $k$: the identity matrix at each of the four places. The maximum is not linear in $x$, since
# $\max(x + x')$ is in general not $\max x + \max x'$. A convolution is linear, so none computes it.

# %%
x, other = rng.standard_normal((2, 2, size, size, 3))
w = np.broadcast_to(np.eye(3) / 4, (2, 2, 3, 3)).copy()
np.testing.assert_allclose(
    ops.conv2d(x, w, stride=2).numpy(), ops.avg_pool2d(x, 2).numpy(), rtol=1e-12, atol=1e-12
)  # fmt: skip
of_sum = ops.max_pool2d(x + other, 2).numpy()
sum_of = (ops.max_pool2d(x, 2) + ops.max_pool2d(other, 2)).numpy()
assert (of_sum <= sum_of + 1e-12).all()
assert (of_sum < sum_of - 1e-3).any()
print(f"max(x + other) is smaller than max x + max other by up to {(sum_of - of_sum).max():.2f}")
