# %% [markdown]
# # 12 · Normalization, in seven ways
#
# Each layer of a network learns from what the layer before it puts out. If those values are all near 0, or far too
# large, or move while the layers before are learning, it learns badly. Normalization puts them back to mean 0 and
# variance 1, as a part of the network, so that the gradient knows of it.
#
# The seven ways of the notes differ in one question: over which values is the mean taken? Five of them normalize the
# activations, two the weights. Here each is written by hand in a line or two and compared with
# `minidl/nn/normalization.py` and `minidl/nn/reparametrization.py`. Then come the two things that are special about
# batch normalization, its gradient and its running statistics, and what all this does to a deep network and to the rate
# with which it can be trained.
#
# Sources: Lecture notes §1.1.5; Ioffe and Szegedy 2015 (batch); Ba et al. 2016 (layer); Ulyanov et al. 2016 (instance);
# Wu and He 2018 (group); Luo et al. 2018 (switchable); Miyato et al. 2018 (spectral); Qiao et al. 2019 (weights).

# %%
import numpy as np
from matplotlib.patches import Rectangle

import minidl as ml
from minidl import course, data, nn, optim, training, viz

this = course.lesson("12 · Normalization, in seven ways")

# %% [markdown]
# ## Five ways to normalize activations
#
# Images are $(N, H, W, C)$: sample, row, column, channel. All five compute
#
# $$y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta$$
#
# with a learned scale $\gamma$ and shift $\beta$ for each channel and the biased variance
# $\sigma^2 = \frac1m\sum(x-\mu)^2$. They average over
#
# | layer | axes | how many means |
# |---|---|---|
# | BatchNorm | $N, H, W$ | $C$ |
# | LayerNorm | $H, W, C$ | $N$ |
# | InstanceNorm | $H, W$ | $N \cdot C$ |
# | GroupNorm | $H, W$ and the channels of a group | $N \cdot$ groups |
# | SwitchableNorm | a mixture: $\mu = \sum_k w_k \mu_k$, $\sigma^2 = \sum_k w'_k \sigma^2_k$ | |
#
# The mixture is of the instance's, the layer's and the batch's statistics. Its weights are learned, as
# $w = \mathrm{softmax}(\lambda)$ and $w' = \mathrm{softmax}(\lambda')$.

# %%
EPS, GROUPS = 1e-5, 2


def normalized(x, axes):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axes, keepdims=True) + EPS)


