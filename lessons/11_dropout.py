# %% [markdown]
# # 11 · Dropout, in seven ways
#
# A network with many weights can learn its training images by heart. Its units then rely on each other: one corrects
# the errors of another, and what they correct is the noise of just these images. Dropout disturbs that. In training
# each value is thrown away with probability $p$, so that no unit can count on another one. In evaluation nothing is
# thrown away.
#
# There are many ways to disturb. This lesson writes seven of them by hand, finds them again in `minidl/nn/dropout.py`,
# and then asks of each: is the mean of the noisy output what the evaluation gives? That is what the scaling factors
# are for, and for some of the seven the answer is no.
#
# Sources: Lecture notes §1.1.4; Srivastava et al. 2014; Tompson et al. 2015 (whole feature maps); Wu and Gu 2015
# (pooling); Klambauer et al. 2017 (SELU).

# %%
import math

import numpy as np

import minidl as ml
from minidl import course, data, nn, ops, optim, training, viz

this = course.lesson("11 · Dropout, in seven ways")

# %% [markdown]
# ## The seven, by hand
#
# $p$ is the probability of dropping. $b$ is 1 with probability $1-p$ and else 0; $n$ is normal noise. The products are
# element by element.
#
# | layer | training | evaluation |
# |---|---|---|
# | Dropout, inverted | $y = x \odot b / (1-p)$ | $x$ |
# | Dropout, scaled in evaluation | $y = x \odot b$ | $(1-p)\,x$ |
# | SpatialDropout2d | as Dropout, with one $b$ for each feature map | $x$ |
# | GaussianDropout | $y = x \odot n$, $n \sim N(1, p(1-p))$ | $x$ |
# | AlphaDropout, after SELU | $y = a\,(x \odot b + \alpha'(1-b)) + c$ | $x$ |
# | PoolingDropout | $y = \mathrm{pool}(x \odot b)$ | $(1-p)\,\mathrm{pool}(x)$ |
# | MaxDrop | $y = \max(x \odot n)$, $n \sim N(\mu, \sigma^2)$ | $\mu \max(x)$ |
#
# The inverted form divides by $1-p$ in training already, so that in evaluation there is nothing left to do.
# PoolingDropout exists for the maximum and for the average; so there are seven, if the two forms of Dropout count as
# one. With SELU's constants $\lambda$ and $\alpha$, dropped values become $\alpha' = -\lambda\alpha$, the value of
# SELU at $-\infty$, and
#
# $$a = \big((1-p)(1 + p\,\alpha'^2)\big)^{-1/2}, \qquad c = -a\,p\,\alpha'.$$
#
# Where do the coins come from? minidl makes one from each random byte: a byte from 0 to 255 is below $256\,p$ with
# probability $p$, if that is a whole number. That is fast, and it is why the hand-made masks below can be the same to
# the last coin: same generator, same bytes.


