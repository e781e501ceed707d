# %% [markdown]
# # 2 · Checking gradients
#
# A wrong gradient seldom crashes. The loss still falls, only more slowly, and the fault is blamed on the learning rate.
# So every derivative is checked against the definition of a derivative: change the input a little, and look at what
# the output does.
#
# That sounds simpler than it is. How little is a little? Computers round, functions have kinks, and a careless check
# lets wrong gradients pass. This lesson is about these three things. The gradient $\nabla_W L$ itself is that of the
# lecture notes' §1.2.1; the complex step is from Squire and Trapp (1998).

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, ops, viz

this = course.lesson("2 · Checking gradients")

# %% [markdown]
# ## Differences by hand
#
# Two ways to compute $f'(x)$ from values of $f$, with what is left out by Taylor's series:
#
# $$ \frac{f(x+h) - f(x)}{h} = f'(x) + \frac h2 f''(x) + \ldots \qquad
#    \frac{f(x+h) - f(x-h)}{2h} = f'(x) + \frac{h^2}{6} f'''(x) + \ldots $$
#
# The forward difference has an error that shrinks with $h$, the central one with $h^2$. We try both on
# $f(x) = e^x \sin x$ at $x = 1$, where $f' = e^x (\sin x + \cos x)$ and $f''' = 2 e^x (\cos x - \sin x)$.


# %%
def f(x):
    return np.exp(x) * np.sin(x)


def forward(f, x, h):
    return (f(x + h) - f(x)) / h


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


x = 1.0
slope = np.exp(x) * (np.sin(x) + np.cos(x))
third = 2 * np.exp(x) * (np.cos(x) - np.sin(x))
print("     h    error, forward    error, central")
for h in (1e-1, 1e-2, 1e-3, 1e-5, 1e-8, 1e-11, 1e-14):
    print(f"{h:6.0e} {abs(forward(f, x, h) - slope):17.1e} {abs(central(f, x, h) - slope):17.1e}")
shrinks = abs(central(f, x, 1e-2) - slope) / abs(central(f, x, 1e-3) - slope)
print(f"from h = 1e-2 to 1e-3 the central error falls to 1/{shrinks:.0f}")
np.testing.assert_allclose(shrinks, 100, rtol=0.01)

# %% [markdown]
# With $h = 10^{-3}$ the central difference is good to six digits, with $10^{-5}$ to ten. Then it becomes worse again:
# with $h = 10^{-11}$ it is worse than with $10^{-3}$. What happens is rounding. $f(x + h)$ and $f(x - h)$ are known to
# about $\epsilon\,|f|$, where $\epsilon = 2^{-53}$ in double precision, and $x \pm h$ is rounded as well. The
# difference of the two is nearly all error when $h$ is tiny, and the division by $2h$ makes it large. So the error is
# about
#
# $$ \underbrace{\frac{h^2}{6} |f'''|}_{\text{truncation}} +
#    \underbrace{\frac{\epsilon}{h} \big(|f| + |x f'|\big)}_{\text{rounding}} $$
#
# and smallest where its derivative with respect to $h$ is 0, at
# $h^* = \sqrt[3]{3 \epsilon\,(|f| + |x f'|) / |f'''|}$. In single precision, $\epsilon = 2^{-24}$, the best $h$ is much
# larger, and the best error much worse. A single error may be smaller than that, by luck.


# %%
def predicted(h, eps):
    return h**2 / 6 * abs(third) + eps / h * (abs(f(x)) + abs(x * slope))


count = 80 if this.quick else 400
hs = np.logspace(-16, 0, count)
double = np.abs(central(f, x, hs) - slope)
x32, hs32 = np.float32(x), hs.astype(np.float32)
single = np.abs(central(f, x32, hs32).astype(float) - slope)

print("precision  predicted h*  predicted error  least error found  at h")
for name, errors, eps in (("double", double, 2**-53), ("single", single, 2**-24)):
    best = np.cbrt(3 * eps * (abs(f(x)) + abs(x * slope)) / abs(third))
    at = hs[errors.argmin()]
    print(f"{name:9} {best:13.1e} {predicted(best, eps):16.1e} {errors.min():18.1e} {at:6.0e}")
    assert (errors[hs > 1e3 * eps] < 3 * predicted(hs[hs > 1e3 * eps], eps)).all()