def group_norm(x):
    n, h, w, c = x.shape
    return normalized(x.reshape(n, h, w, GROUPS, c // GROUPS), (1, 2, 4)).reshape(x.shape)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def switchable_norm(x, mean_logits, variance_logits):
    axes = (1, 2), (1, 2, 3), (0, 1, 2)  # instance, layer, batch
    mean = sum(w * x.mean(over, keepdims=True) for w, over in zip(softmax(mean_logits), axes, strict=True))
    variance = sum(w * x.var(over, keepdims=True) for w, over in zip(softmax(variance_logits), axes, strict=True))
    return (x - mean) / np.sqrt(variance + EPS)


generator = np.random.default_rng(0)
x = generator.normal(3, 2, (4, 5, 5, 6)) * generator.uniform(0.5, 2, 6)
gamma, beta = generator.uniform(0.5, 1.5, 6), generator.standard_normal(6)
mean_logits, variance_logits = generator.standard_normal((2, 3))

BY_HAND = {
    "BatchNorm": normalized(x, (0, 1, 2)),
    "LayerNorm": normalized(x, (1, 2, 3)),
    "InstanceNorm": normalized(x, (1, 2)),
    "GroupNorm": group_norm(x),
    "SwitchableNorm": switchable_norm(x, mean_logits, variance_logits),
}
LAYERS = {
    "BatchNorm": nn.BatchNorm(6),
    "LayerNorm": nn.LayerNorm(6),
    "InstanceNorm": nn.InstanceNorm(6),
    "GroupNorm": nn.GroupNorm(GROUPS, 6),
    "SwitchableNorm": nn.SwitchableNorm(6),
}
for layer in LAYERS.values():
    layer.astype(np.float64)  # so that only rounding can differ
LAYERS["SwitchableNorm"].mean_logits.data = mean_logits
LAYERS["SwitchableNorm"].variance_logits.data = variance_logits

print("largest difference, by hand − minidl")
for name, layer in LAYERS.items():
    layer.gamma.data, layer.beta.data = gamma, beta
    by_hand, from_minidl = gamma * BY_HAND[name] + beta, layer(ml.Tensor(x)).data
    np.testing.assert_allclose(from_minidl, by_hand, rtol=1e-11, atol=1e-12)
    print(f"{name:22} {abs(from_minidl - by_hand).max():.1e}")

# %% [markdown]
# ## Two ways to normalize weights
#
# A weight is seen as a matrix $W$ of shape (out, rest): each row holds what feeds one output, for a convolution one
# filter. **Weight standardization** gives each row mean 0 and deviation 1, **spectral normalization** divides the whole
# matrix by its largest singular value:
#
# $$\hat W_{i,j} = \frac{W_{i,j}-\mu_{W_i}}{\sigma_{W_i}+\epsilon}, \qquad
# W \leftarrow \frac{W}{\sigma_{max}(W)}, \quad \sigma_{max}(W) = \max_v \frac{\|Wv\|}{\|v\|}.$$
#
# The largest singular value comes from a power iteration, $v \leftarrow W^T u / \|W^T u\|$ and
# $u \leftarrow W v / \|W v\|$, from a random $u$; then $\sigma = u^T W v$. minidl makes 300 such iterations when the
# layer is built and one more in each training step.

# %%
ml.manual_seed(0)
conv = nn.Conv2d(3, 8, 3, bias=False).astype(np.float64)
W = conv.weight.data.reshape(-1, 8).T  # (out, rest)


def power_iteration(W, u, iterations):
    for _ in range(iterations):
        v = W.T @ u / np.linalg.norm(W.T @ u)
        u = W @ v / np.linalg.norm(W @ v)
    return u @ W @ v


sigma = power_iteration(W, np.random.default_rng(1).standard_normal(8), 300)
standardized = (W - W.mean(axis=1, keepdims=True)) / (W.std(axis=1, keepdims=True) + EPS)

spectral = nn.SpectralNorm(conv, generator=np.random.default_rng(1)).eval()
weight = nn.WeightStandardization(conv)
for name, layer, by_hand in (
    ("SpectralNorm", spectral, W / sigma),
    ("WeightStandardization", weight, standardized),
):
    from_minidl = layer.reparametrized(conv.weight).data.reshape(-1, 8).T
    np.testing.assert_allclose(from_minidl, by_hand, rtol=1e-7)  # u and v are kept as float32
    print(f"{name:22} {abs(from_minidl - by_hand).max():.1e}")

# %% [markdown]
# **Why the root.** The notes divide $W$ by the largest eigenvalue $\lambda$ of the weights' covariance. With
# $W = U \Sigma V^T$ the covariance (up to a constant) is $W W^T = U \Sigma^2 U^T$: its eigenvalues are the *squares* of
# the singular values. So $\sigma_{max} = \sqrt{\lambda_{max}}$. Divided by $\lambda_{max}$ itself, the matrix would
# stretch vectors by up to $1/\sigma_{max}$, and not by at most 1.

# %%
largest = np.linalg.eigvalsh(W @ W.T).max()
norm = np.linalg.svd(W, compute_uv=False).max()
print(f"singular value {norm:.4f}, by power iteration {sigma:.4f}, root of the eigenvalue {np.sqrt(largest):.4f}")
print("spectral norm of")
for name, matrix in (("W", W), ("W / √λ", W / np.sqrt(largest)), ("W / λ, the notes", W / largest)):
    print(f"  {name:18} {np.linalg.norm(matrix, 2):.4f}")
np.testing.assert_allclose([sigma, np.sqrt(largest)], norm, rtol=1e-6)
np.testing.assert_allclose(np.linalg.norm(W / largest, 2), 1 / norm, rtol=1e-10)

# %% [markdown]
# ## The picture of the axes
#
# Each small square is a channel of a sample. Blue is what shares one mean and one variance.

# %%
samples, channels = 4, 6
SHARED = {  # name: (what shares statistics, how many such sets)
    "BatchNorm": (np.s_[:, 0], f"{channels} channels"),
    "LayerNorm": (np.s_[0, :], f"{samples} samples"),
    "InstanceNorm": (np.s_[0, 0], f"{samples * channels} instances"),
    "GroupNorm, 2 groups": (np.s_[0, :3], f"{samples * 2} groups"),
}
figure = viz.titled_figure(
    10.4, 3.1, "What is averaged together", "blue: one set of values that share their statistics"
)
for axes, (name, (part, sets)) in zip(figure.subplots(1, 4), SHARED.items(), strict=True):
    together = np.zeros((samples, channels))
    together[part] = 1
    for row in range(samples):
        for column in range(channels):
            color = viz.ACCENT if together[row, column] else "#e3e6ea"
            axes.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, color=color, linewidth=0))
    axes.set(xlim=(0, channels), ylim=(samples, 0), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(name, fontsize=10.5, fontweight="bold", color=viz.INK, loc="left")
    axes.set_xlabel(f"channels →\n{sets}, each with its own mean", fontsize=8.5)
    axes.set_ylabel("samples" if name == "BatchNorm" else "", fontsize=8.5)
this.show(figure, "12_normalization_axes")

# %% [markdown]
# Of these four only BatchNorm has a column that crosses the samples. All that is good and bad about it comes from
# there: it needs a batch, and in evaluation it needs to remember one.
#
# ## The gradient through batch normalization
#
# The mean and the variance depend on $x$, so they take part in the derivative. With $\hat x = (x-\mu_B)/s$,
# $s = \sqrt{\sigma_B^2+\epsilon}$, and $g = \partial L/\partial y$ for the $m$ values of a channel:
#
# $$\frac{\partial L}{\partial x} = \frac{\gamma}{s}\,\big(g - \overline{g} - \hat x\,\overline{g\,\hat x}\big), \qquad
# \frac{\partial L}{\partial \gamma} = \sum g\,\hat x, \qquad \frac{\partial L}{\partial \beta} = \sum g,$$
#
# where the bar is the mean over the batch. The first term is what one would have if $\mu_B$ and $\sigma_B$ were
# constants. The other two take from it what would only shift or stretch the whole batch, which the normalization undoes
# anyway.

# %%
layer = nn.BatchNorm(6).astype(np.float64)
layer.gamma.data, layer.beta.data = gamma, beta
g = np.random.default_rng(1).standard_normal(x.shape)

axes = (0, 1, 2)
x_hat, s = normalized(x, axes), np.sqrt(x.var(axes) + EPS)
if_constant = gamma / s * g
by_hand = gamma / s * (g - g.mean(axes) - x_hat * (g * x_hat).mean(axes))

inputs = ml.Tensor(x, requires_grad=True)
layer(inputs).backward(g)
np.testing.assert_allclose(inputs.grad, by_hand, rtol=1e-9, atol=1e-12)
np.testing.assert_allclose(layer.gamma.grad, (g * x_hat).sum(axes), rtol=1e-9)
np.testing.assert_allclose(layer.beta.grad, g.sum(axes), rtol=1e-9)
print(f"dL/dx: by hand − minidl {abs(inputs.grad - by_hand).max():.1e}")
print("                      sum of dL/dx   sum of dL/dx · x̂   (largest over the channels)")
for name, gradient in (("statistics constant", if_constant), ("through the statistics", by_hand)):
    print(f"{name:22}  {abs(gradient.sum(axes)).max():11.1e}  {abs((gradient * x_hat).sum(axes)).max():17.1e}")

# %% [markdown]
# Both sums vanish (the second up to $\epsilon$): no step can shift or stretch a channel before the normalization. That
# would be in vain.
#
# ## Running statistics
#
# In evaluation a single image has to be judged, and not in the light of its neighbors. So BatchNorm keeps running
# values in training, with the weight $w$ = `momentum` for the newest batch,
#
# $$\mu \leftarrow (1-w)\,\mu + w\,\mu_B, \qquad \sigma^2 \leftarrow (1-w)\,\sigma^2 + w\,\sigma_B^2,$$
#
# from $\mu = 0$ and $\sigma^2 = 1$, and uses these in evaluation. Here the values have mean 3 and variance 4. The last
# column is how far evaluation and training are apart for the same batch.

# %%
layer, w = nn.BatchNorm(1).astype(np.float64), 0.1
mean, variance = 0.0, 1.0
generator = np.random.default_rng(0)
print("batches   running mean   running variance   |training − evaluation|, mean")
for batches in range(1, 101):
    batch = generator.normal(3, 2, (64, 1))
    in_training = layer.train()(ml.Tensor(batch)).data
    mean, variance = (1 - w) * mean + w * batch.mean(), (1 - w) * variance + w * batch.var()
    if batches in (1, 3, 10, 30, 100):
        apart = abs(layer.eval()(ml.Tensor(batch)).data - in_training).mean()
        print(f"{batches:7}   {mean:12.3f}   {variance:16.3f}   {apart:29.3f}")
np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-12)
np.testing.assert_allclose(layer.running_variance.data, variance, rtol=1e-12)
np.testing.assert_allclose(in_training, normalized(batch, 0), rtol=1e-9)

