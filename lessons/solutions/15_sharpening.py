# %% [markdown]
# # 15 · Progressive sharpening: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, optim, training
from minidl.data import sharpening

this = course.lesson("15 · Progressive sharpening: solutions")
digits = data.load("digits", size=28)


def blur(x, n):
    """Means of n × n windows of images x (N, H, W, C)."""
    before = n // 2
    after = n - 1 - before
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), "symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, (n, n), axis=(1, 2)).mean(axis=(-2, -1))


# %% [markdown]
# ## 1 · Rows, then columns
#
# A box of n × n in two steps, and how many additions that saves.
#
# $J_n$ is a column of ones times a row of ones. So the mean of a window is the mean, over its rows, of the means of
# each row. That takes $2(n - 1)$ additions a pixel in place of $n^2 - 1$. (A running sum, which adds the pixel that
# comes in and takes off the one that goes out, takes four whatever n is.)


# %%
def blur_along(x, n, axis):
    before = n // 2
    widths = [(0, 0)] * 4
    widths[axis] = (before, n - 1 - before)
    padded = np.pad(x, widths, "symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, n, axis=axis).mean(axis=-1)


x = digits.test_x[:20].astype(np.float64)
for n in (2, 3, 5):
    np.testing.assert_allclose(blur_along(blur_along(x, n, 1), n, 2), blur(x, n), rtol=1e-12, atol=1e-12)
    print(f"n = {n}: the same, with {2 * (n - 1)} additions a pixel in place of {n * n - 1}")

# %% [markdown]
# ## 2 · A better low-pass filter
#
# Three boxes of 3 × 3 in a row, compared with one of 3 × 3 and one of 5 × 5.
#
# Filters in a row multiply each wave by the product of their responses, here $H_3(f)^3$. What a filter lets pass
# beyond its first zero, which it should not, is cubed: from 1/3 it becomes 1/27. The windows together are 7 pixels wide
# and close to a Gaussian, as the sum of three independent uniform numbers nearly has a normal distribution.

# %%
f = np.linspace(0, 0.5, 1001)


def response(n):
    return np.sinc(n * f) / np.sinc(f)


leaks = {}
for name, H, zero in (
    ("one box of 3", response(3), 1 / 3), ("one box of 5", response(5), 1 / 5), ("three of 3", response(3) ** 3, 1 / 3)
):  # fmt: skip
    leaks[name] = np.abs(H[f > zero]).max()
    print(f"{name:<13} lets pass at most {leaks[name]:.3f} beyond its first zero")
np.testing.assert_allclose(leaks["three of 3"], 1 / 27, rtol=1e-9)

# %% [markdown]
# ## 3 · Beyond the border
#
# A white image, blurred with `mode="reflect"` and with `mode="constant"`.
#
# "constant" takes 0 for what lies outside. In a corner only 4 of the 9 pixels of a 3 × 3 window are inside: the corner
# becomes 4/9, an edge 6/9. The network would learn a dark frame that the originals do not have. (Where the margins of
# the images are black, as those of digits are, the two modes hardly differ.)

# %%
white = np.ones((1, 8, 8, 1))
mirrored, framed = (sharpening.blur(white, 3, mode)[0, :, :, 0] for mode in ("reflect", "constant"))
for name, image in (("reflect", mirrored), ("constant", framed)):
    print(f"{name:<8} corner {image[0, 0]:.3f}, edge {image[0, 4]:.3f}")
np.testing.assert_allclose(mirrored, 1)
np.testing.assert_allclose((framed[0, 0], framed[0, 4]), (4 / 9, 6 / 9))
on_digits = [sharpening.blur(x, 3, mode) for mode in ("reflect", "constant")]
print(f"on digits the modes differ by {np.abs(on_digits[0] - on_digits[1]).mean():.4f} in the mean over all pixels")

# %% [markdown]
# ## 4 · The other way round
#
# The originals first and the most blurred images last.
#
# `on_batch` of a callback may change every batch. The test images are sharp, and the network last saw blurred ones.


# %%
class Blurred(training.Callback):
    """Blurs the images of epoch t by widths[t − 1]."""

    def __init__(self, widths):
        self.widths = widths

    def on_batch(self, trainer, x, y):
        return sharpening.blur(x, self.widths[trainer.epoch - 1]), y


def accuracies(widths):
    part = digits.subset(1 / 4)
    ml.manual_seed(0)
    model = models.lenet5(dropout=0.0)
    trainer = training.Trainer(model, optim.Adam(model, lr=2e-3), callbacks=[Blurred(widths)], progress=False)
    loader = data.Loader(part.train_x, part.train_y, 32, seed=0)
    history = trainer.fit(loader, validation=(digits.test_x, digits.test_y), epochs=len(widths))
    return [record["validation_accuracy"] for record in history.epochs]


widths = [1, 3, 5, 7, 9, 11, 13, 15]
blurrier, sharper = accuracies(widths), accuracies(widths[::-1])
for name, curve in (("more and more blurred", blurrier), ("sharper and sharper", sharper)):
    print(f"{name:<22} epochs 1 to 8:", " ".join(f"{value:4.0%}" for value in curve))
assert max(blurrier) > blurrier[-1] + 0.02

# %% [markdown]
# The accuracy first rises, and falls with the widest blurs: the network follows the data that it sees now. That is the
# reason why the order is blurred first, and why the originals should have enough epochs at the end. Up to 7 × 7 the
# blur hardly hurts: these digits are 8 × 8 pixels enlarged to 28 × 28, so that they hold no finer detail.
