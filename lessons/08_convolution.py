# %% [markdown]
# # 8 · Convolution from loops to kernels
#
# A convolution slides a small window over an image and takes, at each place, the same weighted sum of the pixels that
# it sees. This lesson computes it three times: with loops, as one matrix product, and with minidl. The three agree to
# rounding, and the loops take thousands of times as long as the other two. The gradients are derived by hand, and
# pooling too. At the end stands what makes a convolution different from a dense layer: few parameters, and features
# that move with the image.
#
# The lecture notes presuppose all this, since everything that they optimize is a convolutional network. The layer is
# that of LeCun et al. 1998; the matrix form is by Chellapilla et al. 2006; the sizes are in Dumoulin and Visin 2016.

# %%
import itertools
import math
import time

import numpy as np
from matplotlib.patches import Rectangle

import minidl as ml
from minidl import course, models, ops, viz

this = course.lesson("8 · Convolution from loops to kernels")
rng = np.random.default_rng(0)


def compare(what, ours, library, tolerance=1e-12):
    """Print the largest difference of the two, and fail if it is more than rounding."""
    np.testing.assert_allclose(ours, library, rtol=tolerance, atol=tolerance)
    print(f"{what:<40} largest difference {np.abs(ours - library).max():.1e}")


# %% [markdown]
# ## Six loops
#
# Images are arrays $(N, H, W, C)$, channels last, and filters are $(k_h, k_w, C, K)$. With stride $s$ and the image
# already padded with zeros,
#
# $$y_{n,p,q,k} = b_k + \sum_{i,j,c} x_{n,\;ps+i,\;qs+j,\;c}\; w_{i,j,c,k}$$
#
# For one image that is six loops: over the pixels $p, q$ and filters $k$ of the output, and for each of its numbers
# over the window's rows $i$, columns $j$ and channels $c$.
#
# In signal processing a convolution turns the filter by 180° first, and the sum above is called a correlation. In deep
# learning the filter is learned, so that turning it would change nothing, and nobody does.


# %%
def output_extent(extent, window, stride, padding):
    """How many windows fit: ⌊(H + 2 · padding − k) / stride⌋ + 1."""
    return (extent + 2 * padding - window) // stride + 1


def padded(x, padding):
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def convolve_by_loops(x, w, b, stride=1, padding=0):
    kh, kw, channels, filters = w.shape
    oh, ow = output_extent(x.shape[1], kh, stride, padding), output_extent(x.shape[2], kw, stride, padding)
    y = np.zeros((len(x), oh, ow, filters))
    for n, image in enumerate(padded(x, padding)):
        for p, q, k in np.ndindex(oh, ow, filters):
            y[n, p, q, k] = b[k]
            for i, j, c in np.ndindex(kh, kw, channels):
                y[n, p, q, k] += image[p * stride + i, q * stride + j, c] * w[i, j, c, k]
    return y


x, w, b = rng.standard_normal((2, 9, 8, 3)), rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
for stride, padding in itertools.product((1, 2), (0, 1)):
    by_loops = convolve_by_loops(x, w, b, stride, padding)
    library = ops.conv2d(x, w, b, stride=stride, padding=padding).numpy()
    compare(f"loops and conv2d, stride {stride}, padding {padding}", by_loops, library)

# %% [markdown]
# ## How large the output is
#
# Windows of $k$ pixels begin at $0, s, 2s, \dots$ in a row of $H + 2\,\text{padding}$ pixels. The last that fits
# begins at $H + 2\,\text{padding} - k$ or before, so there are
#
# $$\left\lfloor \frac{H + 2\,\text{padding} - k}{s} \right\rfloor + 1$$
#
# of them. With an odd $k$, stride 1 and padding $(k-1)/2$ the size stays; `padding="same"` does that. The formula is
# checked below against the library for all combinations of some sizes. The table shows a few.

# %%
checked = 0
for extent, window, stride, padding in itertools.product(range(5, 12), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2)):
    y = ops.conv2d(np.zeros((1, extent, extent, 1)), np.zeros((window, window, 1, 1)), stride=stride, padding=padding)
    assert y.shape[1] == output_extent(extent, window, stride, padding)
    checked += 1
print(f"the formula holds in {checked} of {checked} cases")

print("  H  k  stride  padding  output")
for extent, window, stride, padding in ((28, 5, 1, 0), (32, 3, 1, 1), (32, 3, 2, 1), (32, 7, 2, 3), (7, 2, 2, 0)):
    out = output_extent(extent, window, stride, padding)
    print(f" {extent:2}  {window}  {stride:6}  {padding:7}  {out:6}")