# %% [markdown]
# After a few batches the running values are still on their way from 0 and 1. A network that was trained for only ten
# steps is judged by them nevertheless, and looks worse than it is.
#
# ## A batch of 2 against a batch of 64
#
# In training the output for an image depends on the other images of its batch. Take one image, give it different
# neighbors many times, and look how much its output varies. Group normalization looks at the image alone.

# %%
repeats = 50 if this.quick else 500
generator = np.random.default_rng(0)
image = generator.standard_normal((1, 3, 3, 4))
print("batch size   deviation of one image's output: BatchNorm   GroupNorm")
spreads = {}
for size in (2, 4, 16, 64):
    outputs = {"BatchNorm": [], "GroupNorm": []}
    for _ in range(repeats):
        batch = ml.Tensor(np.concatenate([image, generator.standard_normal((size - 1, 3, 3, 4))]))
        outputs["BatchNorm"].append(nn.BatchNorm(4)(batch).data[0])
        outputs["GroupNorm"].append(nn.GroupNorm(2, 4)(batch).data[0])
    spreads[size] = [np.std(values, axis=0).mean() for values in outputs.values()]
    print(f"{size:10}   {spreads[size][0]:41.3f}   {spreads[size][1]:9.3f}")
assert spreads[2][0] > 4 * spreads[64][0]
assert all(group < 1e-12 for _, group in spreads.values())

