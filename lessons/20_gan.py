# %% [markdown]
# # 20 · A generative adversarial network
#
# Two networks play against each other. The generator turns noise into images. The discriminator is shown real and
# generated images and says which is which. Each learns from the other: the discriminator gets better at telling, the
# generator at not being told. If all goes well, new images come out that look like the real ones, and one may hope to
# use them as further training data.
#
# This lesson derives the losses, checks on one dimension what the best discriminator is, trains a small GAN on
# handwritten digits of 8×8 pixels, looks for what it leaves out, and then measures, with several seeds, whether a
# classifier with few real images gains from generated ones.
#
# Lecture notes §1.1.2, neural-based transformations; Goodfellow et al. 2014; with classes, Mirza and Osindero 2014.

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, nn, ops, optim, training, viz
from minidl.data import augment

this = course.lesson("20 · A generative adversarial network")

# %% [markdown]
# ## The game
#
# The discriminator gives a number $a(x)$, the logit, and $D(x) = \sigma(a(x)) = 1 / (1 + e^{-a(x)})$ is its probability
# that $x$ is real. It maximizes, and the generator $G$ minimizes,
#
# $$V(D, G) = \mathbb{E}_{x \sim p} \ln D(x) + \mathbb{E}_z \ln (1 - D(G(z))).$$
#
# Let $a_r$ be the logit of a real image and $a_g$ that of a generated one. With $\ln D = -\ln(1 + e^{-a})$ and
# $\ln(1 - D) = -\ln(1 + e^{a})$, the loss of the discriminator and two losses of the generator are
#
# | loss | | derivative |
# |---|---|---|
# | discriminator | $\ln(1 + e^{-a_r}) + \ln(1 + e^{a_g})$ | $D_r - 1$ and $D_g$ |
# | generator, minimax | $-\ln(1 + e^{a_g})$ | $-D_g$ |
# | generator, non-saturating | $\ln(1 + e^{-a_g})$ | $D_g - 1$ |
#
# In the beginning the discriminator sees at once what is generated: $D_g$ is near 0. Then the minimax loss has hardly
# any derivative, just when the generator has most to learn. The non-saturating loss, $-\ln D_g$, wants the same and has
# its largest derivative there.

# %%
a = np.linspace(-6, 6, 121)
D = 1 / (1 + np.exp(-a))
by_hand = {
    "minimax": (-np.log(1 + np.exp(a)), -D),
    "non-saturating": (np.log(1 + np.exp(-a)), D - 1),
}


def minimax(a):
    return -ops.softplus(a)


def non_saturating(a):
    return ops.softplus(-a)


def discriminator_loss(a_real, a_generated):
    return (ops.softplus(-a_real) + ops.softplus(a_generated)).mean()


