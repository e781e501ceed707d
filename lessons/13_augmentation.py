# %% [markdown]
# # 13 · Augmentation: more images than you have
#
# A rotated shoe is still a shoe. Whoever knows such a thing can tell the network, by training it on rotated shoes. Each
# epoch then shows other images, none of which was ever photographed, and the network has a harder time learning the few
# real ones by heart.
#
# This lesson makes the common changes by hand and finds each again in `minidl/data/augment`: where the pixels lie, what
# they show, what is hidden, two images in one, and the change that a network itself minds most. Then it asks what has
# to be right around them: random numbers, the split of the data, labels. And whether it helps.
#
# Sources: Lecture notes §1.1.2; Zhong et al. 2020 (random erasing); Zhang et al. 2018 (mixup); Yun et al. 2019
# (CutMix); Goodfellow et al. 2015 (adversarial noise).

# %%
import numpy as np
from scipy import ndimage

import minidl as ml
from minidl import course, data, models, nn, optim, training, viz
from minidl.data import augment

this = course.lesson("13 · Augmentation: more images than you have")
images = this.images("fashion-mnist").astype(np.float32)
order = np.random.default_rng(0).permutation(len(images.train_x))[:2000]  # neighbors in a file are often alike
train_x, train_y = images.train_x[order], images.train_y[order]
test_x, test_y = images.test_x[:1000], images.test_y[:1000]
x, y = train_x[:64], train_y[:64]


def seeded():
    return np.random.default_rng(3)


def check(name, from_minidl, by_hand, tolerance=1e-6):
    """Print the largest difference, and fail if it is more than rounding."""
    np.testing.assert_allclose(from_minidl, by_hand, rtol=0, atol=tolerance)
    print(f"{name:50} by hand − minidl {abs(from_minidl - by_hand).max():.1e}")


# %% [markdown]
# ## Where pixels lie
#
# An affine change moves what was at $u$ from the middle of the image to $A u + t$, with $A = R_\alpha S_\gamma F$:
# scaling by $f$, shear by $\gamma$, rotation by $\alpha$. To draw the new image one asks the other way around: what
# does the pixel at $u$ show?
#
# $$x'(u) = x\big(A^{-1}(u - t)\big)$$
#
# Asked like this every new pixel gets a value, and none gets two. The place lies between four pixels of the old image,
# so one interpolates. `scipy.ndimage.affine_transform` does this, given $A^{-1}$. Five random numbers from $[-1, 1]$
# say for each image how much of the allowed change it gets. Rows count downwards, hence the signs.


# %%
def affine_by_hand(x, generator, degrees=0.0, scale=0.0, shift=0.0, shear=0.0):
    size = np.array(x.shape[1:3])
    middle = (size - 1) / 2
    made = np.empty(x.shape)
    for i, (turn, grow, lean, down, right) in enumerate(generator.uniform(-1, 1, (len(x), 5))):
        alpha, gamma, f = np.deg2rad(turn * degrees), np.deg2rad(lean * shear), (1 + scale) ** grow
        R = np.array([[np.cos(alpha), -np.sin(alpha)], [np.sin(alpha), np.cos(alpha)]])
        S = np.array([[1, 0], [-np.tan(gamma), 1]])
        inverse = np.linalg.inv(R @ S * f)
        t = np.array([down, right]) * shift * size
        offset = middle - inverse @ (middle + t)
        for channel in range(x.shape[3]):
            old = x[i, :, :, channel].astype(np.float64)
            made[i, :, :, channel] = ndimage.affine_transform(old, inverse, offset, order=1, mode="grid-constant")
    return made


for change, settings in (
    (augment.rotate(15), {"degrees": 15}),
    (augment.scale(0.25), {"scale": 0.25}),
    (augment.shift(0.15), {"shift": 0.15}),
    (augment.affine(15, 0.2, 0.1, 10), {"degrees": 15, "scale": 0.2, "shift": 0.1, "shear": 10}),
):
    check(str(change), change(x, seeded()), affine_by_hand(x, seeded(), **settings), 2e-5)  # float32 places