# %% [markdown]
# ## One matrix product
#
# Each number of the output is the scalar product of a window with a filter. So write each window as a row of a matrix
# $X$ and each filter as a column of a matrix $W$: then $Y = XW + b$, the equation of a dense layer. Writing out the
# windows is called `im2col`. A pixel appears in up to $k_h k_w$ rows, so that $X$ takes up to that many times the
# memory of the images; in exchange the product is one call of a library that is as fast as the machine allows.


# %%
def im2col(x, kh, kw, stride=1, padding=0):
    """All windows as rows: (N · oh · ow, kh · kw · C)."""
    windows = np.lib.stride_tricks.sliding_window_view(padded(x, padding), (kh, kw), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)  # (N, oh, ow, kh, kw, C)
    return windows.reshape(-1, kh * kw * x.shape[3]), windows.shape[:3]


def convolve_by_matrix(x, w, b, stride=1, padding=0):
    kh, kw, _, filters = w.shape
    X, shape = im2col(x, kh, kw, stride, padding)
    return (X @ w.reshape(-1, filters) + b).reshape(*shape, filters)


for stride, padding in itertools.product((1, 2), (0, 1)):
    library = ops.conv2d(x, w, b, stride=stride, padding=padding).numpy()
    compare(
        f"im2col and conv2d, stride {stride}, padding {padding}", convolve_by_matrix(x, w, b, stride, padding), library
    )

# %% [markdown]
# The picture shows it for one image of 6 × 6 pixels and a 3 × 3 window: the window at row 1, column 2 (counted from 0)
# is row $4 \cdot 1 + 2 = 6$ of $X$, since there are four windows in each row of the image.

# %%
small = np.arange(36.0).reshape(1, 6, 6, 1)
X, _ = im2col(small, 3, 3)
row, column = 1, 2
np.testing.assert_array_equal(X[4 * row + column], small[0, row : row + 3, column : column + 3, 0].ravel())

figure = viz.titled_figure(8.4, 5.2, "im2col", "Each window of the image (left) becomes a row of the matrix X (right)")
image_axes, matrix_axes = figure.subplots(1, 2)
for axes, values in ((image_axes, small[0, :, :, 0]), (matrix_axes, X)):
    axes.imshow(values, cmap="Greys", vmin=0, vmax=90, aspect="equal" if axes is image_axes else 0.55)
    for r, c in np.ndindex(values.shape):
        axes.text(c, r, f"{values[r, c]:.0f}", ha="center", va="center", fontsize=8, color=viz.INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(viz.FAINT)
frame = {"fill": False, "edgecolor": viz.ACCENT, "linewidth": 2.5}
image_axes.add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, **frame))
matrix_axes.add_patch(Rectangle((-0.5, 4 * row + column - 0.5), 9, 1, **frame))
image_axes.set_xlabel("one image, 6 × 6 pixels, numbered", color=viz.INK)
matrix_axes.set_xlabel("X: 16 windows × 9 pixels of a window", color=viz.INK)
this.show(figure, "08_convolution_im2col")

# %% [markdown]
# ## The library's kernel
#
# `minidl/kernels/numpy/conv.py` multiplies matrices too, with three differences. It never writes out all windows of a
# batch, only those of a piece that stays in the processor's cache. Of each window it lays only the $k_h$ rows side by
# side (`minidl/kernels/numpy/lowering.py`, after Cho and Brand 2017), because the pixels of a row are neighbors
# already. And it shares the pieces between threads. How much memory each form writes out, for the second layer of
# LeNet-5, and how long each takes there:

# %%
count = 64 if this.quick else 256
x_large = rng.standard_normal((count, 12, 12, 6), dtype=np.float32)
w_large, b_large = rng.standard_normal((5, 5, 6, 16), dtype=np.float32), np.zeros(16, np.float32)
written = im2col(x_large, 5, 5)[0].size / x_large.size
rows = 5 * (8 * 12) / (12 * 12)  # 5 rows of a window, for 8 rows of the output, of 12 pixels
print(f"im2col writes out {written:.1f} times the images, rows side by side are {rows:.1f} times the images")