for name, loss in (("minimax", minimax), ("non-saturating", non_saturating)):
    logits = ml.Tensor(a, requires_grad=True)
    values = loss(logits)
    values.backward(np.ones_like(a))
    off = max(np.abs(values.numpy() - by_hand[name][0]).max(), np.abs(logits.grad - by_hand[name][1]).max())
    print(f"{name:15s} loss and derivative: largest difference {off:.1e}")
    np.testing.assert_allclose(values.numpy(), by_hand[name][0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(logits.grad, by_hand[name][1], rtol=1e-12, atol=1e-14)
    ml.check_gradients(loss, a)
ml.check_gradients(discriminator_loss, a, a[::-1].copy())
print("finite differences agree")
print(f"at D = {D[20]:.3f} the derivatives are {-D[20]:.3f} (minimax) and {D[20] - 1:.3f} (non-saturating)")

figure = viz.titled_figure(
    9.0, 3.9, "Two losses for one wish", "the derivative with respect to the logit, by what D says"
)
left, right = (viz.plain(axes) for axes in figure.subplots(1, 2))
for (name, (loss, derivative)), color in zip(by_hand.items(), (viz.INK, viz.ACCENT), strict=True):
    left.plot(D, loss, color=color, linewidth=2, label=name)
    right.plot(D, derivative, color=color, linewidth=2, label=name)
left.set_title("loss of the generator", loc="left", fontsize=10, fontweight="bold", color=viz.INK)
right.set_title("its derivative", loc="left", fontsize=10, fontweight="bold", color=viz.INK)
for axes in (left, right):
    axes.set_xlabel("D of a generated image", fontsize=8.5, color=viz.INK)
right.legend(frameon=False, fontsize=9)
this.show(figure, "20_gan_losses")

# %% [markdown]
# ## The best discriminator
#
# Let the generated images have the density $q$. For a given $x$ the discriminator wants the largest
# $p \ln D + q \ln(1 - D)$. The derivative $p / D - q / (1 - D)$ is zero at
#
# $$D^*(x) = \frac{p(x)}{p(x) + q(x)}, \qquad V(D^*, G) = -2 \ln 2 + 2\, \mathrm{JSD}(p, q),$$
#
# with the Jensen–Shannon divergence, which is zero exactly if $q = p$. In one dimension all of this can be seen: $p$
# has two humps, $q$ is one broad normal density, and a small network is trained to tell samples of the two apart.


# %%
def normal(x, mean, deviation):
    return np.exp(-((x - mean) ** 2) / (2 * deviation**2)) / (deviation * np.sqrt(2 * np.pi))


xs = np.linspace(-5, 5, 501)
p = 0.5 * normal(xs, -1.5, 0.5) + 0.5 * normal(xs, 1.0, 0.7)
q = normal(xs, 0.0, 1.4)
best = p / (p + q)

ml.manual_seed(0)
rng = np.random.default_rng(0)
network = models.mlp([1, 32, 32, 1], nn.Tanh)
steps = 300 if this.quick else 1200
optimizer = optim.Adam(network, lr=optim.schedules.Cosine(0.01, steps, final=0.0005))
for _ in range(steps):
    hump = rng.random(256) < 0.5
    real = np.where(hump, rng.normal(-1.5, 0.5, 256), rng.normal(1.0, 0.7, 256)).astype(np.float32)[:, None]
    generated = rng.normal(0.0, 1.4, (256, 1)).astype(np.float32)
    optimizer.zero_grad()
    discriminator_loss(network(ml.Tensor(real)), network(ml.Tensor(generated))).backward()
    optimizer.step()
logit = network(ml.Tensor(xs.astype(np.float32)[:, None])).numpy()[:, 0].astype(np.float64)
trained = 1 / (1 + np.exp(-logit))

h = xs[1] - xs[0]
distance = h * np.sum(0.5 * (p + q) * np.abs(trained - best))
middle = 0.5 * (p + q)
divergence = 0.5 * h * np.sum(p * np.log(p / middle)) + 0.5 * h * np.sum(q * np.log(q / middle))
value = {
    name: -h * np.sum(p * np.logaddexp(0, -a) + q * np.logaddexp(0, a))
    for name, a in (("D*", np.log(p / q)), ("trained", logit))
}
print(f"trained discriminator and D*: mean difference {distance:.3f}")
print(f"V(D*) = {value['D*']:.5f}, −2 ln 2 + 2 JSD = {-2 * np.log(2) + 2 * divergence:.5f}, V(trained) = ", end="")
print(f"{value['trained']:.5f}")
np.testing.assert_allclose(value["D*"], -2 * np.log(2) + 2 * divergence, atol=1e-3)
assert distance < 0.05
assert value["trained"] < value["D*"], "no discriminator is better than D*"

figure = viz.titled_figure(
    8.0, 4.0, "The best discriminator is p / (p + q)", f"trained in {steps} steps of 256 samples"
)
axes = viz.plain(figure.subplots())
axes.fill_between(xs, p, color=viz.ACCENT, alpha=0.15, linewidth=0, label="p, real")
axes.fill_between(xs, q, color=viz.INK, alpha=0.12, linewidth=0, label="q, generated")
axes.plot(xs, best, color=viz.INK, linewidth=1.2, linestyle=(0, (4, 2)), label="D*")
axes.plot(xs, trained, color=viz.ACCENT, linewidth=2, label="D, trained")
axes.axhline(0.5, color=viz.FAINT, linewidth=0.8)
axes.set_xlabel("x", fontsize=8.5, color=viz.INK)
axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
axes.set_ylim(0, 1.1)
this.show(figure, "20_gan_best_discriminator")

# %% [markdown]
# ## The networks
#
# Both are told the class, as a one-hot vector: the generator, which digit to draw, and the discriminator, which digit
# it is said to be. So the generated images have labels. Images of 64 pixels need no convolutions. (Larger ones would:
# `nn.ConvTranspose2d` in the generator, exercise 4.) Batch normalization in the generator follows Radford et al. 2016;
# without it many more steps are needed.

# %%
NOISE, CLASSES = 16, 10
digits = data.load("digits")


def one_hot(labels):
    return np.eye(CLASSES, dtype=np.float32)[labels]


class Generator(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(
            nn.Dense(NOISE + CLASSES, 128), nn.BatchNorm(128), nn.ReLU(),
            nn.Dense(128, 128), nn.BatchNorm(128), nn.ReLU(),
            nn.Dense(128, 64, init="lecun_normal"), nn.Sigmoid(),
            nn.Unflatten((8, 8, 1)),
        )  # fmt: skip

    def forward(self, z, condition):
        return self.body(ops.concatenate([z, condition], axis=1))


class Discriminator(nn.Module):
    def __init__(self):
        self.flatten = nn.Flatten()
        self.body = nn.Sequential(
            nn.Dense(64 + CLASSES, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3),
            nn.Dense(128, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3),
            nn.Dense(128, 1),
        )  # fmt: skip

    def forward(self, x, condition):
        return self.body(ops.concatenate([self.flatten(x), condition], axis=1))


def draw(generator, conditions, seed=1):
    """Return one generated image for each condition."""
    z = np.random.default_rng(seed).standard_normal((len(conditions), NOISE), dtype=np.float32)
    with nn.evaluating(generator):
        return generator(ml.Tensor(z), conditions).numpy()


# %% [markdown]
# ## Training: two optimizers in turn
#
# First a step of the discriminator, for which the generated images are constants (`detach`). Then a step of the
# generator: its gradient comes back through the discriminator, whose weights stay, because only the optimizer of the
# generator makes a step. `zero_grad` forgets what arrived at the other network. Adam with $\beta_1 = 0.5$ is the custom
# for GANs (Radford et al. 2016): the goal moves, and old gradients mislead. Dropout keeps the discriminator from
# knowing the real images by heart.


# %%
def train_gan(x, y, steps, seed=0, loss=non_saturating, conditional=True, batch=32, turns=1, watch=None):
    """Return a generator of images like x, and the losses of both networks; `turns` of the generator for each of D."""
    ml.manual_seed(seed)
    rng = np.random.default_rng(seed)
    generator, discriminator = Generator(), Discriminator()
    g_optimizer = optim.Adam(generator, lr=0.002, betas=(0.5, 0.999))
    d_optimizer = optim.Adam(discriminator, lr=0.002, betas=(0.5, 0.999))
    losses = []
    for step in range(steps):
        if watch:
            watch(step, generator)
        rows = rng.integers(len(x), size=batch)
        condition = one_hot(y[rows]) * conditional  # all zeros: no class is told

        z = rng.standard_normal((batch, NOISE), dtype=np.float32)
        generated = generator(ml.Tensor(z), condition).detach()
        d_optimizer.zero_grad()
        d_loss = discriminator_loss(discriminator(x[rows], condition), discriminator(generated, condition))
        d_loss.backward()
        d_optimizer.step()

        for _ in range(turns):
            z = rng.standard_normal((batch, NOISE), dtype=np.float32)
            g_optimizer.zero_grad()
            g_loss = loss(discriminator(generator(ml.Tensor(z), condition), condition)).mean()
            g_loss.backward()
            g_optimizer.step()
        losses.append((d_loss.item(), g_loss.item()))
    if watch:
        watch(steps, generator)
    return generator, np.array(losses)


# %% [markdown]
# A classifier, trained on the real images, serves as a judge: is an image that shall be a 3 a 3? And how different are
# the images of one class: the standard deviation of a pixel over the class, averaged, relative to that of the real
# images.

# %%
ml.manual_seed(0)
judge = models.mlp([64, 128, 10])
training.Trainer(judge, optim.Adam(judge, lr=0.003), progress=False).fit(
    data.Loader(digits.train_x, digits.train_y, 64, seed=0), epochs=8
)


def classes_of(x, network=judge):
    return network(ml.Tensor(x)).numpy().argmax(axis=1)


def spread(x, y):
    return np.mean([x[y == label].std(axis=0).mean() for label in range(CLASSES)])


print(f"the judge is right on {np.mean(classes_of(digits.test_x) == digits.test_y):.1%} of the real test images")

wanted = np.repeat(np.arange(CLASSES), 30)
steps = 400 if this.quick else 1600
moments = (0, 100, 250, steps) if this.quick else (0, 100, 300, 700, steps)
snapshots = {}


def watch(step, generator):
    if step in moments:
        snapshots[step] = draw(generator, one_hot(wanted))


generator, losses = train_gan(digits.train_x, digits.train_y, steps, watch=watch)
for step, drawn in snapshots.items():
    share = np.mean(classes_of(drawn) == wanted)
    relative = spread(drawn, wanted) / spread(digits.train_x, digits.train_y)
    print(f"step {step:5d}: {share:4.0%} show the wanted digit, spread within a class {relative:.2f} of the real one")
tail = losses[-200:].mean(axis=0)
print(f"losses over the last 200 steps: discriminator {tail[0]:.2f} (at D = 1/2: {2 * np.log(2):.2f}), ", end="")
print(f"generator {tail[1]:.2f} (at D = 1/2: {np.log(2):.2f})")


# %%
def mosaic(x, columns):
    """Images, the same number of each class, as one picture: a row for each class."""
    tiles = x.reshape(CLASSES, -1, 8, 8)[:, :columns]
    framed = np.pad(tiles, ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=0.35)
    return framed.transpose(0, 2, 1, 3).reshape(CLASSES * 9, columns * 9)


def show_mosaic(axes, x, title, columns=6):
    axes.imshow(mosaic(x, columns), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10, color=viz.INK)
    axes.set_axis_off()


def some_of_each(x, y, number):
    return np.concatenate([x[y == label][:number] for label in range(CLASSES)])


figure = viz.titled_figure(
    11.5, 6.6, "Digits out of noise", "the same noise at each moment; a row for each class that was asked for"
)
upper, lower = figure.subfigures(2, 1, height_ratios=(2.1, 1))
cells = upper.subplots(1, len(moments) + 1)
for cell, (step, drawn) in zip(cells, snapshots.items(), strict=False):
    show_mosaic(cell, drawn, f"step {step}")
show_mosaic(cells[-1], some_of_each(digits.train_x, digits.train_y, 6), "real")
axes = viz.plain(lower.subplots())
for column, (name, color, level) in enumerate(
    (("discriminator", viz.INK, 2 * np.log(2)), ("generator", viz.ACCENT, np.log(2)))
):
    smooth = np.convolve(losses[:, column], np.ones(20) / 20, "valid")
    axes.plot(np.arange(len(smooth)) + 10, smooth, color=color, linewidth=1.6, label=name)
    axes.axhline(level, color=color, linewidth=0.8, linestyle=(0, (4, 3)))
axes.set_xlabel("step; dashed: the losses where D = 1/2 everywhere", fontsize=8.5, color=viz.INK)
axes.set_ylabel("loss, mean of 20 steps", fontsize=8.5, color=viz.INK)
axes.legend(frameon=False, fontsize=9)
this.show(figure, "20_gan_training")

# %% [markdown]
# ## What is left out
#
# A generator is not punished for what it does not draw. One perfect digit, again and again, may fool the discriminator
# for a while: mode collapse. Without conditions, the judge counts which classes come out. Two generators: one as above,
# and one with the minimax loss that makes five steps for each of the discriminator, and so runs after its latest
# weakness (the discriminator makes a third as many steps as in the first game). $e^H$, with the entropy $H$ of the
# shares, is the effective number of classes: 10 if all are equally frequent, 1 if there is only one.


# %%
def shares_of(x):
    return np.bincount(classes_of(x), minlength=CLASSES) / len(x)


def effective(shares):
    return np.exp(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))


steps = 180 if this.quick else 900
no_class = np.zeros((1000, CLASSES), np.float32)
careful, _ = train_gan(digits.train_x, digits.train_y, steps, conditional=False)
greedy, _ = train_gan(digits.train_x, digits.train_y, steps // 3, conditional=False, loss=minimax, turns=5)
found = {
    "real images": digits.train_x,
    "one step each": draw(careful, no_class),
    "five for one": draw(greedy, no_class),
}
shares = {name: shares_of(x) for name, x in found.items()}
for name, share in shares.items():
    spread_all = found[name].std(axis=0).mean() / digits.train_x.std(axis=0).mean()
    print(f"{name:14s} effective number of classes {effective(share):4.1f}, spread of the pixels {spread_all:.2f}")

figure = viz.titled_figure(10.5, 5.8, "Mode collapse", "the classes of 1,000 generated images, as the judge sees them")
for part, (name, share) in zip(figure.subfigures(1, 3), shares.items(), strict=True):
    picture, bars = part.subplots(2, 1, height_ratios=(1.9, 1))
    show_mosaic(picture, found[name][:120], f"{name}: {effective(share):.1f} of 10 classes", columns=12)
    viz.plain(bars).bar(range(CLASSES), share, color=viz.ACCENT)
    bars.set_xticks(range(CLASSES))
    bars.set_ylim(0, max(0.3, 1.05 * max(s.max() for s in shares.values())))
this.show(figure, "20_gan_collapse")

# %% [markdown]
# ## Does a classifier gain?
#
# Now the question of augmentation. Only a few images of each class are real. A conditional GAN is trained on these few
# and on nothing else: a generator that had seen more would carry more real images in by the back door. Then the
# same classifier is trained, with as many steps, on batches of
#
# - real images only,
# - real images, rotated, shifted and scaled a little (`minidl/data/augment/geometry.py`),
# - real and generated images, half and half,
#
# and tested on all test images. Each seed has other real images, another GAN and other initial weights.

# %%
PER_CLASS = 5
seeds = range(2) if this.quick else range(5)
gan_steps, epochs = (120, 100) if this.quick else (500, 200)
change = augment.affine(degrees=10, scale=0.1, shift=0.1)
results = {"real": [], "real, changed": [], "real + generated": []}


def accuracy(x, y, seed, epochs, changed=None):
    ml.manual_seed(seed)
    network = models.mlp([64, 64, 10])
    loader = data.Loader(x, y, 50, seed=seed, augment=changed, prefetch=False)
    training.Trainer(network, optim.Adam(network, lr=0.003), progress=False).fit(loader, epochs=epochs)
    return np.mean(classes_of(digits.test_x, network) == digits.test_y)


for seed in seeds:
    order = np.random.default_rng(seed).permutation(len(digits.train_x))
    few_x = some_of_each(digits.train_x[order], digits.train_y[order], PER_CLASS)
    few_y = np.repeat(np.arange(CLASSES), PER_CLASS)
    own, _ = train_gan(few_x, few_y, gan_steps, seed)
    labels = np.tile(few_y, 10)
    generated = draw(own, one_hot(labels), seed)
    both_x, both_y = np.concatenate([np.tile(few_x, (10, 1, 1, 1)), generated]), np.concatenate([labels, labels])
    results["real"].append(accuracy(few_x, few_y, seed, epochs))
    results["real, changed"].append(accuracy(few_x, few_y, seed, epochs, change))
    results["real + generated"].append(accuracy(both_x, both_y, seed, epochs // 20))
table = {name: np.array(values) for name, values in results.items()}
print(f"{len(seeds)} seeds, {PER_CLASS} real images of each class; accuracy on {len(digits.test_x)} test images")
for name, values in table.items():
    gain = values - table["real"]
    print(f"{name:17s} {values.mean():.1%}   difference to real only, seed by seed: ", end="")
    print("  ".join(f"{100 * value:+.1f}" for value in gain))

figure = viz.titled_figure(
    10.5, 4.4, f"{PER_CLASS} real images of each class", "left: those of the last seed and what its GAN makes of them"
)
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
one, two = left.subplots(1, 2)
show_mosaic(one, few_x, "real", columns=PER_CLASS)
show_mosaic(two, draw(own, one_hot(few_y), seed), "generated", columns=PER_CLASS)
axes = viz.plain(right.subplots())
for i, values in enumerate(table.values()):
    axes.plot(values, np.full(len(values), i), "o", color=viz.ACCENT, alpha=0.4, markersize=6)
    axes.plot(values.mean(), i, "|", color=viz.INK, markersize=22, markeredgewidth=2)
axes.set_yticks(range(len(table)), list(table))
axes.set_ylim(len(table) - 0.5, -0.5)
axes.set_xlabel("test accuracy; a dot for each seed, a line for the mean", fontsize=8.5, color=viz.INK)
axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
this.show(figure, "20_gan_classifier")

# %% [markdown]
# ## Take away
#
# - The discriminator is a loss function that is learned along: the best one is $p / (p + q)$, and the generator then
#   minimizes a distance between $p$ and $q$. Take the non-saturating loss: it has a derivative when one is needed.
# - Losses near $2 \ln 2$ and $\ln 2$ say that neither network is winning, not that the images are good. Look at
#   samples, and count what is missing: with the minimax loss and five steps of the generator for each of the
#   discriminator, the effective number of classes is below five.
# - In the full form the classifier does not gain from generated images: 84.8 % against 85.2 % with the real ones alone,
#   better with two seeds and worse with three. What the GAN knows, it knows from the same few images. Rotations and
#   shifts bring in something new, that a digit stays what it is when it is turned or moved a little: 86.8 %, better
#   with four seeds of five. Five seeds are too few to be sure of differences as small as these.
#
# ## Exercises
#
# 1. Let p and q be normal densities of deviation 1 whose means are d apart. Draw $V(D^*, G)$ against d. Where does it
#    say in which direction to go?
# 2. Mao et al. (2017) let the discriminator minimize $(a_r - 1)^2 + a_g^2$ and the generator $(a_g - 1)^2$, without a
#    sigmoid. What is the best $a(x)$? Check the derivatives.
# 3. Keep the noise and let the condition go in small steps from one class to another. What comes out in between?
# 4. Write the generator with `nn.ConvTranspose2d`, from 2×2 pixels over 4×4 to 8×8. How many parameters has it, and how
#    does it do?