# %% [markdown]
# ## The complex step
#
# The subtraction is what hurts. If $f$ is given in terms of analytic functions, it can be had without:
#
# $$ f(x + ih) = f(x) + ih f'(x) - \frac{h^2}{2} f''(x) - \ldots \qquad\Rightarrow\qquad
#    \frac{\mathrm{Im}\, f(x + ih)}{h} = f'(x) - \frac{h^2}{6} f'''(x) + \ldots $$
#
# There is nothing to cancel, so $h$ may be as small as one likes.


# %%
def complex_step(f, x, h):
    return f(x + 1j * h).imag / h


complex_errors = np.abs(complex_step(f, x, hs) - slope)
print(f"complex step: error {abs(complex_step(f, x, 1e-200) - slope):.1e} with h = 1e-200")
np.testing.assert_allclose(complex_step(f, x, 1e-200), slope, rtol=1e-14)

# %% [markdown]
# minidl needs neither $h$ nor complex numbers: its derivative is made of exact ones. That it agrees with the complex
# step to the last digits is the strictest of all these checks.

# %%
at = ml.Tensor(np.float64(x), requires_grad=True)
(ops.exp(at) * ops.sin(at)).backward()
print(f"minidl {at.grad:.15f}, complex step {complex_step(f, x, 1e-200):.15f}")
np.testing.assert_allclose(at.grad, complex_step(f, x, 1e-200), rtol=1e-14)

# %% [markdown]
# The picture shows all of them. The dashed lines are the prediction above.

# %%
figure = viz.titled_figure(
    8.6, 4.8, "How small should h be?",
    "Error of the derivative of eˣ sin x at x = 1. To the right h is too large for Taylor's series, to the left too "
    "small for the computer.",
)  # fmt: skip
axes = viz.plain(figure.subplots())
floor = 1e-16  # stands for all errors below it
axes.loglog(hs, np.abs(forward(f, x, hs) - slope), color=viz.FAINT, linewidth=1.5, label="forward difference")
axes.loglog(hs, single, color=viz.OTHER, linewidth=1.2, label="central difference, single precision")
axes.loglog(hs, np.maximum(double, floor), color=viz.ACCENT, linewidth=1.2, label="central difference")
axes.loglog(hs, np.maximum(complex_errors, floor), color=viz.INK, linewidth=1.2, label="complex step")
for eps in (2**-53, 2**-24):
    label = "predicted for the central difference" if eps == 2**-53 else None
    axes.loglog(hs, predicted(hs, eps), color=viz.INK, linewidth=0.9, linestyle=(0, (5, 3)), label=label)
axes.set(xlabel="h", ylabel="error", ylim=(floor / 3, 1e3))
axes.legend(loc="lower right", fontsize=8.5, frameon=False, labelcolor=viz.INK)
this.show(figure, "02_step_size")

# %% [markdown]
# ## Many outputs: a `.sum()` that fools
#
# A layer has many outputs, and `backward` needs a scalar: or rather, one number $v_i$ for each output $y_i$. It then
# computes $\nabla_x \sum_i v_i y_i$. The quickest choice is $v = 1$, that is, to check `layer(x).sum()`. For two
# layers of nearly every classifier this is a trap.
#
# The outputs of a softmax sum up to 1, whatever the inputs are. The outputs of batch normalization sum up to 0 for
# each channel. Both sums are constant, so their gradients are 0, and every wrong formula that gives 0 for $v = 1$
# passes. Here are two such formulas, each beside the right one ($g$ is what `backward` hands in, $v$ at first):
#
# | layer | right | wrong |
# |---|---|---|
# | softmax | $y_j (g_j - \sum_k g_k y_k)$ | $y_j (g_j - \bar g)$ |
# | batch norm | $\frac1\sigma (g - \bar g - \hat x\, \overline{g \hat x})$ | $\frac1\sigma (g - \bar g)$ |
#
# The wrong softmax takes the plain mean for the weighted one. The wrong batch norm takes the variance for a constant.


# %%
def softmax(x):
    y = np.exp(x - x.max(axis=1, keepdims=True))
    return y / y.sum(axis=1, keepdims=True)


def softmax_right(x, g):
    y = softmax(x)
    return y * (g - (g * y).sum(axis=1, keepdims=True))


