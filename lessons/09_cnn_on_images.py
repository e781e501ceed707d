# %% [markdown]
# # 9 · A CNN on images
#
# A convolutional network looks at an image through small windows. Every window is compared with the same few filters,
# so a stroke is found wherever it lies, and a layer needs hundreds or thousands of weights where a dense layer would
# need millions (lesson 8 is about the convolution itself). This lesson takes LeNet-5 apart (LeCun et al. 1998; with the
# shapes of Trivedi 2021): what each layer computes, how many weights it has, and how they are trained.
#
# Then it asks what the network has learned. One number, the accuracy, tells little. The confusion matrix, the images
# that it gets wrong, its filters, what its layers make of an image, and the sizes of its weights and gradients tell
# more.

# %%
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minidl as ml
from minidl import course, data, models, ops, optim, training, viz

this = course.lesson("9 · A CNN on images")

images = this.images("fashion-mnist")
train_count, test_count, epochs = (1200, 300, 3) if this.quick else (6000, 2000, 8)
train_x, train_y = images.train_x[:train_count], images.train_y[:train_count]
test_x, test_y = images.test_x[:test_count], images.test_y[:test_count]
test_pixels, _ = next(iter(data.Loader(test_x, test_y, test_count, shuffle=False)))  # floats: bytes become x / 255


def new_model():
    """The same initial weights in every call. No dropout, so that the forward pass is the same in training."""
    ml.manual_seed(0)
    return models.lenet5(dropout=0)


# %% [markdown]
# ## Shapes and parameters by hand
#
# A convolution with $k \times k$ windows over $C$ input channels and $F$ filters has the output
#
# $$y_{i,j,f} = b_f + \sum_{u=0}^{k-1} \sum_{v=0}^{k-1} \sum_{c=0}^{C-1} W_{u,v,c,f}\; x_{i+u,\,j+v,\,c}$$
#
# Without padding an $H \times H$ image becomes $(H - k + 1) \times (H - k + 1)$, and the layer has
# $(k^2 C + 1)\,F$ parameters: one filter of $k^2 C$ weights and one bias for each output channel. The image's size is
# not in it. A dense layer from $n$ to $m$ features has $(n + 1)\,m$. Pooling with 2 × 2 windows halves the sides and
# has no parameters.

# %%
side, channels, by_hand = 28, 1, []
for name, k, filters in (("conv1", 5, 6), ("conv2", 5, 16)):
    side = side - k + 1
    by_hand.append((name, (side, side, filters), (k * k * channels + 1) * filters))
    side, channels = side // 2, filters  # the pooling behind it
features = side * side * channels
for name, outputs in (("dense1", 120), ("dense2", 84), ("dense3", 10)):
    by_hand.append((name, (outputs,), (features + 1) * outputs))
    features = outputs

for name, shape, parameters in by_hand:
    print(f"{name:<8}{shape!s:<14}{parameters:>8,}")
total = sum(parameters for _, _, parameters in by_hand)
print(f"{'total':<22}{total:>8,}")

# %% [markdown]
# The library's table has a row for every layer, also for those without parameters. Shapes and counts are the same:

# %%
model = new_model()
summary = model.summary((28, 28, 1))
print(summary)
assert by_hand == [(row.name, row.output_shape, row.parameters) for row in summary.rows if row.parameters]
assert total == summary.parameters

dense_instead = (28 * 28 + 1) * 24 * 24 * 6
print(f"a dense layer with as many outputs as conv1 would have {dense_instead:,} parameters, conv1 has 156")

# %% [markdown]
# About 70 % of the 44,426 parameters are in the first dense layer, 6 % in the two convolutions.
#
# ## The forward pass by hand
#
# Windows of an image are a view in NumPy, so the equation above is one `einsum`. Average pooling takes the mean of
# every 2 × 2 block. ReLU is $\max(0, x)$.


# %%
def convolve(x, layer):
    W, b = layer.weight.data, layer.bias.data
    windows = sliding_window_view(x, W.shape[:2], axis=(1, 2))  # (N, H', W', C, k, k)
    return np.einsum("nijcuv,uvcf->nijf", windows, W, optimize=True) + b


def pool(x):
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def forward(x, model):
    x = pool(np.maximum(0, convolve(x, model.conv1)))
    x = pool(np.maximum(0, convolve(x, model.conv2)))
    x = x.reshape(len(x), -1)
    x = np.maximum(0, x @ model.dense1.weight.data + model.dense1.bias.data)
    x = np.maximum(0, x @ model.dense2.weight.data + model.dense2.bias.data)
    return x @ model.dense3.weight.data + model.dense3.bias.data