# %% [markdown]
# With 64 images the noise is small. With two it is large, although each channel here has 18 values. Behind a dense
# layer a channel of a batch of two has only two values, and then it is worst: of two numbers, normalized, remains
# nothing but which one is larger,
#
# $$\hat x_1 = \frac{x_1-\mu}{\sigma} = \frac{x_1 - x_2}{|x_1 - x_2|} = \pm 1.$$
#
# What does that cost? A network with two hidden dense layers is trained with BatchNorm and with LayerNorm, and with
# both sizes of the batch.

# %%
pairs = np.random.default_rng(0).normal(0, 10, (2, 5))
print("BatchNorm of two rows:")
print(nn.BatchNorm(5)(ml.Tensor(pairs)).data.round(4))

# %%
images = this.images("fashion-mnist")
count, epochs = (200, 3) if this.quick else (1000, 5)
train_x, train_y = images.train_x[:count], images.train_y[:count]
test_x, test_y = images.test_x[:1000], images.test_y[:1000]


def trained(model, optimizer, batch_size, epochs):
    """Return the history of a training; None instead if the loss became infinite or NaN."""
    trainer = training.Trainer(model, optimizer, progress=False)
    loader = data.Loader(train_x, train_y, batch_size, drop_last=True)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return trainer.fit(loader, validation=(test_x, test_y), epochs=epochs)
    except training.NonFiniteLossError:
        return None