# %%
def coins(shape, p, generator):
    """Return b: 1 with probability 1 − p, else 0; 256 p must be a whole number."""
    count = math.prod(shape)
    words = generator.integers(0, 2**64 - 1, size=-(-count // 8), dtype=np.uint64, endpoint=True)
    return words.astype("<u8").view(np.uint8)[:count].reshape(shape) >= 256 * p


def normal(shape, mean, deviation, generator):
    return mean + deviation * generator.standard_normal(shape, dtype=np.float32).astype(np.float64)


def windows(x):
    """Return the 2×2 windows of images: (N, H/2, W/2, 4, C)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4, c)


def dropout(x, p, generator):
    return x * coins(x.shape, p, generator) / (1 - p)


def dropout_scaled_later(x, p, generator):
    return x * coins(x.shape, p, generator)


def spatial_dropout(x, p, generator):
    n, _, _, c = x.shape
    return x * coins((n, 1, 1, c), p, generator) / (1 - p)


def gaussian_dropout(x, p, generator):
    return x * normal(x.shape, 1, np.sqrt(p * (1 - p)), generator)


def gaussian_dropout_srivastava(x, p, generator):
    return x * normal(x.shape, 1, np.sqrt(p / (1 - p)), generator)


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # λ and α
SATURATION = -SELU_SCALE * SELU_ALPHA  # α′


def alpha_dropout(x, p, generator):
    b = coins(x.shape, p, generator)
    a = 1 / np.sqrt((1 - p) * (1 + p * SATURATION**2))
    return a * (x * b + SATURATION * (1 - b)) - a * p * SATURATION


def max_pooling_dropout(x, p, generator):
    w = windows(x)
    return (w * coins(w.shape, p, generator)).max(axis=3)


def average_pooling_dropout(x, p, generator):
    w = windows(x)
    return (w * coins(w.shape, p, generator)).mean(axis=3)


def max_drop(x, mu, sigma, generator):
    w = windows(x)
    return (w * normal(w.shape, mu, sigma, generator)).max(axis=3)


# %% [markdown]
# ## The same in minidl
#
# Each layer gets a generator with the same seed as the hand-made function, and images with positive values. Both modes
# are compared.

# %%
p, mu, sigma = 0.25, 1.0, 0.5
x = np.random.default_rng(0).uniform(0.1, 2, (16, 8, 8, 3))


def seeded():
    return np.random.default_rng(7)


CASES = {  # name: (by hand in training, by hand in evaluation, the layer)
    "Dropout, inverted": (dropout(x, p, seeded()), x, nn.Dropout(p, generator=seeded())),
    "Dropout, scaled later": (
        dropout_scaled_later(x, p, seeded()),
        (1 - p) * x,
        nn.Dropout(p, scaling="eval", generator=seeded()),
    ),
    "SpatialDropout2d": (spatial_dropout(x, p, seeded()), x, nn.SpatialDropout2d(p, generator=seeded())),
    "GaussianDropout, notes": (gaussian_dropout(x, p, seeded()), x, nn.GaussianDropout(p, generator=seeded())),
    "GaussianDropout, Srivastava": (
        gaussian_dropout_srivastava(x, p, seeded()),
        x,
        nn.GaussianDropout(p, variance="srivastava", generator=seeded()),
    ),
    "AlphaDropout": (alpha_dropout(x, p, seeded()), x, nn.AlphaDropout(p, generator=seeded())),
    "PoolingDropout, max": (
        max_pooling_dropout(x, p, seeded()),
        (1 - p) * windows(x).max(axis=3),
        nn.PoolingDropout(2, p, "max", generator=seeded()),
    ),
    "PoolingDropout, avg": (
        average_pooling_dropout(x, p, seeded()),
        (1 - p) * windows(x).mean(axis=3),
        nn.PoolingDropout(2, p, "avg", generator=seeded()),
    ),
    "MaxDrop": (
        max_drop(x, mu, sigma, seeded()),
        mu * windows(x).max(axis=3),
        nn.MaxDrop(2, mu, sigma, generator=seeded()),
    ),
}

print("largest difference, by hand − minidl      training   evaluation")
for name, (in_training, in_evaluation, layer) in CASES.items():
    differences = []
    for by_hand, mode in ((in_training, layer.train), (in_evaluation, layer.eval)):
        mode()
        from_minidl = layer(ml.Tensor(x)).data
        np.testing.assert_allclose(from_minidl, by_hand, rtol=1e-12, atol=1e-14)
        differences.append(abs(from_minidl - by_hand).max())
    print(f"{name:38}  {differences[0]:10.1e}   {differences[1]:10.1e}")

# %% [markdown]
# ## Is the mean kept?
#
# The next layer's weights are learned with the noisy values and used with the quiet ones. If the mean of a value is
# another in evaluation, every unit behind it sees a shift that it was never trained for. So take one window with the
# values 4, 3, 2, 1 and draw many masks. What is expected, for a value $x$ or for a window
# $x_{(1)} \ge x_{(2)} \ge \dots \ge 0$ of $k$ values:
#
# | layer | mean in training | variance in training |
# |---|---|---|
# | Dropout, inverted; SpatialDropout2d | $x$ | $x^2\,p/(1-p)$ |
# | Dropout, scaled later | $(1-p)\,x$ | $x^2\,p(1-p)$ |
# | GaussianDropout, notes | $x$ | $x^2\,p(1-p)$ |
# | GaussianDropout, Srivastava | $x$ | $x^2\,p/(1-p)$ |
# | AlphaDropout | $a(1-p)\,x$ | $a^2\,p(1-p)\,(x-\alpha')^2$ |
# | PoolingDropout, avg | $\frac{1-p}{k}\sum_i x_{(i)}$ | $\frac{p(1-p)}{k^2}\sum_i x_{(i)}^2$ |
# | PoolingDropout, max | $\sum_i (1-p)\,p^{i-1}\,x_{(i)} = M$ | $\sum_i (1-p)\,p^{i-1}\,x_{(i)}^2 - M^2$ |
#
# The last line says: the maximum is the $i$-th value if that one was kept and all $i-1$ larger ones were dropped. For
# MaxDrop there is a short formula for two equal values $x$: the mean is $(\mu + \sigma/\sqrt\pi)\,x$ and the variance
# $\sigma^2 (1 - 1/\pi)\,x^2$. Its window here is 4, 4.

# %%
draws = 20_000 if this.quick else 200_000
window = np.array([4.0, 3.0, 2.0, 1.0])
first, keep = window[0], 1 - p
a = 1 / np.sqrt(keep * (1 + p * SATURATION**2))
kept_alone = keep * p ** np.arange(4)  # that the i-th is the largest one that is kept
largest_mean = (kept_alone * window).sum()

EXPECTED = {  # name: (mean, variance) in training
    "Dropout, inverted": (first, first**2 * p / keep),
    "Dropout, scaled later": (keep * first, first**2 * p * keep),
    "SpatialDropout2d": (first, first**2 * p / keep),
    "GaussianDropout, notes": (first, first**2 * p * keep),
    "GaussianDropout, Srivastava": (first, first**2 * p / keep),
    "AlphaDropout": (a * keep * first, a**2 * p * keep * (first - SATURATION) ** 2),
    "PoolingDropout, max": (largest_mean, (kept_alone * window**2).sum() - largest_mean**2),
    "PoolingDropout, avg": (keep * window.mean(), p * keep * (window**2).sum() / 16),
    "MaxDrop": ((mu + sigma / np.sqrt(np.pi)) * first, sigma**2 * (1 - 1 / np.pi) * first**2),
}

print(f"{draws:,} draws                  mean: measured  formula  evaluation   variance: measured  formula")
kept_means = []
for name, (mean, variance) in EXPECTED.items():
    layer = CASES[name][2]
    values, shape = window, (2, 2)
    if name == "MaxDrop":
        layer, values, shape = nn.MaxDrop((1, 2), mu, sigma, generator=seeded()), np.array([4.0, 4.0]), (1, 2)
    images = np.tile(values.reshape(1, *shape, 1), (draws, 1, 1, 1))
    noisy = layer.train()(ml.Tensor(images)).data[:, 0, 0, 0]
    quiet = layer.eval()(ml.Tensor(images[:1])).data[0, 0, 0, 0]
    assert abs(noisy.mean() - mean) < 5 * np.sqrt(variance / draws)
    np.testing.assert_allclose(noisy.var(), variance, rtol=0.1)
    if np.isclose(mean, quiet):
        kept_means.append(name)
    print(f"{name:28}  {noisy.mean():14.3f}  {mean:7.3f}  {quiet:10.3f}  {noisy.var():19.3f}  {variance:7.3f}")
print("evaluation is the mean of training for:", "; ".join(kept_means))
assert set(EXPECTED) - set(kept_means) == {"AlphaDropout", "PoolingDropout, max", "MaxDrop"}

# %% [markdown]
# Three lines of the table deserve a second look.
#
# - **PoolingDropout with the average.** The notes give $\mathrm{pool}(x)$ in evaluation, without $1-p$. The mean in
#   training is $(1-p)\,\mathrm{pool}(x)$, so the notes' evaluation is too large by the factor $1/(1-p)$. minidl scales
#   both kinds.
# - **PoolingDropout with the maximum, and MaxDrop.** There the evaluation is an approximation, the notes' own. The mean
#   in training lies above it, because a maximum of noisy values can choose among them.
# - **AlphaDropout.** The mean of one value $x$ is not kept: it becomes $a(1-p)\,x$. What is kept is the mean 0 and the
#   variance 1 of a whole layer, and that is all that SELU needs.

# %%
average = average_pooling_dropout(np.tile(window.reshape(1, 2, 2, 1), (draws, 1, 1, 1)), p, seeded()).mean()
print(f"average pooling: the notes' evaluation is {window.mean() / average:.3f} times the mean in training")
print(f"                 1 / (1 − p) is           {1 / (1 - p):.3f}")
np.testing.assert_allclose(window.mean() / average, 1 / (1 - p), rtol=0.02)

z = np.random.default_rng(0).standard_normal(draws)  # stands for a layer of mean 0 and variance 1
kept = coins(z.shape, p, seeded())
for name, y in (
    ("the layer", z),
    ("dropped to 0 (Dropout, scaled later)", z * kept),
    ("dropped to −α (the notes)", np.where(kept, z, -SELU_ALPHA)),
    ("dropped to −λα, then a·y + c", alpha_dropout(z, p, seeded())),
):
    print(f"{name:37} mean {y.mean():6.3f}   variance {y.var():.3f}")
assert abs(y.mean()) < 0.03
assert abs(y.var() - 1) < 0.05

# %% [markdown]
# ## A picture of the masks
#
# The input is an image seen by four edge filters, one for each direction, scaled to mean 0 and variance 1. Dropout
# stands behind an activation: ReLU, or SELU for AlphaDropout. Each picture holds the four feature maps.

# %%
images = this.images("fashion-mnist")
scaled = images.train_x[:1].astype(np.float32) / (255 if images.train_x.dtype == np.uint8 else 1)
smooth, edge = np.array([1, 2, 1]), np.array([-1, 0, 1])
filters = [np.outer(smooth, edge), np.outer(smooth, -edge), np.outer(edge, smooth), np.outer(-edge, smooth)]
maps = ops.conv2d(scaled, np.stack(filters, axis=-1)[:, :, None].astype(np.float32), padding=1).data[0]
maps = (maps - maps.mean()) / maps.std()

ml.manual_seed(0)
half = 0.5
figure = viz.dropout_masks(
    maps,
    {
        "Dropout": nn.Sequential(nn.ReLU(), nn.Dropout(half)),
        "SpatialDropout2d": nn.Sequential(nn.ReLU(), nn.SpatialDropout2d(half)),
        "GaussianDropout": nn.Sequential(nn.ReLU(), nn.GaussianDropout(half)),
        "AlphaDropout (SELU)": nn.Sequential(nn.SELU(), nn.AlphaDropout(half)),
        "PoolingDropout, max": nn.Sequential(nn.ReLU(), nn.PoolingDropout(2, half, "max")),
        "PoolingDropout, avg": nn.Sequential(nn.ReLU(), nn.PoolingDropout(2, half, "avg")),
        "MaxDrop": nn.Sequential(nn.ReLU(), nn.MaxDrop(2)),
    },
    average=128 if this.quick else 1024,
    title="Seven ways to drop, p = 0.5, behind the activation",
)
this.show(figure, "11_dropout_masks")

# %% [markdown]
# Look at the two rightmost columns. In the first three rows they agree, but for the chance of the draws, which is
# largest for whole feature maps. With the maximum, and with MaxDrop, the mean of the draws is darker than the
# evaluation; with the average it is not. AlphaDropout's mean is paler than its evaluation, as computed above.
#
# Look also at Dropout beside SpatialDropout2d. Neighboring pixels say nearly the same. If one of them is lost, the eye
# still sees the shoe or the digit, and so does the next convolution. Only where the whole map is gone does the network
# have to do without the feature.
#
# ## An ensemble of networks
#
# A mask chooses a network: with $n$ units there are $2^n$ of them, which share their weights. Training with dropout
# trains them all a little. What does the one network of the evaluation have to do with them? For a softmax of a linear
# layer the answer is exact. The normalized geometric mean of the probabilities of all masks, each mask with its weight,
# is the network whose inputs are multiplied by $1-p$:
#
# $$\prod_b \mathrm{softmax}\big((x \odot b) W\big)^{P(b)} \;\propto\; \exp\Big(\sum_b P(b)\,(x \odot b) W\Big)
# = \exp\big((1-p)\,x W\big).$$
#
# With eight inputs all 256 masks can be counted.

# %%
generator = np.random.default_rng(0)
inputs, W = generator.standard_normal(8), generator.standard_normal((8, 3))


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


masks = np.array([[number >> i & 1 for i in range(8)] for number in range(256)])
weights = np.prod(np.where(masks, 1 - p, p), axis=1)  # P(b)
of_masks = softmax((inputs * masks) @ W)
geometric = np.exp(weights @ np.log(of_masks))
geometric /= geometric.sum()

layer = nn.Sequential(nn.Dropout(p, scaling="eval"), nn.Dense(8, 3, bias=False), nn.Softmax()).eval()
layer.load_state_dict(dict.fromkeys(layer.state_dict(), W))
one_network = layer(ml.Tensor(inputs[None].astype(np.float32))).data[0]
print("geometric mean of 256 networks ", geometric.round(4))
print("one network in evaluation      ", one_network.astype(float).round(4))
print("arithmetic mean of 256 networks", (weights @ of_masks).round(4))
np.testing.assert_allclose(softmax((1 - p) * inputs @ W), geometric, rtol=1e-12)
np.testing.assert_allclose(one_network, geometric, rtol=1e-5)

# %% [markdown]
# For deeper networks this is an approximation. The next section tests it.
#
# ## Does it help?
#
# A network that is too large for its few images, 784–256–256–10, trained long enough to know them by heart: without
# dropout, with Dropout at $p = 0.5$ behind each hidden layer, and with Gaussian noise of the same variance
# ($p/(1-p) = 1$). Each is trained from several seeds.

# %%
count, epochs, trials = (100, 25, 2) if this.quick else (500, 40, 3)
train_x, train_y = images.train_x[:count], images.train_y[:count]
test_x, test_y = images.test_x[:2000], images.test_y[:2000]
KINDS = {
    "no dropout": None,
    "Dropout(0.5)": lambda: nn.Dropout(0.5),
    "GaussianDropout(0.5)": lambda: nn.GaussianDropout(0.5, variance="srivastava"),
}


def network(noise):
    layers = [nn.Flatten()]
    for before in (784, 256):
        layers += [nn.Dense(before, 256), nn.ReLU(), *([] if noise is None else [noise()])]
    return nn.initialize(nn.Sequential(*layers, nn.Dense(256, 10)))


results, trained = {}, {}
print(f"{count} training images, {epochs} epochs, {trials} seeds; in evaluation, mean over the seeds")
print("                        training loss  accuracy    test loss  accuracy   test accuracy of each seed")
for name, noise in KINDS.items():
    curves, ends = [], []
    for seed in range(trials):
        ml.manual_seed(seed)
        model = network(noise)
        trainer = training.Trainer(model, optim.Adam(model), progress=False)
        history = trainer.fit(data.Loader(train_x, train_y, 50, seed=seed), validation=(test_x, test_y), epochs=epochs)
        curves.append([history.column("validation_loss"), history.column("validation_accuracy")])
        on_training = trainer.evaluate((train_x, train_y))
        ends.append([on_training["loss"], on_training["accuracy"], curves[-1][0][-1], curves[-1][1][-1]])
    results[name], trained[name] = (np.array(curves), np.array(ends)), model
    fit, right, loss, accuracy = np.mean(ends, axis=0)
    each = "  ".join(f"{end[3]:.1%}" for end in ends)
    print(f"{name:22}  {fit:13.4f}  {right:8.1%}  {loss:11.3f}  {accuracy:8.1%}   {each}")

# %% [markdown]
# Without dropout the loss on the training images is smallest: the network knows them by heart. On 500 images of
# Fashion-MNIST (the full form) its test loss is 0.825, and with dropout 0.622. The network is wrong as often, but no
# longer so sure of itself when it is. That is the whole effect here: in accuracy the kinds differ by no more than the
# seeds of one kind do. In the quick form, a short training on 100 digits, dropout does not make the test loss smaller:
# the training ends while the curves with dropout are still falling, above the one without.

# %%
training_losses = {name: ends[:, 0].mean() for name, (_, ends) in results.items()}
assert min(training_losses, key=training_losses.get) == "no dropout"
for name, (curves, _) in results.items():
    loss = curves[:, 0].mean(axis=0)
    print(f"{name:22} least test loss {loss.min():.3f}, in epoch {loss.argmin() + 1}; in the last {loss[-1]:.3f}")

figure = viz.titled_figure(
    9.6,
    4.4,
    f"Overfitting {count} images, with and without dropout",
    f"{len(test_x):,} test images; mean of {trials} seeds, band from the lowest to the highest",
)
for axes, column, label in zip(figure.subplots(1, 2), (0, 1), ("test loss", "test accuracy"), strict=True):
    viz.plain(axes)
    for (name, (curves, _)), color in zip(results.items(), (viz.INK, viz.ACCENT, viz.OTHER), strict=True):
        values, at = curves[:, column], np.arange(1, epochs + 1)
        axes.fill_between(at, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axes.plot(at, values.mean(axis=0), color=color, label=name if column == 0 else None)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(label, fontsize=9)
figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
this.show(figure, "11_dropout_overfitting")

# %% [markdown]
# In the full form the curve without dropout turns upwards, and the others much less. Its least loss, in epoch 15, is
# 0.61; theirs is 0.58. Whoever had stopped at the right moment would have got most of what dropout gives.
#
# Now the ensemble. The last network with dropout stays in training mode, so that it draws masks, and the probabilities
# of many masks are averaged. If scaling the values by $1-p$ is a good stand-in for that average, one pass in evaluation
# should do about as well as many noisy passes.

# %%
model = trained["Dropout(0.5)"]
x_test = test_x.astype(np.float32) / (255 if test_x.dtype == np.uint8 else 1)


def judged(probabilities):
    right = (probabilities.argmax(axis=1) == test_y).mean()
    return -np.log(probabilities[np.arange(len(test_y)), test_y]).mean(), right


ml.manual_seed(0)
with ml.no_grad():
    one_pass = softmax(model.eval()(x_test).data.astype(np.float64))
    noisy_passes = np.array([softmax(model.train()(x_test).data.astype(np.float64)) for _ in range(30)])
print("average of            test loss  accuracy")
scores = {number: judged(noisy_passes[:number].mean(axis=0)) for number in (1, 3, 10, 30)}
for number, (loss, right) in scores.items():
    print(f"{number:2} masks              {loss:10.3f}  {right:8.1%}")
loss, right = judged(one_pass)
print(f"one pass, evaluation  {loss:10.3f}  {right:8.1%}")
assert scores[30][0] < scores[1][0]
assert abs(scores[30][1] - right) < 0.02

# %% [markdown]
# One random network of the ensemble is clearly worse than the one pass in evaluation; many together are about as often
# right as that pass. In loss the average of thirty masks is better on Fashion-MNIST (0.564 against 0.645 in the full
# form): networks that disagree make the average less sure of itself, where the one pass is too sure. In the quick form
# nothing is too sure of itself yet, and the one pass is better. It costs a thirtieth.
#
# ## Take away
#
# - Training is noisy, evaluation is not, and a factor of $1-p$ must stand somewhere so that both have the same mean.
#   For Dropout, SpatialDropout2d, GaussianDropout and average pooling this is exact; for the two maxima it is not.
# - AlphaDropout keeps the mean and variance of a layer, not of a value. Without $\lambda$ and the affine map it would
#   keep neither.
# - On Fashion-MNIST dropout made the test loss of an overfitting network smaller, and its test accuracy no larger; on
#   the digits, in the short training of the quick form, neither. Measure both, with several seeds, before you praise
#   it.
#
# ## Exercises
#
# 1. Enumerate all 512 masks of a 3×3 window with random positive values. Compare the mean of the largest kept value
#    with the formula $\sum_i (1-p)\,p^{i-1}\,x_{(i)}$ and with the evaluation of `PoolingDropout`.
# 2. Send a standard normal batch through 30 dense layers with SELU and LeCun's initialization, with `Dropout(0.1)`,
#    `AlphaDropout(0.1)` or nothing behind each. What are the mean and the variance behind the last layer?
# 3. For least squares, show that inverted dropout of the inputs is ridge regression: the expected loss
#    $E\,\|(X \odot B)\,w/(1-p) - y\|^2$ equals $\|Xw - y\|^2 + \frac{p}{1-p} \sum_j w_j^2 \sum_i X_{ij}^2$. Check it by
#    counting all masks of a small problem.
# 4. Put a 3×3 average behind `Dropout` and behind `SpatialDropout2d`, on feature maps that are 1 everywhere. Predict
#    the variance behind the average, then measure it.
