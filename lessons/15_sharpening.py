# %% [markdown]
# # 15 · Progressive sharpening
#
# A blurred image shows what is large and hides what is small. Progressive sharpening (Trivedi 2021) trains a network on
# blurred images first, then on less and less blurred ones, and on the originals last. The hope is that the network
# learns coarse features first, and does not run into a poor minimum that fits details. It is a curriculum: nothing
# changes but the order in which the data appear.
#
# This lesson does the blur by hand and looks at what it removes, builds the curriculum from a loop, and then asks
# whether it helps: the same network, the same number of epochs, several seeds, with stages and without. The paper
# (sections 4.1 and 4.2) reports no numbers, so there is nothing to reproduce, only to measure.

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, ops, optim, training, viz
from minidl.data import sharpening
from minidl.trials import TrialCurves, estimate

this = course.lesson("15 · Progressive sharpening")

# %% [markdown]
# ## The box filter by hand
#
# With $J_N$ the N × N matrix of ones,
#
# $$\mathrm{kernel}_N = \frac{J_N}{N^2}, \qquad \mathrm{train}_N = \mathrm{train} \circledast \mathrm{kernel}_N$$
#
# Each pixel becomes the mean of the window around it; $\mathrm{kernel}_1$ changes nothing. Two things must be settled
# that the equation leaves open.
#
# - *Beyond the border* the image is mirrored: d c b a | a b c d | d c b a. NumPy calls this symmetric.
# - *The anchor.* A window of odd width has a middle. One of even width has none: here that of pixel $i$ reaches from
#   $i - N/2$ to $i + N/2 - 1$.


# %%
def blur(x, n):
    """Means of n × n windows of images x (N, H, W, C)."""
    before = n // 2
    after = n - 1 - before
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), "symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, (n, n), axis=(1, 2)).mean(axis=(-2, -1))


images = this.images("fashion-mnist").astype(np.float32)
samples = images.test_x[:50].astype(np.float64)
for n in range(1, 7):
    by_hand, library = blur(samples, n), sharpening.blur(samples, n)
    np.testing.assert_allclose(by_hand, library, rtol=1e-12, atol=1e-12)
    print(f"n = {n}: by hand and data.sharpening.blur, largest difference {np.abs(by_hand - library).max():.1e}")

# %% [markdown]
# It is a convolution with a fixed filter, so `ops.conv2d` computes it too, on an image that is padded in the same way:

# %%
padded = np.pad(samples, ((0, 0), (2, 1), (2, 1), (0, 0)), "symmetric")
by_conv = ops.conv2d(padded, np.full((4, 4, 1, 1), 1 / 4**2)).numpy()
np.testing.assert_allclose(by_conv, blur(samples, 4), rtol=1e-12, atol=1e-12)
print(f"n = 4: by hand and conv2d, largest difference {np.abs(by_conv - blur(samples, 4)).max():.1e}")

# %% [markdown]
# The anchor has a consequence. A single bright pixel becomes a bright square, and the middle of an even square lies
# between pixels: the image moves by half a pixel, down and to the right. From stage to stage of the curriculum it moves
# to and fro. That is little beside a blur of 4 pixels, but it is there:

# %%
dot = np.zeros((1, 21, 21, 1))
dot[0, 10, 10] = 1
for n in range(1, 6):
    rows, columns = blur(dot, n)[0, :, :, 0].sum(axis=1), blur(dot, n)[0, :, :, 0].sum(axis=0)
    down, right = rows @ np.arange(21) - 10, columns @ np.arange(21) - 10
    print(f"n = {n}: the middle moves by {abs(down):.1f} down and {abs(right):.1f} to the right")
    np.testing.assert_allclose((down, right), 0.0 if n % 2 else 0.5, atol=1e-12)

# %% [markdown]
# ## What the blur removes
#
# Along one axis the filter multiplies a wave of $f$ periods per pixel by
#
# $$H_N(f) = \frac{\sin \pi N f}{N \sin \pi f}$$
#
# Slow waves pass ($H_N(0) = 1$), the wave of $N$ pixels is erased, and faster ones come back weakly, some with their
# sign turned. (An even window also moves the wave by half a pixel.) It is a low-pass filter, though not a good one. The
# formula is checked against the Fourier transform of the filter itself. After that stands how much of the images'
# variance each blur leaves.

# %%
frequencies = np.fft.rfftfreq(512)


def response(n, f):
    return np.sinc(n * f) / np.sinc(f)  # NumPy's sinc(x) is sin(πx) / πx