logits = forward(test_pixels[:64], model)
difference = np.abs(logits - model(test_pixels[:64]).data).max()
print(f"forward pass by hand and by minidl differ by at most {difference:.1e}")
np.testing.assert_allclose(logits, model(test_pixels[:64]).data, rtol=1e-4, atol=1e-5)

# %% [markdown]
# ## The training loop by hand
#
# A step has four parts: forget the old gradients, compute the loss of a batch, walk back through the graph (lesson 1),
# and let the optimizer replace the weights. An epoch sees every image once, in a new order. That is all.

# %%
optimizer = optim.Adam(model, lr=0.002)
batches = data.Loader(train_x, train_y, batch_size=64, seed=0)
losses = []
for _ in range(epochs):
    for x, y in batches:
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
print(f"{len(losses)} steps by hand: loss {losses[0]:.3f} in the first, {np.mean(losses[-10:]):.3f} in the last ten")

# %% [markdown]
# The `Trainer` (`minidl/training/trainer.py`) makes the same steps, and keeps a record of them. From the same weights,
# with the same batches, it ends at the same weights:

# %%
twin = new_model()
trainer = training.Trainer(twin, optim.Adam(twin, lr=0.002), progress=False)
history = trainer.fit(data.Loader(train_x, train_y, batch_size=64, seed=0), (test_x, test_y), epochs=epochs)
np.testing.assert_allclose(losses, [step["loss"] for step in history.steps], rtol=1e-5)
largest = 0.0
for name, parameter in model.named_parameters():
    other = dict(twin.named_parameters())[name].data
    np.testing.assert_allclose(parameter.data, other, rtol=1e-5, atol=1e-6)
    largest = max(largest, float(np.abs(parameter.data - other).max()))
print(f"after {len(losses)} steps the weights of both loops differ by at most {largest:.1e}")

# %% [markdown]
# ## Which classes are confused
#
# The class that the network gives an image is that of its largest output. $C_{ab}$ counts the test images of class $a$
# that were called $b$. The diagonal holds what is right:
#
# $$\text{accuracy} = \frac{\sum_a C_{aa}}{\sum_{a,b} C_{ab}}, \qquad
#   \text{recall}_a = \frac{C_{aa}}{\sum_b C_{ab}}$$

# %%
predictions = forward(test_pixels, model).argmax(axis=1)
classes = len(images.classes)
confusion = np.zeros((classes, classes), int)
np.add.at(confusion, (test_y, predictions), 1)  # one more for every pair, also where a pair comes twice

accuracy = np.trace(confusion) / confusion.sum()
from_library = trainer.evaluate((test_x, test_y))["accuracy"]
print(f"accuracy by hand {accuracy:.4f}, by minidl {from_library:.4f}")
assert np.isclose(accuracy, from_library)

recall = np.diag(confusion) / confusion.sum(axis=1)
best, worst = recall.argmax(), recall.argmin()
print(f"recall: best {images.classes[best]} {recall[best]:.1%}, worst {images.classes[worst]} {recall[worst]:.1%}")
mistakes = confusion - np.diag(np.diag(confusion))
a, b = np.unravel_index(mistakes.argmax(), mistakes.shape)
print(f"the most frequent mistake: {images.classes[a]} called {images.classes[b]}, {mistakes[a, b]} times")

figure = viz.titled_figure(
    6.4, 6.6, "Which classes are confused", f"rows: the label, columns: the network; {accuracy:.1%} are right"
)
axes = figure.add_subplot()
axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=2 * mistakes.max())
for a in range(classes):
    for b in range(classes):
        if confusion[a, b]:
            color, weight = (viz.ACCENT, "bold") if a == b else (viz.INK, "normal")
            axes.text(b, a, confusion[a, b], ha="center", va="center", fontsize=8, color=color, fontweight=weight)
axes.set_xticks(range(classes), images.classes, rotation=45, ha="right")
axes.set_yticks(range(classes), images.classes)
axes.tick_params(length=0, labelsize=8)
axes.spines[:].set_visible(False)
this.show(figure, "09_cnn_on_images_confusion")

# %% [markdown]
# The loss of an image is $-\log p$ of its class. Among the images that the network gets wrong, those with the largest
# loss are furthest from their label. Some of them a person would not get right either. (The first number below an image
# counts among the wrong ones only.)

# %%
wrong = np.flatnonzero(predictions != test_y)
print(f"{len(wrong)} of {len(test_y)} test images are wrong")
found = training.suspects(model, test_x[wrong], test_y[wrong], share=min(1, 18 / len(wrong)), classes=images.classes)
this.show(viz.suspects(found, test_x[wrong], title="The mistakes with the largest loss"), "09_cnn_on_images_wrong")

