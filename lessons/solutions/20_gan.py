# %% [markdown]
# # 20 · A generative adversarial network: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, nn, ops, optim, training, viz

this = course.lesson("20 · A generative adversarial network: solutions")

# %% [markdown]
# ## 1 · Two humps that do not meet
#
# *Let p and q be normal densities of deviation 1 whose means are d apart. Draw what the best discriminator leaves to
# the generator, $V(D^*, G) = -2 \ln 2 + 2\,\mathrm{JSD}(p, q)$, against d. Where does it say in which direction to go?*
#
# At d = 0 the value is $-2 \ln 2$. At d = 8 it is nearly 0 and flat: the best discriminator tells the two apart
# almost without an error, and to come a little closer changes nothing. The slope is largest in between. That is the
# minimax loss without a derivative again, seen from the side of the densities.


# %%
def normal(x, mean):
    return np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi)


xs = np.linspace(-8, 16, 4801)
h = xs[1] - xs[0]
distances = np.linspace(0, 8, 81)
values = []
for d in distances:
    p, q = normal(xs, 0), normal(xs, d)
    values.append(h * np.sum(p * np.log(p / (p + q)) + q * np.log(q / (p + q))))
values = np.array(values)
slope = np.gradient(values, distances, edge_order=2)
print(f"V(D*) at d = 0: {values[0]:.4f} (−2 ln 2 = {-2 * np.log(2):.4f}), at d = 8: {values[-1]:.4f}")
print(f"slope at d = 0: {slope[0]:.3f}, at d = {distances[slope.argmax()]:.1f}: {slope.max():.3f}, ", end="")
print(f"at d = 8: {slope[-1]:.4f}")
np.testing.assert_allclose(values[0], -2 * np.log(2), rtol=1e-9)
assert abs(values[-1]) < 1e-2
assert slope[-1] < 0.01 * slope.max()

figure = viz.titled_figure(7.5, 3.8, "What is left to the generator", "two normal densities, their means d apart")
axes = viz.plain(figure.subplots())
axes.plot(distances, values, color=viz.ACCENT, linewidth=2, label="V(D*, G)")
axes.plot(distances, slope, color=viz.INK, linewidth=1.4, label="its slope")
axes.set_xlabel("d", fontsize=8.5, color=viz.INK)
axes.legend(frameon=False, fontsize=9)
this.show(figure, "20_gan_solutions_distance")

# %% [markdown]
# ## 2 · Least squares
#
# *Mao et al. (2017) let the discriminator minimize $(a_r - 1)^2 + a_g^2$ and the generator $(a_g - 1)^2$, without a
# sigmoid. What is the best $a(x)$? Check the derivatives.*
#
# For a given x the discriminator wants the smallest $p (a - 1)^2 + q a^2$. Its derivative $2p(a - 1) + 2qa$ is zero at
# $a^* = p / (p + q)$: the same function as before. The derivative of the generator's loss, $2(a_g - 1)$, does not
# vanish where the discriminator is sure ($a_g = 0$): it is −2 there.


# %%
def least_squares(a_real, a_generated):
    return ((a_real - 1) ** 2 + a_generated**2).mean()


p, q = normal(xs[1000:3000:50], 0), normal(xs[1000:3000:50], 1.5)
grid = np.linspace(0, 1, 10_001)
best = grid[(p[:, None] * (grid - 1) ** 2 + q[:, None] * grid**2).argmin(axis=1)]
np.testing.assert_allclose(best, p / (p + q), atol=1e-4)
print(f"least squares: the best a and p / (p + q) differ by {np.abs(best - p / (p + q)).max():.0e} (grid: 1e-04)")
rng = np.random.default_rng(0)
ml.check_gradients(least_squares, rng.standard_normal(8), rng.standard_normal(8))
a = ml.Tensor(np.zeros(1), requires_grad=True)
((a - 1) ** 2).sum().backward()
assert a.grad[0] == -2
print("finite differences agree; the generator's derivative at a = 0 is", a.grad[0])

# %% [markdown]
# ## 3 · On the way from one digit to another
#
# *Train the conditional GAN. Keep the noise and let the condition go from one class to another. What comes out in
# between?*
#
# The generator is a continuous function: the image changes a little at a time. In between it was never asked for
# anything, and the judge, who must decide, changes the name somewhere on the way, now and then by way of a third class.
# Nor is the end always what was asked for: the generator draws some digits badly.

# %%
NOISE, CLASSES = 16, 10
digits = data.load("digits")


def one_hot(labels):
    return np.eye(CLASSES, dtype=np.float32)[labels]