def dense_network(depth, normalize):
    """Return a network of hidden layers of 64 with this normalization, or none, before each ReLU."""
    ml.manual_seed(0)
    layers, features = [nn.Flatten()], train_x[0].size
    for _ in range(depth):
        layers += [nn.Dense(features, 64), *([] if normalize is None else [normalize(64)]), nn.ReLU()]
        features = 64
    return nn.initialize(nn.Sequential(*layers, nn.Dense(64, 10)))


print(f"test accuracy after {epochs} epochs of {count} images")
print("batch size   BatchNorm   LayerNorm")
accuracy = {}
for size in (2, 64):
    for normalize in (nn.BatchNorm, nn.LayerNorm):
        model = dense_network(2, normalize)
        history = trained(model, optim.Adam(model), size, epochs)
        accuracy[size, normalize] = history.column("validation_accuracy")[-1]
    print(f"{size:10}   {accuracy[size, nn.BatchNorm]:9.1%}   {accuracy[size, nn.LayerNorm]:9.1%}")
assert accuracy[2, nn.LayerNorm] > accuracy[2, nn.BatchNorm]

# %% [markdown]
# In the full form, on Fashion-MNIST, BatchNorm is right for 44 % of the test images with batches of two, and for 75 %
# with batches of 64. LayerNorm is better with two than with 64, because it makes about 32 times as many steps in an
# epoch.
#
# ## Twenty layers
#
# Why normalize at all? Send a batch through 20 dense layers with ReLU, whose weights are drawn with a deviation that is
# too small: $0.05$, where He's initialization would have $\sqrt{2/100} = 0.14$. Each layer then multiplies the spread
# by about $0.05 / 0.14 = 0.35$. The picture shows the mean and the deviation of what each ReLU puts out.

# %%
WIDTH, DEPTH = 100, 20