for n in range(1, 7):
    box = np.zeros(512)
    box[np.arange(n) - n // 2] = 1 / n
    half_a_pixel = 1 if n % 2 else np.exp(1j * np.pi * frequencies)
    np.testing.assert_allclose(np.fft.rfft(box), half_a_pixel * response(n, frequencies), atol=1e-12)

left = {n: np.mean(np.var(blur(samples, n), axis=(1, 2)) / np.var(samples, axis=(1, 2))) for n in range(1, 7)}
print("variance left:", "   ".join(f"n = {n} {share:.0%}" for n, share in left.items()))
assert all(left[n + 1] < left[n] for n in range(1, 6))

figure = viz.titled_figure(
    10, 3.7, "A box filter keeps what is large", "Right: by how much the filter multiplies waves of each frequency"
)
pictures, curve = figure.subfigures(1, 2, width_ratios=(1.1, 1))
for row, sample in zip(pictures.subplots(2, 5), samples[[0, 6]], strict=True):
    for axes, n in zip(row, (1, 2, 3, 4, 5), strict=True):
        axes.imshow(blur(sample[None], n)[0, :, :, 0], cmap="gray", vmin=0, vmax=1)
        axes.set_title("original" if n == 1 else f"{n} × {n}", fontsize=9, color=viz.INK)
        axes.set_axis_off()
axes = viz.plain(curve.subplots())
for n, color in zip((1, 2, 3, 5), (viz.FAINT, "#9ebce8", viz.ACCENT, "#0c2f66"), strict=True):
    axes.plot(frequencies, response(n, frequencies), color=color, label=f"n = {n}")
axes.set_xlabel("frequency, periods per pixel", color=viz.INK)
axes.set_ylabel("H(f)", color=viz.INK)
axes.legend(frameon=False, fontsize=8.5, labelcolor=viz.INK)
this.show(figure, "15_sharpening_filter")

# %% [markdown]
# ## The curriculum by hand
#
# With $K$ stages of $E$ epochs, the width of the blur in epoch $t = 1, 2, \dots$ is
#
# $$n_t = \max\Big(1,\; K - \Big\lfloor \frac{t - 1}{E} \Big\rfloor\Big)$$
#
# The weights and the optimizer's state carry over; the last stage takes all epochs that are left. In minidl this is a
# callback, `training.ProgressiveSharpening(k, epochs_per_stage)`, which blurs every batch when its turn comes. The
# loop below does the same with nothing but an optimizer, and ends, up to rounding, with the same weights.


# %%
def width(epoch, k, epochs_per_stage):
    return max(1, k - (epoch - 1) // epochs_per_stage)


small_x, small_y = images.train_x[:256], images.train_y[:256]


def fresh_model():
    ml.manual_seed(0)
    return models.lenet5(dropout=0.0)


by_hand = fresh_model()
optimizer = optim.HeavyBall(by_hand, lr=0.01)
loader = data.Loader(small_x, small_y, 64, seed=0)
for epoch in range(1, 5):
    for x, y in loader:
        optimizer.zero_grad()
        ops.cross_entropy(by_hand(blur(x, width(epoch, 3, 1)).astype(np.float32)), y).backward()
        optimizer.step()

library = fresh_model()
curriculum = training.ProgressiveSharpening(k=3, epochs_per_stage=1)
trainer = training.Trainer(library, optim.HeavyBall(library, lr=0.01), callbacks=[curriculum], progress=False)
history = trainer.fit(data.Loader(small_x, small_y, 64, seed=0), epochs=4)

widths = [width(epoch, 3, 1) for epoch in range(1, 5)]
assert widths == [record["blur"] for record in history.epochs]
print("K = 3, E = 1: the widths of four epochs are", widths)
pairs = list(zip(by_hand.parameters(), library.parameters(), strict=True))
for ours, theirs in pairs:
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5, atol=1e-6)
largest = max(np.abs(ours.data - theirs.data).max() for ours, theirs in pairs)
print(f"weights by hand and by the callback: largest difference {largest:.1e}")

# %% [markdown]
# ## Does it help?
#
# The network is the paper's: LeNet-5 with dropout, 44,426 parameters. Both recipes have the same number of epochs, the
# same initial weights and the same batches; one blurs the first of them. The test images are never blurred. There are
# few training images, since a poor minimum that fits details should then be a greater danger. One seed would say
# nothing: the differences between seeds are as large as those between recipes.

# %%
assert sum(parameter.size for parameter in models.lenet5().parameters()) == 44_426
if this.quick:
    seeds, epochs, k, epochs_per_stage, fraction = range(3), 6, 4, 1, 1 / 4
else:
    seeds, epochs, k, epochs_per_stage, fraction = range(5), 12, 4, 2, 1 / 32
test = images.test_x[:1000], images.test_y[:1000]


def accuracies(seed, callbacks):
    """The test accuracy after every epoch."""
    part = images.subset(fraction, seed=seed)
    ml.manual_seed(seed)
    model = models.lenet5(dropout=0.5)
    trainer = training.Trainer(model, optim.Adam(model, lr=2e-3), callbacks=callbacks, progress=False)
    history = trainer.fit(data.Loader(part.train_x, part.train_y, 32, seed=seed), validation=test, epochs=epochs)
    return [record["validation_accuracy"] for record in history.epochs]


staged = [accuracies(seed, [training.ProgressiveSharpening(k, epochs_per_stage)]) for seed in seeds]
sharp = [accuracies(seed, []) for seed in seeds]
blurs = [width(epoch, k, epochs_per_stage) for epoch in range(1, epochs + 1)]

print(f"{round(fraction * len(images.train_x)):,} training images, {epochs} epochs, {len(seeds)} seeds")
print(f"{'seed':<8}{'sharp only':>12}{'sharpening':>12}{'difference':>12}")
for seed, plain, stages in zip(seeds, sharp, staged, strict=True):
    print(f"{seed:<8}{plain[-1]:12.2%}{stages[-1]:12.2%}{100 * (stages[-1] - plain[-1]):+12.2f}")


def differences(epoch):
    """Sharpening minus sharp only, in each seed, after an epoch (counted from 0)."""
    return [stages[epoch] - plain[epoch] for plain, stages in zip(sharp, staged, strict=True)]


between = estimate(differences(blurs.index(1) - 1))
difference = estimate(differences(-1))
print("mean difference with its 95 % interval, in percentage points")
print(f"  after the last blurred epoch {between.percent(sign=True)}")
print(f"  after the last epoch         {difference.percent(sign=True)}")
low, high = difference.interval
verdict = "better" if low > 0 else "worse" if high < 0 else "neither better nor worse, as far as these seeds can tell"
print(f"progressive sharpening is {verdict}")

figure = viz.sharpening_stages(
    [TrialCurves("progressive sharpening", "", staged), TrialCurves("sharp images only", "", sharp)],
    blurs,
    images.train_x[0],
    "The stages of progressive sharpening",
    f"LeNet-5, {round(fraction * len(images.train_x)):,} training images, {len(seeds)} seeds: mean, lowest, highest",
)
this.show(figure, "15_sharpening_stages")

# %% [markdown]
# Each curve is measured on sharp test images, also where the network has only seen blurred ones. On Fashion-MNIST the
# wide blurs of the first epochs cost accuracy there, and the gap closes when the originals come. (The digits of the
# quick form were enlarged from 8 × 8 pixels and hold little detail, so that the blur costs them little.) What is left
# after the last epoch is the table's last column, and the interval says whether it could be chance. In both forms it
# could.
#
# Do not read more into it than it is: one network, one optimizer, few images. A fair statement is that here the stages
# are no free gain, and that epochs on blurred images are epochs that the originals do not get. `minidl study
# sharpening` runs the comparison with two optimizers, larger parts of the data and a search over the number of stages.
#
# ## Take away
#
# - The blur is a convolution with $J_N / N^2$: a low-pass filter. Borders and the anchor of an even window must be
#   chosen, and an even window moves the image by half a pixel.
# - A curriculum changes the order of the data, nothing else. It must be compared with the same number of epochs on the
#   original data, over several seeds, and paired: same seed, same initial weights, same batches.
# - In this experiment progressive sharpening did not give a gain that could be told from chance.
#
# ## Exercises
#
# 1. **Rows, then columns.** Blur with a window of n × 1 and then 1 × n. Check that this is the n × n box. How many
#    additions does a pixel take in each form?
# 2. **A better low-pass filter.** Compare the responses of one box of 3, one box of 5 and three boxes of 3 in a row:
#    how much does each let pass beyond its first zero?
# 3. **Beyond the border.** Blur a white image with `mode="reflect"` and `mode="constant"`. What are the values in a
#    corner and at an edge, and why? How much does it matter for digits?
# 4. **The other way round.** Write a callback that shows the originals first and the most blurred images last, with
#    widths up to 15. What does the accuracy on sharp test images do, epoch by epoch?