def dense_generator():
    return nn.Sequential(
        nn.Dense(NOISE + CLASSES, 128), nn.BatchNorm(128), nn.ReLU(),
        nn.Dense(128, 128), nn.BatchNorm(128), nn.ReLU(),
        nn.Dense(128, 64, init="lecun_normal"), nn.Sigmoid(), nn.Unflatten((8, 8, 1)),
    )  # fmt: skip


def train_gan(generator, steps):
    discriminator = nn.Sequential(
        nn.Dense(64 + CLASSES, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Dense(128, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(128, 1),
    )  # fmt: skip
    g_optimizer = optim.Adam(generator, lr=0.002, betas=(0.5, 0.999))
    d_optimizer = optim.Adam(discriminator, lr=0.002, betas=(0.5, 0.999))
    rng = np.random.default_rng(0)

    def logits(x, condition):
        return discriminator(ops.concatenate([ops.reshape(x, (len(condition), 64)), condition], axis=1))

    def generate(condition):
        z = rng.standard_normal((len(condition), NOISE), dtype=np.float32)
        return generator(np.concatenate([z, condition], axis=1))

    for _ in range(steps):
        rows = rng.integers(len(digits.train_x), size=32)
        condition = one_hot(digits.train_y[rows])
        d_optimizer.zero_grad()
        real, generated = logits(digits.train_x[rows], condition), logits(generate(condition).detach(), condition)
        (ops.softplus(-real) + ops.softplus(generated)).mean().backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        ops.softplus(-logits(generate(condition), condition)).mean().backward()
        g_optimizer.step()
    return generator.eval()


ml.manual_seed(0)
judge = models.mlp([64, 128, 10])
training.Trainer(judge, optim.Adam(judge, lr=0.003), progress=False).fit(
    data.Loader(digits.train_x, digits.train_y, 64, seed=0), epochs=8
)
generator = train_gan(dense_generator(), 450 if this.quick else 1200)

STEPS = 11
rng = np.random.default_rng(2)
paths, names = [], []
for first, second in ((1, 7), (3, 8), (0, 6), (4, 9)):
    z = np.tile(rng.standard_normal((1, NOISE), dtype=np.float32), (STEPS, 1))
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
    condition = (1 - share) * one_hot([first]) + share * one_hot([second])
    paths.append(generator(np.concatenate([z, condition], axis=1)).numpy())
    names.append(judge(ml.Tensor(paths[-1])).numpy().argmax(axis=1))
    print(f"from {first} to {second}: the judge says", *names[-1])
whole = np.mean([np.abs(path[-1] - path[0]).mean() for path in paths])
step = np.mean([np.abs(np.diff(path, axis=0)).mean() for path in paths])
print(f"mean change of a pixel: {whole:.3f} from end to end, {step:.3f} in one of {STEPS - 1} steps")
assert step < 0.5 * whole

figure = viz.titled_figure(
    10.0, 4.6, "From one digit to another", "the noise stays, the condition moves; above: the judge"
)
for axes, path, said in zip(figure.subplots(len(paths), STEPS), paths, names, strict=True):
    for cell, image, name in zip(axes, path, said, strict=True):
        cell.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        cell.set_title(str(name), fontsize=8.5, pad=2, color=viz.INK)
        cell.set_axis_off()
this.show(figure, "20_gan_solutions_path")

# %% [markdown]
# ## 4 · A generator with transposed convolutions
#
# *Write the generator with `nn.ConvTranspose2d`, from 2×2 pixels over 4×4 to 8×8. How many parameters has it, and how
# does it do?* A window of 4 with a stride of 2 doubles the image and reaches all pixels equally often, so that no
# chequered pattern appears. The dense layer makes the first 2×2 pixels. With fewer than half the parameters it starts
# more slowly (the quick form), but in the full form it draws the wanted digit more often than the dense one.


# %%
def conv_generator():
    return nn.Sequential(
        nn.Dense(NOISE + CLASSES, 128), nn.BatchNorm(128), nn.ReLU(), nn.Unflatten((2, 2, 32)),
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1, init="lecun_normal"), nn.Sigmoid(),
    )  # fmt: skip


ml.manual_seed(0)
wanted = np.repeat(np.arange(CLASSES), 30)
z = np.random.default_rng(1).standard_normal((len(wanted), NOISE), dtype=np.float32)
inputs = np.concatenate([z, one_hot(wanted)], axis=1)
both = {"dense": generator, "transposed": train_gan(conv_generator(), 450 if this.quick else 1200)}
right = {}
for name, network in both.items():
    drawn = network(inputs)
    assert drawn.shape == (len(wanted), 8, 8, 1)
    right[name] = np.mean(judge(drawn).numpy().argmax(axis=1) == wanted)
    size = sum(parameter.size for parameter in network.parameters())
    print(f"{name:10s} {size:6,} parameters, {right[name]:.0%} show the wanted digit")
assert min(right.values()) > 0.25, "far more than the tenth that are right by chance"