# %% [markdown]
# Crop and flip need no interpolation: a frame of black pixels, a window at a random place, and for half of the images
# the columns backwards.


# %%
def crop_flip_by_hand(x, generator, padding):
    count, height, width, _ = x.shape
    framed = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    tops, lefts = (generator.integers(0, 2 * padding + 1, size=count) for _ in range(2))
    mirrored = generator.random(count) < 0.5
    windows = [f[top : top + height, left : left + width] for f, top, left in zip(framed, tops, lefts, strict=True)]
    return np.stack([w[:, ::-1] if m else w for w, m in zip(windows, mirrored, strict=True)])


check("crop_flip(4)", augment.crop_flip(4)(x, seeded()), crop_flip_by_hand(x, seeded(), 4), 0)

# %% [markdown]
# ## What pixels show, and what is hidden
#
# Brightness adds a number, contrast stretches the values about their mean, with a factor whose logarithm is uniform.
# Both are clipped to $[0, 1]$. Random erasing puts a rectangle at a random place; its area is a random share of the
# image, and its height over its width is drawn on the logarithmic scale.


# %%
def brightness_by_hand(x, generator, strength):
    b = generator.uniform(-1, 1, len(x)).reshape(-1, 1, 1, 1)
    return np.clip(x + strength * b, 0, 1)


def contrast_by_hand(x, generator, strength):
    f = (1 + strength) ** generator.uniform(-1, 1, len(x)).reshape(-1, 1, 1, 1)
    mean = x.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return np.clip(mean + f * (x - mean), 0, 1)


def erase_by_hand(x, generator, p, area=(0.02, 0.33), aspect=(0.3, 3.3)):
    count, height, width, _ = x.shape
    chosen = generator.random(count) < p
    area = generator.uniform(*area, count) * height * width
    aspect = np.exp(generator.uniform(*np.log(aspect), count))
    lines = np.minimum(np.round(np.sqrt(area * aspect) * chosen), height).astype(int)
    columns = np.minimum(np.round(np.sqrt(area / aspect)), width).astype(int)
    tops = (generator.random(count) * (height - lines + 1)).astype(int)
    lefts = (generator.random(count) * (width - columns + 1)).astype(int)
    made = x.copy()
    for image, top, left, h, w in zip(made, tops, lefts, lines, columns, strict=True):
        image[top : top + h, left : left + w] = 0
    return made


check("brightness(0.3)", augment.brightness(0.3)(x, seeded()), brightness_by_hand(x, seeded(), 0.3))
check("contrast(1)", augment.contrast(1.0)(x, seeded()), contrast_by_hand(x, seeded(), 1.0))
check("erase(0.5, black)", augment.erase(0.5, fill="black")(x, seeded()), erase_by_hand(x, seeded(), 0.5), 0)

# %% [markdown]
# ## Two images in one
#
# Mixup draws one image over another, CutMix pastes a rectangle of one into the other. What is the class of such an
# image? Both classes, each with its share. With $y$ one-hot and $\pi$ a random order of the batch,
#
# $$x' = \lambda x + (1-\lambda)\,x_\pi, \qquad y' = \lambda y + (1-\lambda)\,y_\pi, \qquad
# \lambda \sim \mathrm{Beta}(\alpha, \alpha).$$
#
# For CutMix the rectangle has the share $1-\lambda$ of the area, around a random pixel. What lies outside of the image
# is cut off, so the label counts the pixels that were really pasted.


# %%
def mixup_by_hand(x, one_hot, generator, alpha):
    own = generator.beta(alpha, alpha, len(x))
    partner = generator.random(len(x)).argsort()
    a, b = own[:, None, None, None], own[:, None]
    return a * x + (1 - a) * x[partner], b * one_hot + (1 - b) * one_hot[partner]