def seconds_an_image(function, images, repeats):
    """The shortest of several runs, which is the one that nothing disturbed."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function(images)
        times.append(time.perf_counter() - began)
    return min(times) / len(images)


loops = seconds_an_image(lambda images: convolve_by_loops(images, w_large, b_large), x_large[:1], 1)
matrix = seconds_an_image(lambda images: convolve_by_matrix(images, w_large, b_large), x_large, 7)
library = seconds_an_image(lambda images: ops.conv2d(images, w_large, b_large), x_large, 7)
print(f"time for an image, in units of the library's: loops {loops / library:,.0f}, im2col {matrix / library:.1f}")
assert loops > 1000 * library

# %% [markdown]
# The loops cost thousands of times as much as either product. That is Python's price for each single multiplication;
# the arithmetic is the same.
#
# ## The gradients by hand
#
# With $Y = XW + b$ the gradients with respect to $W$ and $b$ are those of a dense layer. Let
# $g = \partial L / \partial Y$, one row for each window and one column for each filter:
#
# $$\frac{\partial L}{\partial b_k} = \sum_r g_{rk}, \qquad \frac{\partial L}{\partial W} = X^T g, \qquad
#   \frac{\partial L}{\partial X} = g\, W^T$$
#
# The last is a gradient for every element of every window. A pixel got into several windows, so its gradient is the sum
# over all of them: the way back from windows to pixels, `col2im`, adds.


# %%
def gradients_by_hand(x, w, g, stride=1, padding=0):
    kh, kw, channels, filters = w.shape
    X, (count, oh, ow) = im2col(x, kh, kw, stride, padding)
    rows = g.reshape(-1, filters)
    of_b = rows.sum(axis=0)
    of_w = (X.T @ rows).reshape(w.shape)
    of_windows = (rows @ w.reshape(-1, filters).T).reshape(count, oh, ow, kh, kw, channels)
    of_x = np.zeros_like(padded(x, padding))
    for i, j in np.ndindex(kh, kw):  # col2im: element (i, j) of window (p, q) is the pixel (p · stride + i, …)
        of_x[:, i : i + oh * stride : stride, j : j + ow * stride : stride] += of_windows[:, :, :, i, j]
    height, width = x.shape[1:3]
    return of_x[:, padding : padding + height, padding : padding + width], of_w, of_b


for stride, padding in ((1, 0), (1, 1), (2, 1)):
    tensors = [ml.Tensor(array, requires_grad=True) for array in (x, w, b)]
    y = ops.conv2d(*tensors, stride=stride, padding=padding)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    for name, ours, tensor in zip("xwb", gradients_by_hand(x, w, g, stride, padding), tensors, strict=True):
        compare(f"dL/d{name}, stride {stride}, padding {padding}", ours, tensor.grad)

ml.check_gradients(lambda *inputs: ops.conv2d(*inputs, stride=2, padding=1), x, w, b)
print("finite differences agree")

# %% [markdown]
# With stride 1 and no padding the gradient with respect to $x$ is a convolution itself: of $g$, padded by $k - 1$, with
# the filters turned by 180° and inputs exchanged with outputs. Now the turn that the field leaves out appears after
# all.

# %%
g = rng.standard_normal(ops.conv2d(x, w, b).shape)
turned = w[::-1, ::-1].swapaxes(2, 3)
compare(
    "dL/dx as a convolution of g", ops.conv2d(g, np.ascontiguousarray(turned), padding=2).numpy(),
    gradients_by_hand(x, w, g)[0],
)  # fmt: skip

# %% [markdown]
# ## Pooling
#
# Pooling takes the largest value of a window, or the mean, in each channel by itself; the windows usually do not
# overlap. With loops it is the convolution's loops without $k$ and without weights. For windows of 2 × 2 pixels an
# array needs no loop: split both axes in two and reduce over the new ones.
#
# The gradient of the mean goes in equal parts to all pixels of the window. The gradient of the maximum goes to the
# pixel that was the largest, and the others get nothing.


# %%
def pool_by_loops(x, size, reduce):
    y = np.zeros((len(x), x.shape[1] // size, x.shape[2] // size, x.shape[3]))
    for n, p, q, c in np.ndindex(y.shape):
        y[n, p, q, c] = reduce(x[n, p * size : (p + 1) * size, q * size : (q + 1) * size, c])
    return y


x = rng.standard_normal((2, 8, 6, 3))
windows = x.reshape(2, 4, 2, 3, 2, 3)  # (N, row of windows, row in the window, column of windows, column in it, C)
g = rng.standard_normal((2, 4, 3, 3))
spread = g[:, :, None, :, None]

compare("max pooling, loops and reshape", pool_by_loops(x, 2, np.max), windows.max(axis=(2, 4)))
compare("average pooling, loops and reshape", pool_by_loops(x, 2, np.mean), windows.mean(axis=(2, 4)))
largest = windows == windows.max(axis=(2, 4), keepdims=True)
for pool, ours, of_x in (
    (ops.max_pool2d, windows.max(axis=(2, 4)), largest * spread),
    (ops.avg_pool2d, windows.mean(axis=(2, 4)), np.ones_like(windows) / 4 * spread),
):
    tensor = ml.Tensor(x, requires_grad=True)
    y = pool(tensor, 2)
    y.backward(g)
    compare(f"reshape and {pool.__name__}", ours, y.numpy())
    compare("  its gradient", of_x.reshape(x.shape), tensor.grad)

# %% [markdown]
# ## Counting parameters
#
# A convolution has $k_h k_w C K$ weights and $K$ biases, however large the image is. A dense layer between the same two
# arrays has a weight for every pair of an input and an output. For the first layer of LeNet-5:

# %%
model = models.lenet5()


def parameters(module):
    return sum(parameter.size for parameter in module.parameters())


by_hand = {
    "conv1": 5 * 5 * 1 * 6 + 6,
    "conv2": 5 * 5 * 6 * 16 + 16,
    "dense1": 4 * 4 * 16 * 120 + 120,
    "dense2": 120 * 84 + 84,
    "dense3": 84 * 10 + 10,
}
for name, number in by_hand.items():
    assert number == parameters(getattr(model, name))
    print(f"{name:<8}{number:8,}")
assert sum(by_hand.values()) == parameters(model)
print(f"together{sum(by_hand.values()):8,}")

inputs, outputs = math.prod((28, 28, 1)), math.prod((24, 24, 6))
dense = inputs * outputs + outputs
print(f"a dense layer in place of conv1 would have {dense:,}, {dense / by_hand['conv1']:,.0f} times as many")

# %% [markdown]
# ## Filters that are known
#
# A network learns its filters. These were invented: a blur takes the mean of a window; the two filters of Sobel take
# the difference of the pixels at the right and left, or below and above, and answer where the gray level changes in
# that direction. The length of the two answers together is the strength of an edge, whatever its direction.

# %%
images = this.images("fashion-mnist").astype(np.float32)
examples = images.test_x[[0, 1, 6]]
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
bank = np.stack([np.full((3, 3), 1 / 9, np.float32), sobel, sobel.T], axis=-1)[:, :, None]  # (3, 3, 1, 3)
answers = ops.conv2d(examples, bank, padding="same").numpy()
edges = np.hypot(answers[..., 1], answers[..., 2])

constant = ops.conv2d(np.full((1, 5, 5, 1), 0.7, np.float32), bank).numpy()
print(f"in an image of gray level 0.7 blur gives {constant[0, 0, 0, 0]:.2f} and Sobel {constant[0, 0, 0, 1]:.2f}")
np.testing.assert_allclose(constant[..., 1:], 0, atol=1e-6)

figure = viz.titled_figure(
    9, 6.2, "What a known filter does to an image", "In the answers of Sobel blue is negative, red positive, white zero"
)
titles = ("image", "blur", "Sobel, left to right", "Sobel, top to bottom", "strength of edges")
grid = figure.subplots(len(examples), len(titles))
for line, image, answer, strength in zip(grid, examples[..., 0], answers, edges, strict=True):
    shown = (image, answer[..., 0], answer[..., 1], answer[..., 2], strength)
    for axes, title, values in zip(line, titles, shown, strict=True):
        signed = title.startswith("Sobel")
        look = {"cmap": "RdBu_r", "vmin": -4, "vmax": 4} if signed else {"cmap": "gray"}
        axes.imshow(values, **look)
        axes.set_axis_off()
for axes, title in zip(grid[0], titles, strict=True):
    axes.set_title(title, fontsize=9.5, color=viz.INK)
this.show(figure, "08_convolution_filters")

# %% [markdown]
# ## Features move with the image
#
# Let $T_d$ move an image by $d$ pixels to the right. The window sees the same pixels, only at another place, so
# $\mathrm{conv}(T_d x) = T_d\,\mathrm{conv}(x)$: a convolution is *equivariant* to shifts. With a margin of zeros
# around the image this holds exactly.
#
# A pool with windows of 2 × 2 that do not overlap is different. Moved by two pixels, the windows are the same and the
# answer moves by one. Moved by one pixel, other pixels meet in a window. Then no shift of the old answer need be the
# new one. And the mean over the whole image, a global pool, does not change at all: it is *invariant*.


# %%
def moved(x, d):
    return np.roll(x, d, axis=2)


def difference(new, old):
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


margin = 8
framed = padded(examples, margin)
features = ops.relu(ops.conv2d(framed, bank, padding="same")).numpy()
pooled = ops.max_pool2d(features, 2).numpy()

shifts = range(1, 7)
departures = {"convolution, moved along": [], "max pool 2 × 2, moved along": [], "global average pool": []}
for d in shifts:
    new = ops.relu(ops.conv2d(moved(framed, d), bank, padding="same")).numpy()
    new_pooled = ops.max_pool2d(new, 2).numpy()
    nearest = min(difference(new_pooled, moved(pooled, e)) for e in (d // 2, (d + 1) // 2))
    departures["convolution, moved along"].append(difference(new, moved(features, d)))
    departures["max pool 2 × 2, moved along"].append(nearest)
    departures["global average pool"].append(difference(new.mean(axis=(1, 2)), features.mean(axis=(1, 2))))

print(f"{'shift in pixels':<28}" + "".join(f"{d:8}" for d in shifts))
for name, values in departures.items():
    print(f"{name:<28}" + "".join(f"{value:8.3f}" for value in values))
np.testing.assert_allclose(departures["convolution, moved along"], 0, atol=1e-6)
np.testing.assert_allclose(departures["global average pool"], 0, atol=1e-5)
np.testing.assert_allclose(departures["max pool 2 × 2, moved along"][1::2], 0, atol=1e-6)
assert min(departures["max pool 2 × 2, moved along"][::2]) > 0.01

# %% [markdown]
# The next question is a different one. How much do the numbers at *fixed places* change when the image moves? That is
# what a dense layer behind them sees. Here pooling with larger windows should help, since a feature that moves within a
# window stays in it.

# %%
sizes = (1, 2, 4, 8)
changes = {size: [] for size in sizes}
for size in sizes:
    before = ops.max_pool2d(features, size).numpy()
    for d in shifts:
        after = ops.max_pool2d(moved(features, d), size).numpy()
        changes[size].append(difference(after, before))
print(f"{'shift in pixels':<28}" + "".join(f"{d:8}" for d in shifts))
for size, values in changes.items():
    name = "no pool" if size == 1 else f"max pool {size} × {size}"
    print(f"{name:<28}" + "".join(f"{value:8.3f}" for value in values))
for smaller, larger in itertools.pairwise(sizes):
    assert changes[larger][0] < changes[smaller][0], "a larger window changes less when the image moves by one pixel"

figure = viz.titled_figure(
    9.6, 4.2, "Features move with the image; pooled features change less", "Difference, as a share of the features"
)
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
for (name, values), color in zip(departures.items(), (viz.ACCENT, viz.OTHER, viz.INK), strict=True):
    style = (0, (2, 3)) if name == "global average pool" else "-"  # it lies on another
    left.plot(shifts, values, marker="o", linestyle=style, color=color, label=name, markersize=4)
left.set_title("after moving the old answer along", loc="left", fontsize=10, color=viz.INK)
left.set_ylim(-0.02, 0.85)
for size, color in zip(sizes, ("#9ebce8", "#5f92dd", viz.ACCENT, "#0c2f66"), strict=True):
    label = "no pool" if size == 1 else f"max pool {size} × {size}"
    right.plot(shifts, changes[size], "o-", color=color, label=label, markersize=4)
right.set_title("at fixed places", loc="left", fontsize=10, color=viz.INK)
right.set_ylim(0, 1.75)
for axes in (left, right):
    axes.set_xlabel("shift of the image in pixels", color=viz.INK)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=viz.INK, loc="upper left")
this.show(figure, "08_convolution_shifts")

# %% [markdown]
# ## Take away
#
# - A convolution is a dense layer on windows. Its equation and its gradients become those of $Y = XW + b$ once the
#   windows are rows; the way back adds up over the windows that a pixel was in.
# - Loops, `im2col` and `ops.conv2d` compute the same numbers. What differs is how often Python is asked, and how much
#   memory is written out.
# - Weights that are shared by all places make parameters few (156 in place of 2,712,960), and the features equivariant
#   to shifts. A pool keeps this only for shifts that are a multiple of its stride; what it gives in exchange is that
#   the numbers at fixed places change less.
#
# ## Exercises
#
# 1. **Dilation.** Write a convolution whose window takes every $d$-th pixel: $x_{p+id,\,q+jd}$ in place of
#    $x_{p+i,\,q+j}$. How large is the output? Compute the same with `ops.conv2d`, by a larger filter with zeros.
# 2. **Two small windows or one large one.** Two layers of 3 × 3 without an activation between them are one layer of
#    5 × 5. Find its filter for one channel, check it, and compare the numbers of weights for $C$ channels everywhere.
# 3. **1 × 1.** Show that `nn.Conv2d(C, K, 1)` is `nn.Dense(C, K)` at each pixel: same output, same gradient of the
#    weights.
# 4. **Pooling as a convolution.** Give filters with which `ops.conv2d` computes `ops.avg_pool2d(x, 2)` for three
#    channels. Why is there none for `ops.max_pool2d`?