# %% [markdown]
# ## Before and after
#
# `viz.filters` draws the weights of a convolution, `viz.feature_maps` what every layer makes of an image. First the
# untrained network:

# %%
untrained = new_model()
example = test_x[int(np.flatnonzero(predictions == test_y)[0])]
this.show(viz.filters(untrained, "The filters of conv1 before training"), "09_cnn_on_images_filters_before")
maps = viz.feature_maps(untrained, example, "An image in the untrained network", most=6)
this.show(maps, "09_cnn_on_images_maps_before")

# %% [markdown]
# and now the trained one:

# %%
this.show(viz.filters(model, "The filters of conv1 after training"), "09_cnn_on_images_filters_after")
maps = viz.feature_maps(model, example, "The same image in the trained network", most=6)
this.show(maps, "09_cnn_on_images_maps_after")

# %% [markdown]
# The filters of `conv1` can be recognized: they are those that were drawn at random, changed a little. Random filters
# already respond to edges and strokes. How far has each layer moved from where it began? And how sure of its choice is
# the network?

# %%
names = ["conv1.weight", "conv2.weight", "dense1.weight", "dense2.weight", "dense3.weight"]
start, end = untrained.state_dict(), model.state_dict()
for name in names:
    moved = np.linalg.norm(end[name] - start[name]) / np.linalg.norm(start[name])
    print(f"{name:<15} ‖W − W⁰‖ / ‖W⁰‖ = {moved:.2f}")


def probabilities(network):
    """For each test image the probability of the chosen class and that of the right one, as means."""
    p = ops.softmax(network(test_pixels)).data
    return float(p.max(axis=1).mean()), float(p[np.arange(len(p)), test_y].mean())


for when, network in (("before", untrained), ("after", model)):
    chosen, right = probabilities(network)
    print(f"{when} training the chosen class has the probability {chosen:.2f}, the right one {right:.2f}")
assert probabilities(model)[1] > 4 * probabilities(untrained)[1]
assert losses[0] > np.log(10)

# %% [markdown]
# The untrained network is not undecided: its choice has far more than a probability of 0.1, it is only not the right
# one. So its first loss is above $\ln 10 = 2.30$, that of a network which gives every class the same probability.
# `minidl/nn/initializers.py` tells where the weights to begin with come from.
#
# ## Weights and gradients by layer
#
# One more step, with the weights from before it kept: what is the size of the gradients, and by what share does the
# step change each layer? A ratio $\|W^t - W^{t-1}\| / \|W^{t-1}\|$ near $10^{-3}$ is usual. Far less in one layer means
# that it hardly learns; near 1, that the step throws away what was there.

# %%
before = model.state_dict()
x, y = next(iter(batches))
optimizer.zero_grad()
ops.cross_entropy(model(x), y).backward()
optimizer.step()
for name, parameter in model.named_parameters():
    if name in names:
        ratio = np.linalg.norm(parameter.data - before[name]) / np.linalg.norm(before[name])
        print(f"{name:<15} gradient's σ {parameter.grad.std():.1e}   ‖ΔW‖/‖W‖ {ratio:.1e}")
this.show(viz.histograms(model, before=before), "09_cnn_on_images_histograms")

# %% [markdown]
# ## Take away
#
# - Shapes and parameter counts of a CNN follow from two formulas. The convolutions have few of the parameters, the
#   first dense layer has most.
# - The training loop is four lines. `Trainer.fit` makes the same steps.
# - An accuracy is a beginning: the confusion matrix says what is confused, the images say why, and the histograms
#   whether all layers learn.
#
# ## Exercises
#
# 1. Replace both convolutions by 3 × 3 ones with padding 1, and keep the rest: `nn.Conv2d(1, 6, 3, padding=1)` and so
#    on. How many parameters has each layer now? Compute them by hand, then look at `model.summary`. Why does the
#    network with the smaller filters have more?
# 2. The precision of class $b$ is $C_{bb} / \sum_a C_{ab}$: of the images that were called $b$, how many are. Compute
#    it from `confusion`. Is the class with the worst recall also that with the worst precision? Show that the accuracy
#    is the mean of the recalls, each weighted with the number of its class's images.
# 3. Shift all test images by 1, 2, 4 and 6 pixels to the right (`np.roll` along axis 2) without training again. How
#    does the accuracy fall? Convolution and pooling look everywhere in the same way, so which layers do not?
# 4. Draw one permutation of the 784 pixels and apply it to all training and test images. Train LeNet-5 and
#    `models.mlp([784, 64, 10])` with and without it. Which of the two minds, and why?