def cutmix_by_hand(x, one_hot, generator, alpha):
    count, height, width, _ = x.shape
    side = np.sqrt(1 - generator.beta(alpha, alpha, count))
    partner = generator.random(count).argsort()
    rows, columns = generator.integers(height, size=count), generator.integers(width, size=count)
    made, labels = x.copy(), np.empty(one_hot.shape)
    for i, j in enumerate(partner):
        h, w = np.round(side[i] * height) / 2, np.round(side[i] * width) / 2
        inside_rows = [r for r in range(height) if rows[i] - h <= r < rows[i] + h]
        inside_columns = [c for c in range(width) if columns[i] - w <= c < columns[i] + w]
        pasted = np.ix_(inside_rows, inside_columns)
        made[i][pasted] = x[j][pasted]
        share = len(inside_rows) * len(inside_columns) / (height * width)
        labels[i] = (1 - share) * one_hot[i] + share * one_hot[j]
    return made, labels


one_hot = np.eye(10)[y]
for blend, by_hand in (
    (augment.mixup(10, alpha=1.0), mixup_by_hand(x, one_hot, seeded(), 1.0)),
    (augment.cutmix(10, alpha=1.0), cutmix_by_hand(x, one_hot, seeded(), 1.0)),
):
    name = type(blend).__name__
    for what, from_minidl, expected in zip(("images", "labels"), blend(x, y, seeded()), by_hand, strict=True):
        check(f"{name}, {what}", from_minidl, expected)
        if what == "labels":
            np.testing.assert_allclose(from_minidl.sum(axis=1), 1, rtol=1e-6)

# %% [markdown]
# Most of these, and two more (`elastic` and `noise`), as `viz.augmentations` shows them: left the original, then what
# eight epochs see of it.

# %%
_, firsts = np.unique(train_y, return_index=True)
shown = {
    "rotate": augment.rotate(30),
    "affine": augment.affine(15, 0.2, 0.1, 15),
    "crop and flip": augment.crop_flip(4),
    "elastic": augment.elastic(2.0),
    "brightness": augment.brightness(),
    "contrast": augment.contrast(),
    "noise": augment.noise(0.2),
    "erase": augment.erase(1.0),
    "mixup": augment.mixup(10, alpha=4.0),
    "CutMix": augment.cutmix(10),
}
figure = viz.augmentations(train_x[firsts], shown, train_y[firsts], title="Ten ways to change an image")
this.show(figure, "13_augmentation_sheet")

# %% [markdown]
# Not every change suits every task. A mirrored shoe is a shoe, a mirrored 2 is nothing. Only you know that; no
# formula does.
#
# ## Whose random numbers?
#
# If all images drew from one stream, an image's change would depend on the size of the batch and on what came before.
# A run that was resumed would see other images than one that was not. minidl's `data.Loader` gives every image a stream
# of its own, made from the seed, the epoch and the image's number, and from nothing else (`data.SampleGenerator`).

# %%
change = augment.compose(augment.affine(15, 0.2, 0.1, 10), augment.noise(0.1))


def seen(epoch, batch_size, number):
    """Return image `number` as this epoch of a loader with this batch size has it."""
    loader = data.Loader(x, np.arange(len(x)), batch_size, seed=5, augment=change)
    loader.epoch = epoch
    batches, numbers = zip(*loader, strict=True)
    return np.concatenate(batches)[np.concatenate(numbers) == number][0]


alone = change(x[17:18], data.SampleGenerator(5, 2, [17]))[0]
np.testing.assert_array_equal(seen(2, 8, 17), alone)
np.testing.assert_array_equal(seen(2, 64, 17), alone)
print("image 17 of epoch 2 is the same alone, in a batch of 8 and in a batch of 64")
print(f"in epoch 3 it differs by up to {abs(seen(3, 8, 17) - alone).max():.2f}")
assert abs(seen(3, 8, 17) - alone).max() > 0.1

# %% [markdown]
# ## Only the training images
#
# Images for testing stand for what comes later. They are not augmented, and nothing may be fitted on them: not the
# network, and not the mean and deviation of a `data.Standardization` either.

