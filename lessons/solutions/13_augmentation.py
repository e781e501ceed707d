# %% [markdown]
# # 13 · Augmentation: more images than you have: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, optim, training
from minidl.data import augment

this = course.lesson("13 · Augmentation: more images than you have: solutions")
images = this.images("fashion-mnist").astype(np.float32)
order = np.random.default_rng(0).permutation(len(images.train_x))[:2000]
train_x, train_y = images.train_x[order], images.train_y[order]
test_x, test_y = images.test_x[:1000], images.test_y[:1000]


def trained(x, y, epochs, callbacks=(), **changes):
    ml.manual_seed(0)
    model = models.small_cnn(widths=(8, 16), hidden=64)
    trainer = training.Trainer(model, optim.Adam(model, 0.003), callbacks=callbacks, progress=False)
    trainer.fit(data.Loader(x, y, 50, **changes), epochs=epochs)
    return trainer


# %% [markdown]
# ## 1 · Your own change
#
# Write a change `wave` that shifts each row $r$ of an image by $a \sin(2\pi r / 14 + \phi)$ pixels, rounded, $a$ up to
# 2, with random $a$ and $\phi$ for each image. It must give an image the same change in a batch of any size.
#
# Any function of the images and a generator is a change. What is drawn with the batch as its first axis is the image's
# own.


# %%
def wave(x, generator):
    count, height, width, _ = x.shape
    a = generator.uniform(0, 2, count)[:, None]
    phase = generator.uniform(0, 2 * np.pi, count)[:, None]
    moves = np.round(a * np.sin(2 * np.pi * np.arange(height) / 14 + phase)).astype(int)
    columns = (np.arange(width) - moves[:, :, None]) % width
    return np.take_along_axis(x, columns[..., None], axis=2)


together = wave(train_x[:8], data.SampleGenerator(0, 1, range(8)))
alone = wave(train_x[3:4], data.SampleGenerator(0, 1, [3]))
np.testing.assert_array_equal(together[3], alone[0])
np.testing.assert_allclose(together.sum(axis=2), train_x[:8].sum(axis=2), rtol=1e-4, atol=1e-5)
print("an image is changed in the same way alone and in a batch; each row keeps its pixels")

# %% [markdown]
# ## 2 · Rotations do not add up
#
# Rotate an image 36 times by 10 degrees, each time from the last result, and twice by 180 degrees. Compare both with
# the original. What does that say about `compose(rotate(10), shift(0.1), scale(0.1))` and `affine(10, 0.1, 0.1)`?


# %%
class Most:
    """A generator that always draws the largest angle."""

    def uniform(self, low, high, size):
        return np.full(size, high)


turned = train_x[:1]
for _ in range(36):
    turned = augment.rotate(10)(turned, Most())
once = augment.rotate(180)(augment.rotate(180)(train_x[:1], Most()), Most())
rows, columns = np.ogrid[:28, :28]
inside = (rows - 13.5) ** 2 + (columns - 13.5) ** 2 < 12**2  # what no rotation moves out of the image
original = train_x[0, :, :, 0][inside]
many, few = (abs(made[0, :, :, 0][inside] - original).mean() for made in (turned, once))
print(f"mean difference from the original: 36 times 10 degrees {many:.4f}, twice 180 degrees {few:.6f}")
assert many > 100 * few

# %% [markdown]
# Each interpolation is an average of neighbors, so each one blurs. `affine` multiplies the matrices and reads the image
# once: it is sharper.
#
# ## 3 · Learn the wrong labels by heart
#
# Plant wrong labels as in the lesson, but train the network on all images, for a few epochs and for many, and let it
# judge the same images. How many of the wrong labels are found?

# %%
count, few_epochs, many_epochs = (300, 4, 30) if this.quick else (1000, 4, 30)
generator = np.random.default_rng(0)
planted = generator.choice(count, count // 20, replace=False)
labels = train_y[:count].copy()
labels[planted] = (labels[planted] + generator.integers(1, 10, len(planted))) % 10
shares = {}
for epochs in (few_epochs, many_epochs):
    trainer = trained(train_x[:count], labels, epochs)
    found = training.suspects(trainer.model, train_x[:count], labels, share=0.05)
    shares[epochs] = np.isin(found.indices, planted).mean()
    fit = trainer.evaluate((train_x[:count], labels))["accuracy"]
    print(f"{epochs:2} epochs: accuracy on the given labels {fit:.1%}, wrong labels found {shares[epochs]:.0%}")
assert shares[few_epochs] > 0.4

# %% [markdown]
# A network learns what its images have in common first, and the exceptions later. After a few epochs it still
# contradicts the wrong labels, although it was trained on them. Trained for long, it has begun to believe them.
#
# ## 4 · Train against the noise
#
# Train with the callback `training.AdversarialNoise(0.05)` and without. Compare both networks on images as they are and
# on images changed by `training.fgsm` with $\epsilon = 0.05$.

# %%
count, epochs = (400, 8) if this.quick else (1000, 10)
accuracies = {}
for name, callbacks in (("plain", []), ("adversarial", [training.AdversarialNoise(0.05)])):
    trainer = trained(train_x[:count], train_y[:count], epochs, callbacks)
    changed = training.fgsm(trainer.model, test_x, test_y, 0.05)
    accuracies[name] = [trainer.evaluate((x, test_y))["accuracy"] for x in (test_x, changed)]
    print(f"{name:12} as they are {accuracies[name][0]:.1%}   changed {accuracies[name][1]:.1%}")
assert accuracies["adversarial"][1] > accuracies["plain"][1]

# %% [markdown]
# The network that was trained on such images resists them better. Each network was attacked by its own gradient.
