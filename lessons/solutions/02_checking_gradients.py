# %% [markdown]
# # 2 · Checking gradients: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, ops

this = course.lesson("2 · Checking gradients: solutions")


# %%
def f(x):
    return np.exp(x) * np.sin(x)


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def complex_step(f, x, h):
    return f(x + 1j * h).imag / h


x = 1.0
slope = np.exp(x) * (np.sin(x) + np.cos(x))

# %% [markdown]
# ## 1 · A difference of order $h^4$
#
# *Find the best $h$ of $\big(f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)\big) / 12h$, and how much better it is.*
#
# The terms in $h^2$ cancel, since $8 \cdot 2 h^3 - 2\,(2h)^3 = 0$. Truncation is now about $h^4$, rounding still about
# $\epsilon / h$; they are equal near $h = \epsilon^{1/5} \approx 6 \cdot 10^{-4}$ rather than
# $\epsilon^{1/3} \approx 5 \cdot 10^{-6}$. A larger $h$ means less rounding. As single errors are a matter of luck, the
# median over neighboring $h$ is compared.


# %%
def fourth_order(f, x, h):
    return (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h)


def best(difference):
    """The h with the least error, in the median over a factor of two around it, and that error."""
    hs = np.logspace(-8, -1, 701)
    errors = np.abs(difference(f, x, hs) - slope)
    smooth = np.array([np.median(errors[i : i + 30]) for i in range(len(hs) - 30)])
    return hs[smooth.argmin() + 15], smooth.min()


(h2, error2), (h4, error4) = best(central), best(fourth_order)
print(f"1  central:       best h {h2:.0e}, error {error2:.0e}")
print(f"   fourth order:  best h {h4:.0e}, error {error4:.0e}, {error2 / error4:.0f} times less")
ratio = abs(fourth_order(f, x, 0.1) - slope) / abs(fourth_order(f, x, 0.01) - slope)
print(f"   from h = 0.1 to 0.01 its error falls to 1/{ratio:,.0f}")
assert 1e-4 < h4 < 1e-2
assert 1e-6 < h2 < 1e-4
assert error4 < error2 / 10
np.testing.assert_allclose(ratio, 1e4, rtol=0.05)

# %% [markdown]
# ## 2 · The complex step where it does not hold, and where it does
#
# *The complex step of $|x|$ by `np.abs` gives 0. Why?*
#
# Of a complex number `np.abs` is the modulus $\sqrt{a^2 + b^2}$, which is real: the function is not analytic, and
# Taylor's series in $ih$ does not hold. $\sqrt{x^2}$ is analytic beside 0, and the same as $|x|$ for real $x$.

# %%
for value in (0.7, -0.7):
    modulus = complex_step(lambda z: np.abs(z).astype(complex), value, 1e-200)
    root = complex_step(lambda z: np.sqrt(z * z), value, 1e-20)
    print(f"2  at {value:4}: np.abs {modulus:.0f}, sqrt(x²) {root:.0f}")
    assert (modulus, root) == (0, np.sign(value))

# %% [markdown]
# A network of tanh is analytic, so that each derivative of its loss is known to the last digits.

# %%
rng = np.random.default_rng(0)
inputs, targets = rng.standard_normal((20, 3)), rng.standard_normal(20)
W1, W2 = rng.standard_normal((3, 4)), rng.standard_normal(4)


def loss(W1, W2, tanh=np.tanh):
    residuals = tanh(inputs @ W1) @ W2 - targets
    return (residuals * residuals).sum()


by_complex_step = np.zeros_like(W1)
for index in np.ndindex(W1.shape):
    axis = np.zeros(W1.shape)
    axis[index] = 1
    by_complex_step[index] = complex_step(lambda s, axis=axis: loss(W1 + s * axis, W2), 0.0, 1e-200)

w1, w2 = ml.Tensor(W1, requires_grad=True), ml.Tensor(W2)
loss(w1, w2, ops.tanh).backward()
difference = np.abs(by_complex_step / w1.grad - 1).max()
print(f"   network: the 12 derivatives agree with minidl's to {difference:.0e}")
np.testing.assert_allclose(by_complex_step, w1.grad, rtol=1e-12)

# %% [markdown]
# ## 3 · A function that draws random numbers
#
# *`ml.check_gradients(lambda x: ops.dropout(x, 0.5), X)` fails. Why? Mend the call.*
#
# Each evaluation drops other elements, so that $f(x + hu)$ and $f(x - hu)$ are values of different functions. With a
# generator that is made inside the function, all evaluations drop the same.

# %%
ml.manual_seed(0)
X = rng.standard_normal((8, 5))
try:
    ml.check_gradients(lambda x: ops.dropout(x, 0.5), X)
    raise RuntimeError("two different masks should not agree")
except ml.GradientError:
    print("3  fails with a new mask each time", end="; ")
ml.check_gradients(lambda x: ops.dropout(x, 0.5, generator=np.random.default_rng(1)), X)
print("passes with the same one")

# %% [markdown]
# ## 4 · How small a mistake is found?
#
# *Square 20 × 20 numbers, with a derivative that is off by a factor of $1 + \delta$ in one element. How often does the
# check find it?*
#
# Along a random direction, the derivative $\sum_i 2 v_i x_i u_i$ is a random number of about $2 \sqrt{400} = 40$, and
# the tolerance is $10^{-4}$ of it. The mistake adds $2 \delta v_k x_k u_k$, about $2 \delta$. So a $\delta$ well below
# 0.002 is mostly missed, and one well above it mostly found. The check is meant for wrong formulas, which are wrong in
# many elements and by much more.


# %%
def make_op(delta):
    """Return the square with one element of its derivative off by a factor of 1 + δ."""
    factor = np.ones((20, 20))
    factor[3, 14] += delta

    @ml.differentiable
    def nearly_square(x):
        return x * x, lambda g: 2 * g * x * factor

    return nearly_square


checks = 40
X = rng.standard_normal((20, 20))
X[3, 14] = 1.0
found = {}
for delta in (0.0, 1e-4, 1e-3, 1e-2, 1e-1):
    op, found[delta] = make_op(delta), 0
    for seed in range(checks):
        try:
            ml.check_gradients(op, X, generator=np.random.default_rng(seed))
        except ml.GradientError:
            found[delta] += 1
    print(f"4  δ = {delta:<6g} found in {found[delta]:2} of {checks} checks")
assert found[0.0] == 0
assert found[1e-4] < checks / 2 < found[1e-2]
assert found[1e-1] >= checks - 1