# %%
standardize = data.Standardization(train_x)
mean, deviation = train_x.mean(dtype=np.float64), train_x.std(dtype=np.float64)
np.testing.assert_allclose([standardize.mean[0], standardize.deviation[0]], [mean, deviation], rtol=1e-6)
print("standardized with the mean and deviation of the training images:")
for name, part in (("training", train_x), ("test", test_x)):
    scaled = standardize(part).astype(np.float64)
    print(f"  {name:8} images have mean {scaled.mean():6.3f} and deviation {scaled.std():.3f}")

# %% [markdown]
# The test images are not exactly at 0 and 1, and should not be: a single image that comes later would not be, either.
# The worst mistake, though, is to augment first and to split afterwards. Then a test image has its own rotated twin
# among the training images. Here the simplest of all classifiers, the class of the nearest training image, is judged in
# both orders.


# %%
def nearest(train_x, train_y, test_x, test_y):
    """Return the accuracy of the class of the nearest training image."""
    a, b = train_x.reshape(len(train_x), -1), test_x.reshape(len(test_x), -1)
    distances = (b**2).sum(1)[:, None] + (a**2).sum(1) - 2 * b @ a.T
    return (train_y[distances.argmin(axis=1)] == test_y).mean()


few_x, few_y = train_x[:60], train_y[:60]
slightly = augment.affine(5, 0.05, 0.03)


def copies(x, y):
    """Return the images, and five slightly changed copies of each."""
    generator = np.random.default_rng(0)
    return np.concatenate([x, *(slightly(x, generator) for _ in range(5))]), np.tile(y, 6)


all_x, all_y = copies(few_x, few_y)
shuffled = np.random.default_rng(0).permutation(len(all_x))
train, held_out = shuffled[100:], shuffled[:100]
after = nearest(all_x[train], all_y[train], all_x[held_out], all_y[held_out])
before = nearest(all_x, all_y, train_x[1000:], train_y[1000:])  # held out first, and left as they are
new = nearest(all_x, all_y, test_x, test_y)
print(f"augmented, then split: {after:.1%}   split, then augmented: {before:.1%}   {len(test_x)} new images: {new:.1%}")
assert after > new + 0.05
assert abs(before - new) < abs(after - new)

# %% [markdown]
# The first number is worth nothing. It measures whether a twin can be recognized.
#
# ## Does it help?
#
# Few images, a small convolutional network (`models.small_cnn`), the same number of steps with and without. The
# changes: `affine` by up to 10 degrees, a tenth of the size and 7 % of the place; `crop_flip`; `mixup`. The networks
# are judged by the test images as they are, and by the same images moved by the same affine changes. In these data sets
# all images are centered and upright. Elsewhere nobody does you this favor.

# %%
count, epochs, trials = (100, 12, 1) if this.quick else (300, 40, 2)
move = augment.affine(degrees=10, scale=0.1, shift=0.07)
moved_x = move(test_x, np.random.default_rng(1))
KINDS = {
    "nothing": {},
    "affine": {"augment": move},
    "crop_flip": {"augment": augment.crop_flip(2)},
    "mixup": {"blend": augment.mixup(10, alpha=0.4)},
}


def trained(seed, x, y, epochs, **changes):
    ml.manual_seed(seed)
    model = models.small_cnn(widths=(8, 16), hidden=64)
    trainer = training.Trainer(model, optim.Adam(model, 0.003), progress=False)
    history = trainer.fit(data.Loader(x, y, 50, seed=seed, **changes), validation=(test_x, test_y), epochs=epochs)
    return trainer, history


