# %% [markdown]
# # 12 · Normalization, in seven ways: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, nn, optim, training

this = course.lesson("12 · Normalization, in seven ways: solutions")

# %% [markdown]
# ## 1 · Larger weights before a BatchNorm
#
# Multiply the weights of a dense layer before a BatchNorm by 10. What happens to the output, and to the gradient with
# respect to these weights? Which angle is between the gradient and the weights?
#
# The normalization divides by the deviation, so with $\epsilon = 0$ the output is a function of $W / \|W\|$ alone,
# $f(cW) = f(W)$. Differentiated by $W$, $c\,\nabla f(cW) = \nabla f(W)$: the gradient is a tenth. Differentiated by $c$
# at $c = 1$, $W \cdot \nabla f(W) = 0$: a right angle, for each output unit.

# %%
generator = np.random.default_rng(0)
x, W, g = generator.standard_normal((32, 5)), generator.standard_normal((5, 4)), generator.standard_normal((32, 4))


def output_and_gradient(W):
    dense, norm = nn.Dense(5, 4, bias=False), nn.BatchNorm(4, eps=1e-12)
    network = nn.Sequential(dense, norm).astype(np.float64)
    dense.weight.data = W
    y = network(ml.Tensor(x))
    y.backward(g)
    return y.data, dense.weight.grad


y, gradient = output_and_gradient(W)
y_of_larger, gradient_of_larger = output_and_gradient(10 * W)
print(f"outputs differ by {abs(y - y_of_larger).max():.1e}")
print(f"gradient, largest ratio to that of the ten times larger weights {(gradient / gradient_of_larger).max():.6f}")
print(f"product of gradient and weights, for each unit {abs((gradient * W).sum(axis=0)).max():.1e}")
np.testing.assert_allclose(y_of_larger, y, rtol=1e-8)
np.testing.assert_allclose(10 * gradient_of_larger, gradient, rtol=1e-6)
np.testing.assert_allclose((gradient * W).sum(axis=0), 0, atol=1e-9)

# %% [markdown]
# Each step is at a right angle to the weights, so the weights only grow, and as they grow the steps turn them less and
# less. That is why a rate that is too large does so little harm.
#
# ## 2 · One is the other
#
# Which of these are equal: GroupNorm with one group, GroupNorm with as many groups as channels, BatchNorm in training
# with a batch of one image, LayerNorm, InstanceNorm, and SwitchableNorm with one very large logit?

# %%
images = ml.Tensor(generator.normal(2, 3, (4, 5, 5, 6)))
layer, instance, batch = (
    norm(6).astype(np.float64)(images).data for norm in (nn.LayerNorm, nn.InstanceNorm, nn.BatchNorm)
)
np.testing.assert_allclose(nn.GroupNorm(1, 6).astype(np.float64)(images).data, layer, rtol=1e-10)
np.testing.assert_allclose(nn.GroupNorm(6, 6).astype(np.float64)(images).data, instance, rtol=1e-10)
one_image = nn.BatchNorm(6).astype(np.float64)(ml.Tensor(images.data[:1])).data
np.testing.assert_allclose(one_image, instance[:1], rtol=1e-10)
for place, expected in enumerate((instance, layer, batch)):
    switchable = nn.SwitchableNorm(6).astype(np.float64)
    switchable.mean_logits.data = switchable.variance_logits.data = 50.0 * (np.arange(3) == place)
    np.testing.assert_allclose(switchable(images).data, expected, rtol=1e-9, atol=1e-12)
print("GroupNorm: 1 group is LayerNorm, 6 groups are InstanceNorm; BatchNorm of one image is InstanceNorm;")
print("SwitchableNorm with one large logit is InstanceNorm, LayerNorm or BatchNorm")

# %% [markdown]
# ## 3 · A mean of all batches
#
# Set the momentum of a BatchNorm to $1/t$ before the $t$-th batch. Show that the running mean is then the mean of all
# batches so far. Is the running variance that of all values?
#
# $\mu \leftarrow (1 - 1/t)\,\mu + \mu_B/t$ is the recursion of the plain mean. The running variance is the mean of the
# variances *within* the batches. The variance of all values has the variance of the batches' means in addition.

# %%
norm = nn.BatchNorm(1).astype(np.float64)
batches = [generator.normal(generator.normal(), 2, (16, 1)) for _ in range(50)]
for t, values in enumerate(batches, start=1):
    norm.momentum = 1 / t
    norm(ml.Tensor(values))
everything = np.concatenate(batches)
between = np.var([values.mean() for values in batches])
running_mean, running_variance = norm.running_mean.data.item(), norm.running_variance.data.item()
print(f"mean: running {running_mean:.6f}, of all {everything.mean():.6f}")
print(f"variance: running {running_variance:.4f} + between the batches {between:.4f} = of all {everything.var():.4f}")
np.testing.assert_allclose(running_mean, everything.mean(), rtol=1e-10)
np.testing.assert_allclose(running_variance + between, everything.var(), rtol=1e-10)

# %% [markdown]
# ## 4 · A batch of two in a convolutional network
#
# Train `models.small_cnn` with `normalization="batch"` and `"group"` with batches of 2 images. Does BatchNorm do as
# badly there as behind dense layers?

# %%
pictures = this.images("fashion-mnist")
count = 150 if this.quick else 1000
accuracies = {}
for kind in ("batch", "group"):
    ml.manual_seed(0)
    model = models.small_cnn(widths=(8, 16), hidden=32, normalization=kind)
    trainer = training.Trainer(model, optim.Adam(model, 0.002), progress=False)
    loader = data.Loader(pictures.train_x[:count], pictures.train_y[:count], 2)
    history = trainer.fit(loader, validation=(pictures.test_x[:1000], pictures.test_y[:1000]), epochs=2)
    accuracies[kind] = history.column("validation_accuracy")[-1]
    print(f"{kind:6} batch size 2, test accuracy {accuracies[kind]:.1%}")
assert accuracies["batch"] > accuracies["group"] - 0.1

# %% [markdown]
# No. A channel of two images of 28×28 pixels has 1,568 values, and their mean is not that noisy. A small batch hurts
# BatchNorm where a channel has few values: behind dense layers, and deep inside a network, where the images are small.
