# %% [markdown]
# # 9 · A CNN on images: solutions

# %%
import numpy as np

import minidl as ml
from minidl import course, data, models, nn, optim, training

this = course.lesson("9 · A CNN on images: solutions")

images = this.images("fashion-mnist")
train_count, test_count, epochs = (1000, 300, 3) if this.quick else (4000, 2000, 4)
train_x, train_y = images.train_x[:train_count], images.train_y[:train_count]
test_x, test_y = images.test_x[:test_count], images.test_y[:test_count]


def trained(make_model, x, y):
    """A network that was trained from the weights of seed 0, and its Trainer."""
    ml.manual_seed(0)
    model = make_model()
    trainer = training.Trainer(model, optim.Adam(model, lr=0.002), progress=False)
    trainer.fit(data.Loader(x, y, batch_size=64, seed=0), epochs=epochs)
    return model, trainer


def lenet():
    return models.lenet5(dropout=0)


# %% [markdown]
# ## 1 · Three by three
#
# *LeNet-5 with 3 × 3 convolutions and padding 1. How many parameters has each layer, and why are there more?*
#
# A convolution has $(k^2 C + 1) F$ parameters: $(9 + 1) \cdot 6 = 60$ and $(9 \cdot 6 + 1) \cdot 16 = 880$, fewer than
# before. But with padding 1 the images keep their sides, so that they are 28, 14 after the first pooling, and 7 after
# the second, where they were 4. The first dense layer has $(7 \cdot 7 \cdot 16 + 1) \cdot 120 = 94{,}200$ parameters
# instead of 30,840.

# %%
smaller = nn.Sequential(
    conv1=nn.Conv2d(1, 6, 3, padding=1),
    relu1=nn.ReLU(),
    pool1=nn.AvgPool2d(2),
    conv2=nn.Conv2d(6, 16, 3, padding=1),
    relu2=nn.ReLU(),
    pool2=nn.AvgPool2d(2),
    flatten=nn.Flatten(),
    dense1=nn.Dense(7 * 7 * 16, 120),
    relu3=nn.ReLU(),
    dense2=nn.Dense(120, 84),
    relu4=nn.ReLU(),
    dense3=nn.Dense(84, 10),
)
by_hand = {"conv1": 60, "conv2": 880, "dense1": 94_200, "dense2": 10_164, "dense3": 850}
counts = {row.name: row.parameters for row in smaller.summary((28, 28, 1)).rows if row.parameters}
print("parameters:", counts, "in all", sum(counts.values()))
assert counts == by_hand
assert sum(counts.values()) > 44_426

# %% [markdown]
# ## 2 · Precision
#
# *Precision from the confusion matrix; is the worst class the same; and the accuracy as a mean of the recalls.*
#
# Recall divides by the sum of a row, precision by the sum of a column. Where another class is often called $b$, the
# precision of $b$ suffers, not its recall. So the worst classes need not be the same: in the full form, on
# Fashion-MNIST, Shirt is both, in the quick form they are the digits 8 and 1. With $n_a = \sum_b C_{ab}$,
#
# $$\sum_a \frac{n_a}{n} \text{recall}_a = \sum_a \frac{n_a}{n} \frac{C_{aa}}{n_a} = \frac{\sum_a C_{aa}}{n}$$

# %%
model, trainer = trained(lenet, train_x, train_y)
pixels, labels = next(iter(data.Loader(test_x, test_y, test_count, shuffle=False)))
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (labels, model(pixels).data.argmax(axis=1)), 1)

recall = np.diag(confusion) / confusion.sum(axis=1)
precision = np.diag(confusion) / np.maximum(confusion.sum(axis=0), 1)
for name, values in (("recall", recall), ("precision", precision)):
    print(f"{name:<10} worst: {images.classes[values.argmin()]} {values.min():.1%}, mean {values.mean():.1%}")
weights = confusion.sum(axis=1) / confusion.sum()
accuracy = np.trace(confusion) / confusion.sum()
print(f"accuracy {accuracy:.4f}, weighted mean of the recalls {(weights * recall).sum():.4f}")
assert np.isclose((weights * recall).sum(), accuracy)
assert np.isclose(trainer.evaluate((test_x, test_y))["accuracy"], accuracy)

# %% [markdown]
# ## 3 · Shifted images
#
# *Shift the test images to the right. How does the accuracy fall, and which layers see places differently?*
#
# A convolution of a shifted image is the shifted convolution, and pooling by 2 × 2 makes a shift by 1 of a shift by 2.
# But the first dense layer has a weight of its own for every place in the last feature maps. To it a shifted image is
# another one.

# %%
accuracies = {}
for shift in (0, 1, 2, 4, 6):
    shifted = np.roll(test_x, shift, axis=2)
    accuracies[shift] = trainer.evaluate((shifted, test_y))["accuracy"]
    print(f"shifted by {shift} pixels: accuracy {accuracies[shift]:.1%}")
assert accuracies[0] > accuracies[4] > accuracies[6]

# %% [markdown]
# Trained on shifted images too (lesson 13), the network would learn to pay less attention to the place.
#
# ## 4 · Shuffled pixels
#
# *One permutation of the pixels for all images. Which network minds?*
#
# To the multilayer perceptron pixels are a list. A permuted list is another order of the rows of its first weight, and
# these are drawn at random anyway: it learns about as well as before. The convolutional network looks at neighbors.
# After the permutation neighbors have nothing to do with each other.

# %%
permutation = np.random.default_rng(0).permutation(28 * 28)


def permuted(x):
    return x.reshape(len(x), -1)[:, permutation].reshape(x.shape)


def mlp():
    return models.mlp([784, 64, 10])  # flattens the images


reached = {}
for name, make_model in (("LeNet-5", lenet), ("MLP", mlp)):
    for kind, change in (("as they are", lambda x: x), ("permuted", permuted)):
        _, trainer = trained(make_model, change(train_x), train_y)
        reached[name, kind] = trainer.evaluate((change(test_x), test_y))["accuracy"]
        print(f"{name:<8} images {kind:<12} accuracy {reached[name, kind]:.1%}")
fall = {name: reached[name, "as they are"] - reached[name, "permuted"] for name in ("LeNet-5", "MLP")}
print(f"LeNet-5 loses {fall['LeNet-5']:.1%}, the MLP {fall['MLP']:.1%}")
assert fall["LeNet-5"] > abs(fall["MLP"])

# %% [markdown]
# The MLP is ahead with the images as they are, too: a short training on few images is not where LeNet-5 is at its best.
# What the permutation tells is whether they use that pixels are neighbors.