curves, on_moved = [], {}
print(f"{count} training images, {epochs} epochs, {trials} seed{'s' * (trials > 1)}")
print("             test loss   test accuracy   on moved test images   (last epoch, mean over the seeds)")
for name, changes in KINDS.items():
    runs = [trained(seed, train_x[:count], train_y[:count], epochs, **changes) for seed in range(trials)]
    curves.append(viz.TrialCurves(name, "", [history.column("validation_accuracy") for _, history in runs]))
    ends = [(history.epochs[-1]["validation_loss"], history.epochs[-1]["validation_accuracy"]) for _, history in runs]
    loss, accuracy = np.mean(ends, axis=0)
    on_moved[name] = np.mean([trainer.evaluate((moved_x, test_y))["accuracy"] for trainer, _ in runs])
    print(f"{name:12} {loss:9.3f}   {accuracy:13.1%}   {on_moved[name]:20.1%}")
assert on_moved["affine"] > on_moved["nothing"]

figure = viz.learning_curves(
    curves,
    f"{count} images, with and without augmentation",
    f"{len(test_x):,} test images; small_cnn, Adam, batches of 50",
    statistic="last",
)
this.show(figure, "13_augmentation_experiment")

# %% [markdown]
# In the full form, on Fashion-MNIST, moving the training images does not help on the test images as they are: 76.8 %
# are right without it, 74.8 % with `affine` and 73.8 % with `crop_flip`. All these images are upright and in the
# middle, so the network pays for an ability that nobody asks of it. On the moved images it is the other way around:
# 66.1 % without and 72.4 % with `affine`. Mixup is best on the images as they are, 78.2 %, and of no use on the moved
# ones, 65.9 %. All three lower the test loss, from 1.01 to 0.85, 0.77 and 0.72. The numbers in the picture are means
# over the last tenth of the epochs, and with two seeds most of their intervals are wide: read it as a hint where
# accuracies differ by a percent or two.
#
# On digits, which the full form takes where Fashion-MNIST is missing, the outcome is another: `affine` helps on the
# test images as they are, too, with 96.8 % against 93.5 %. People do write leaning and in different sizes. In the quick
# form, a short training on few digits, `affine` still costs a little there and wins only on the moved images;
# `crop_flip` is the worst on both. It trains on mirrored digits, which do not exist.
#
# ## The change that the network minds most
#
# Goodfellow et al. ask for the change of an image by at most $\epsilon$ a pixel that raises the loss most. To first
# order the loss changes by $\nabla_x L \cdot (x' - x)$, which is largest if each pixel goes by $\epsilon$ in the
# direction of the gradient's sign:
#
# $$x' = \mathrm{clip}\big(x + \epsilon\,\mathrm{sign}\,\nabla_x L(h(x), y)\big).$$
#
# For a softmax of one dense layer the gradient is short: $\nabla_x L = (h(x) - y)\,W^T$, with $y$ one-hot.

# %%
ml.manual_seed(0)
linear = nn.Sequential(nn.Flatten(), nn.Dense(x[0].size, 10))
W, b = (parameter.data.astype(np.float64) for parameter in linear.parameters())
logits = x.reshape(len(x), -1) @ W + b
h = np.exp(logits - logits.max(axis=1, keepdims=True))
h /= h.sum(axis=1, keepdims=True)
gradient = ((h - one_hot) @ W.T).reshape(x.shape)
by_hand = np.clip(x + 0.1 * np.sign(gradient), 0, 1)
check("fgsm", training.fgsm(linear, x, y, 0.1), by_hand)

# %% [markdown]
# Now against a trained convolutional network. For comparison each pixel goes by the same $\epsilon$ in a random
# direction.

# %%
trainer, _ = trained(0, train_x[:1000], train_y[:1000], 3 if this.quick else 10)
signs = np.random.default_rng(0).choice([-1, 1], test_x.shape).astype(np.float32)
print("   ε   accuracy: random signs   fgsm")
for eps in (0.0, 0.02, 0.05, 0.1):
    noisy = np.clip(test_x + np.float32(eps) * signs, 0, 1)
    adversarial = training.fgsm(trainer.model, test_x, test_y, eps)
    at_random, against = (trainer.evaluate((changed, test_y))["accuracy"] for changed in (noisy, adversarial))
    print(f"{eps:4.2f}   {at_random:22.1%}   {against:5.1%}")