def deep(normalize=None, around=None):
    """Return a deep network with this normalization behind each layer, or this one around each layer."""
    generator, layers = np.random.default_rng(0), []
    for _ in range(DEPTH):
        dense = nn.Dense(WIDTH, WIDTH)
        dense.weight.data = generator.normal(0, 0.05, (WIDTH, WIDTH))
        layers += [dense if around is None else around(dense)]
        layers += [] if normalize is None else [normalize(WIDTH)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


ml.manual_seed(0)
NETWORKS = {
    "nothing": deep(),
    "BatchNorm": deep(nn.BatchNorm),
    "LayerNorm": deep(nn.LayerNorm),
    "SpectralNorm": deep(around=nn.SpectralNorm),
    "WeightStandardization": deep(around=nn.WeightStandardization),
    "the same, then LayerNorm": deep(nn.LayerNorm, nn.WeightStandardization),
}
batch = np.random.default_rng(0).standard_normal((64, WIDTH)).astype(np.float32)
ends = {name: float(model(batch).data.std()) for name, model in NETWORKS.items()}
print("deviation of the activations behind 20 layers")
for name, end in ends.items():
    print(f"  {name:26} {end:.1e}")
assert ends["nothing"] < 1e-6
assert all(0.1 < ends[name] < 2 for name in ("BatchNorm", "LayerNorm", "the same, then LayerNorm"))
this.show(viz.activation_statistics(NETWORKS, batch), "12_normalization_layers")

# %% [markdown]
# Without normalization almost nothing arrives. With BatchNorm or LayerNorm every layer puts out the same spread,
# whatever its weights were: a bad initialization does not matter. SpectralNorm limits how far a layer can stretch a
# vector. It does not keep any spread, and here it changes next to nothing, since the largest singular value of such a
# weight is near 1 anyway ($2 \cdot 0.05 \cdot \sqrt{100}$). Weight standardization gives all weights the deviation 1,
# which is seven times what He's initialization has, and the values explode. It needs a normalization of the activations
# behind it, as Qiao et al. put it.
#
# ## A large rate
#
# If the scale of the weights does not matter, a step that is too long does less harm: it makes the weights larger, the
# normalization takes that back, and the gradient with respect to larger weights is smaller (exercise 1). So it should
# be possible to train with larger rates. A network with six hidden layers of 64 is trained by SGD with five rates.

# %%
RATES = (0.01, 0.1, 0.5, 2.0, 8.0)
NORMS = {"nothing": None, "BatchNorm": nn.BatchNorm, "LayerNorm": nn.LayerNorm}
epochs = 5 if this.quick else 10

reached = {}
print(f"test accuracy after {epochs} epochs of {count} images, by rate")
print(f"{'':12}" + "".join(f"{rate:>10g}" for rate in RATES))
for name, normalize in NORMS.items():
    for rate in RATES:
        model = dense_network(6, normalize)
        history = trained(model, optim.SGD(model, rate), 50, epochs)
        reached[name, rate] = 0.0 if history is None else history.column("validation_accuracy")[-1]
    row = (f"{reached[name, rate]:10.1%}" if reached[name, rate] else f"{'diverged':>10}" for rate in RATES)
    print(f"{name:12}" + "".join(row))

assert reached["BatchNorm", 2.0] > 0.5
assert reached["nothing", 2.0] == 0

figure = viz.titled_figure(
    7.6, 4.2, "Which rates can be trained with", f"SGD, {epochs} epochs of {count} images; a cross: the loss diverged"
)
axes = viz.plain(figure.add_subplot())
for name, color in zip(NORMS, (viz.INK, viz.ACCENT, viz.OTHER), strict=True):
    accuracies = np.array([reached[name, rate] for rate in RATES])
    ran = accuracies > 0
    axes.plot(np.array(RATES)[ran], accuracies[ran], "o-", color=color, label=name, markersize=4)
    axes.plot(np.array(RATES)[~ran], accuracies[~ran], "x", color=color)
axes.set(xscale="log", ylim=(-0.03, 1))
axes.set_xlabel("learning rate", fontsize=9)
axes.set_ylabel("test accuracy", fontsize=9)
axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
axes.minorticks_off()
axes.legend(frameon=False, fontsize=9)
this.show(figure, "12_normalization_rates")

# %% [markdown]
# Without normalization the network diverges at the rate 2. With BatchNorm it learns at 2 nearly as well as at its best
# rate. In the full form, on Fashion-MNIST, that is twenty times the largest of these rates at which the network without
# normalization still learns, 0.1. At 8 BatchNorm fails too: larger rates are possible, not all rates. LayerNorm does
# not give this freedom here. At its best rate it is as good as BatchNorm in the full form, but at 2 it stays at chance.
#
# So if you choose between them, do not only ask which one is better at one rate. That would measure the rate.
#
# ## Take away
#
# - The kinds differ in the axes of one mean. Only BatchNorm's mean crosses the samples: hence its noise, its running
#   values, and the difference between training and evaluation. With two rows of features it keeps only the signs.
# - The gradient goes through the statistics. What is left of it cannot shift or stretch a channel.
# - The spectral norm is the root of the covariance's largest eigenvalue.
# - BatchNorm and LayerNorm make a bad initialization harmless. Neither SpectralNorm nor WeightStandardization alone
#   does that. BatchNorm also allows much larger rates.
#
# ## Exercises
#
# 1. Multiply the weights of a dense layer before a BatchNorm by 10. What happens to the output, and to the gradient
#    with respect to these weights? Which angle is between this gradient and the weights?
# 2. Which of these are equal: GroupNorm with one group, GroupNorm with as many groups as channels, BatchNorm in
#    training with a batch of one image, LayerNorm, InstanceNorm, and SwitchableNorm with one very large logit? Assert
#    it.
# 3. Set the momentum of a BatchNorm to $1/t$ before the $t$-th batch. Show that the running mean is then the mean of
#    all batches so far. Is the running variance that of all values?
# 4. Train `models.small_cnn` with `normalization="batch"` and `"group"` with batches of 2 images. Does BatchNorm do as
#    badly there as behind dense layers? Why?