def softmax_wrong(x, g):
    return softmax(x) * (g - g.mean(axis=1, keepdims=True))


def normalize(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


def normalize_right(x, g):
    x_hat = normalize(x)
    return (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


def normalize_wrong(x, g):
    return (g - g.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


# %% [markdown]
# The check by hand changes each element of $x$ in turn, by central differences of $\sum_i v_i y_i$.


# %%
def numeric_gradient(layer, x, v, h=1e-6):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        gradient[index] = ((v * layer(x + step)).sum() - (v * layer(x - step)).sum()) / (2 * h)
    return gradient


rng = np.random.default_rng(0)
X = rng.standard_normal((8, 5))
ones, signed = np.ones_like(X), rng.standard_normal(X.shape)
formulas = {
    "softmax, right": (softmax, softmax_right),
    "softmax, wrong": (softmax, softmax_wrong),
    "batch norm, right": (normalize, normalize_right),
    "batch norm, wrong": (normalize, normalize_wrong),
}
print("largest error of      v = 1, that is .sum()   random signed v")
for name, (layer, gradient) in formulas.items():
    by_sum, by_signed = (np.abs(gradient(X, v) - numeric_gradient(layer, X, v)).max() for v in (ones, signed))
    print(f"{name:21} {by_sum:22.0e} {by_signed:17.0e}")
    assert by_sum < 1e-8
    assert (by_signed > 0.01) == name.endswith("wrong")

# %% [markdown]
# With `.sum()` the wrong formulas are as good as the right ones. With random signed $v$ they stand out by far. This is
# what `ml.check_gradients` does (`minidl/gradcheck.py`): it draws $v$, and instead of changing each element of $x$ it
# moves $x$ along three random directions $u$, which takes six evaluations however many elements there are:
#
# $$ u \cdot \nabla_x (v \cdot f(x)) \quad\text{against}\quad \frac{v \cdot f(x + hu) - v \cdot f(x - hu)}{2h} $$
#
# Only if they disagree does it look for the worst element, in order to name it. First the hand-made gradients are
# compared with minidl's, and then minidl's check is given the wrong softmax, with and without `.sum()`.

# %%
for op, right in (
    (ops.softmax, softmax_right),
    (lambda x: ops.batch_norm(x, np.ones(5), np.zeros(5)), normalize_right),
):
    tensor = ml.Tensor(X, requires_grad=True)
    op(tensor).backward(signed)
    print(f"by hand against minidl: largest difference {np.abs(tensor.grad - right(X, signed)).max():.0e}")
    np.testing.assert_allclose(tensor.grad, right(X, signed), rtol=1e-10, atol=1e-14)


@ml.differentiable
def wrong_softmax(x):
    return softmax(x), lambda g: softmax_wrong(x, g)


ml.manual_seed(0)
ml.check_gradients(lambda x: wrong_softmax(x).sum(), X)
print("the wrong softmax passes with .sum()")
try:
    ml.check_gradients(wrong_softmax, X)
    raise RuntimeError("a wrong gradient should have been found")
except ml.GradientError as error:
    print("without it:", error)

# %% [markdown]
# ## Kinks
#
# ReLU has no derivative at 0, and a difference that steps over a kink sees neither of the two slopes. For $|x| < h$
#
# $$ \frac{\max(0, x+h) - \max(0, x-h)}{2h} = \frac{x + h}{2h}, $$
#
# any number from 0 to 1. The gradient is not wrong there; the check is. So inputs are kept away from kinks.


# %%
def relu(x):
    return np.maximum(0, x)


h = 1e-6
for distance in (0.0, 0.3, -0.3, 20.0):
    kinked, exact = central(relu, distance * h, h), float(distance > 0)
    print(f"ReLU at {distance:4} h: central difference {kinked:.2f}, derivative {exact:.0f}")
    np.testing.assert_allclose(kinked, np.clip((distance + 1) / 2, 0, 1), atol=1e-9)
    assert (abs(kinked - exact) < 1e-9) == (abs(distance) >= 1)

ml.manual_seed(0)
ml.check_gradients(ops.relu, np.array([20 * h, -20 * h]))
try:
    ml.check_gradients(ops.relu, np.array([0.3 * h, -20 * h]))
    raise RuntimeError("the kink should have been noticed")
except ml.GradientError:
    print("ml.check_gradients passes at 20 h, and complains at 0.3 h")

# %% [markdown]
# ## A whole network
#
# LeNet-5 has 44,426 weights. Changing each in turn would take 88,852 evaluations; along a random direction it takes
# two. The network is full of ReLUs, and some of their inputs cross 0 along the way. With a smaller $h$ fewer do.
#
# A fresh network has a trap of its own. Its biases are 0, and much of each image is black: there the input of the first
# ReLUs is exactly 0, on the kink, and no $h$ is small enough. So the check is made twice: with the biases at 0, and
# with random ones. A third column, in single precision, shows why `check_gradients` always computes in double.

# %%
images = this.images("fashion-mnist")
batch = 8 if this.quick else 64
pixels, labels = next(iter(data.Loader(images.train_x, images.train_y, batch, shuffle=False)))


def check_along(model, direction, h):
    """The relative error of the loss's derivative along a direction in the space of all weights."""
    weights = list(model.parameters())
    start = [weight.data for weight in weights]

    def loss(step):
        for weight, W, u in zip(weights, start, direction, strict=True):
            weight.data = W + step * u.astype(W.dtype)
        return ops.cross_entropy(model(pixels.astype(start[0].dtype)), labels)

    numeric = (float(loss(h)) - float(loss(-h))) / (2 * h)
    loss(0).backward()
    exact = sum(float((weight.grad * u).sum()) for weight, u in zip(weights, direction, strict=True))
    for weight in weights:
        weight.grad = None
    return abs(numeric / exact - 1)


ml.manual_seed(0)
model = models.lenet5(dropout=0).astype(np.float64)
on_the_kink = float((model[0](pixels.astype(np.float64)).data == 0).mean())
print(f"of the inputs of the first ReLUs {on_the_kink:.0%} are exactly 0")
direction = [rng.standard_normal(weight.shape) for weight in model.parameters()]
step_sizes = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
errors = {"biases 0": [check_along(model, direction, h) for h in step_sizes]}
for name, parameter in model.named_parameters():
    if name.endswith("bias"):
        parameter.data = 0.1 * rng.standard_normal(parameter.shape)
errors["random"] = [check_along(model, direction, h) for h in step_sizes]
errors["single"] = [check_along(model.astype(np.float32), direction, h) for h in step_sizes]

print("relative error:   double, biases 0   double, random biases   single, random biases")
for h, *row in zip(step_sizes, *errors.values(), strict=True):
    print(f"      h = {h:6.0e} {row[0]:17.0e} {row[1]:23.0e} {row[2]:23.0e}")
assert min(errors["biases 0"]) > 1e-4
assert min(errors["random"]) < 1e-9
assert errors["single"][5] > 1e6 * errors["random"][5]

# %% [markdown]
# With the biases at 0 the error stops falling: what is left is the kinks. With random biases it falls to $10^{-9}$ and
# below as soon as no ReLU is crossed, and rises again with the rounding. In single precision there is hardly room
# between the two: at $h = 10^{-7}$, where no ReLU is crossed, rounding has taken over.
#
# ## Take away
#
# - Central differences have a best $h$, about $\sqrt[3]{\epsilon}$: $10^{-5}$ in double precision, with some ten good
#   digits, and a hundredth in single precision, with four. Check in double precision. Where it can be used, the complex
#   step has no such limit.
# - Weight the outputs with random signed numbers. `.sum()` passes wrong gradients for softmax and batch normalization,
#   because the sums of their outputs are constant.
# - A failed check may be the check's fault: at kinks, with an $h$ too large or too small, or if the function draws
#   random numbers.
#
# ## Exercises
#
# 1. The difference $\big(f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)\big) / 12h$ has an error of order $h^4$. Find out
#    where its best $h$ lies, and how much better it is than the central difference at its own.
# 2. The complex step of $|x|$ by `np.abs` gives 0 for every $x$. Why? Write $|x|$ so that it gives the right answer,
#    and use the complex step on the squared loss of a network with one hidden layer of tanh.
# 3. `ml.check_gradients(lambda x: ops.dropout(x, 0.5), X)` fails, although the derivative is right. Why? Mend the call.
# 4. How small a mistake does the check find? Square 20 × 20 numbers with a derivative that is off by a factor of
#    $1 + \delta$ in one single element, and count in how many of 40 checks it is found, for several $\delta$.