assert against < at_random - 0.2

# %% [markdown]
# Noise of the same size in random directions does little. It is the direction that counts. `training.AdversarialNoise`
# trains on such images; that is the augmentation which the network chooses for itself.
#
# ## Filtration: which labels are wrong?
#
# The opposite of adding images is to take some away. Images with a wrong label have a large loss, as long as the
# network has not learned that label by heart. So the network must judge images that it was not trained on: train on one
# half, judge the other, and the other way around. Here 5 % of the labels are made wrong on purpose, so that one can
# count how many of them are found among the 5 % of images with the largest loss, by `training.suspects`. The loss of
# one image with the logits $z$ and the label $y$ is the cross entropy, $\log \sum_k e^{z_k} - z_y$.

# %%
count = 600 if this.quick else 2000
x, true_y = train_x[:count], train_y[:count]
generator = np.random.default_rng(0)
planted = generator.choice(len(x), len(x) // 20, replace=False)
given_y = true_y.copy()
given_y[planted] = (true_y[planted] + generator.integers(1, 10, len(planted))) % 10

halves = np.arange(len(x)) < len(x) // 2
hits = 0
for judged in (halves, ~halves):
    part = np.flatnonzero(judged)
    model = trained(0, x[~judged], given_y[~judged], 6)[0].model
    found = training.suspects(model, x[part], given_y[part], share=0.05, classes=images.classes)
    hits += np.isin(part[found.indices], planted).sum()

    with ml.no_grad():
        logits = model.eval()(x[part]).data.astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(part)), given_y[part]]
    np.testing.assert_allclose(training.sample_losses(model, x[part], given_y[part]), losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.sort(losses)[::-1][: len(found.losses)], found.losses, rtol=1e-4)

print(f"{len(planted)} wrong labels planted; of the {len(x) // 20} suspects {hits} are planted ones")
print(f"found: {hits / len(planted):.0%}; by chance it would be 5%")
assert hits > 0.4 * len(planted)
figure = viz.suspects(found, x[part], most=32, title="The suspects of the second half")
this.show(figure, "13_augmentation_suspects")

# %% [markdown]
# The others among the suspects were not planted. Look at them: some are ugly, some could be either class, and some are
# simply hard. A large loss is a reason to look at an image, not yet one to remove it.
#
# ## Take away
#
# - To move an image, ask for each new pixel where it was: $A^{-1}(u - t)$. Whatever else is done to an image is a line
#   or two. Only the labels of mixup and CutMix need care: they are shares.
# - Random numbers belong to the seed, the epoch and the image. Split first, fit and augment on the training part alone.
# - Augmentation teaches what the changes say, and nothing else. Moving the images helped where images are moved, and
#   not for shoes that are all upright. So choose the changes by what the images to come will look like.
# - The largest losses of images that the network was not trained on point to wrong labels: most of the planted ones
#   were found. A small change in the right direction fools the same network.
#
# ## Exercises
#
# 1. Write a change `wave` that shifts each row $r$ of an image by $a \sin(2\pi r / 14 + \phi)$ pixels, rounded, with
#    random $a \in [0, 2]$ and $\phi$ for each image. Assert that an image is changed in the same way alone and in a
#    batch.
# 2. Rotate an image 36 times by 10 degrees, each time from the last result, and twice by 180 degrees. Compare both with
#    the original, inside the largest circle. What does that say about `compose(rotate(10), shift(0.1), scale(0.1))` and
#    `affine(10, 0.1, 0.1)`?
# 3. Plant wrong labels as above, but train the network on all images, for 4 epochs and for 30, and let it judge the
#    same images. How many of the wrong labels are found?
# 4. Train with the callback `training.AdversarialNoise(0.05)` and without. Compare both networks on images as they are
#    and on images changed by `training.fgsm` with $\epsilon = 0.05$.
