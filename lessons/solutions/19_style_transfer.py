# %% [markdown]
# # 19 · Style transfer: solutions
#
# The network here is an untrained one. Its features are enough for these exercises, and nothing has to be learned.

# %%
import numpy as np

import minidl as ml
from minidl import course, nn, ops, optim, viz

this = course.lesson("19 · Style transfer: solutions")


def gram(F):
    count, height, width, maps = F.shape
    F = ops.reshape(F, (count, height * width, maps))
    return ops.transpose(F, (0, 2, 1)) @ F / (height * width)


def style_loss(F, A):
    return ((gram(F) - A) ** 2).sum(axis=(1, 2)) / (A**2).sum(axis=(1, 2))


def content_loss(F, P):
    return ((F - P) ** 2).sum(axis=(1, 2, 3)) / (P**2).sum(axis=(1, 2, 3))


ml.manual_seed(0)
layers = nn.Sequential(
    conv1=nn.Conv2d(3, 16, 3, padding="same"), relu1=nn.ReLU(), pool1=nn.AvgPool2d(2),
    conv2=nn.Conv2d(16, 32, 3, padding="same"), relu2=nn.ReLU(), pool2=nn.AvgPool2d(2),
    conv3=nn.Conv2d(32, 48, 3, padding="same"), relu3=nn.ReLU(),
).freeze()  # fmt: skip


def features(x):
    """What comes out of each ReLU, of centered pixels."""
    x, found = 4.0 * (x - 0.5), []
    for name, module in layers.children():
        x = module(x)
        if name.startswith("relu"):
            found.append(x)
    return found


side = 32 if this.quick else 64
v, u = np.mgrid[0:side, 0:side]
share = (0.5 + 0.5 * np.sin(2 * np.pi * (v / 9 + 0.6 * np.sin(4 * np.pi * u / side))))[..., None]
style = (share * (0.05, 0.25, 0.55) + (1 - share) * (0.75, 0.90, 0.95)).astype(np.float32)[None]
A = [gram(f).detach() for f in features(ml.Tensor(style))]

# %% [markdown]
# ## 1 · The gradient of the content loss
#
# *Derive the gradient of the content loss and check it.* With $E = \|F - P\|^2 / \|P\|^2$ each element of $F$ appears
# in one square only, so
#
# $$\frac{\partial E}{\partial F} = \frac{2}{\|P\|^2} (F - P).$$

# %%
rng = np.random.default_rng(0)
F, P = (rng.standard_normal((1, 6, 6, 4)) for _ in range(2))
tensor = ml.Tensor(F, requires_grad=True)
content_loss(tensor, P).sum().backward()
by_hand = 2 * (F - P) / np.sum(P**2)
np.testing.assert_allclose(tensor.grad, by_hand, rtol=1e-12)
ml.check_gradients(lambda F: content_loss(F, P), F)
print(f"gradient of the content loss: largest difference {np.abs(tensor.grad - by_hand).max():.1e}")

# %% [markdown]
# ## 2 · A style has no place
#
# *Shift the style by a few pixels, around the edge. How much do its Gram matrices change, how much its features?*
# The Gram matrices hardly do, for the pattern is the same at another place. What is left comes from the border and from
# pooling windows that see another part of the pattern. The content loss is more than fifty times as large.

# %%
shifted = np.roll(style, 4, axis=1)
of_style = [style_loss(f, a).item() for f, a in zip(features(ml.Tensor(shifted)), A, strict=True)]
pairs = zip(features(ml.Tensor(shifted)), features(ml.Tensor(style)), strict=True)
of_content = [content_loss(f, p).item() for f, p in pairs]
for layer in range(3):
    print(f"layer {layer + 1}: style loss {of_style[layer]:.5f}, content loss {of_content[layer]:.2f}")
assert all(moved > 50 * kept for moved, kept in zip(of_content, of_style, strict=True))

# %% [markdown]
# ## 3 · Only style: a texture
#
# *Leave out the content and begin with noise. Use the Gram matrices of the first layer only, of the first two, and of
# all three. What does each layer add?* The first layer knows neighborhoods of 3×3 pixels: it gets the colors about
# right, but not the width of the bands. With the second layer there are bands, clearest in the full form. The style
# loss over all three layers says the same; the third layer adds less.


# %%
def texture(used, steps):
    x = nn.Parameter(np.random.default_rng(0).random(style.shape, dtype=np.float32))
    optimizer = optim.Adam([x], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        F = features(x)
        roughness = ((x[:, 1:] - x[:, :-1]) ** 2).mean() + ((x[:, :, 1:] - x[:, :, :-1]) ** 2).mean()
        (sum(style_loss(F[layer], A[layer]) for layer in range(used)).sum() + roughness).backward()
        optimizer.step()
        x.data = np.clip(x.data, 0, 1)
    return x.numpy().copy()


steps = 60 if this.quick else 150
made = [texture(used, steps) for used in (1, 2, 3)]
totals = [sum(style_loss(f, a).item() for f, a in zip(features(ml.Tensor(x)), A, strict=True)) for x in made]
for used, total in enumerate(totals, 1):
    print(f"layers used: {used}, style loss of all three layers {total:.4f}")
assert totals[0] > 1.5 * max(totals[1:])

figure = viz.titled_figure(9.5, 3.4, "A texture out of noise", "from left: the style; one, two, three layers used")
for cell, image in zip(figure.subplots(1, 4), (style, *made), strict=True):
    cell.imshow(image[0], interpolation="nearest")
    cell.set_axis_off()
this.show(figure, "19_style_transfer_solutions_texture")

# %% [markdown]
# ## 4 · Another optimizer
#
# *Gatys et al. minimize with a quasi-Newton method. Compare Adam, heavy ball and plain gradient descent on the texture,
# each with the best of a few rates.* The gradient of a single pixel is small, so that methods without adaptation need a
# large rate. Heavy ball, with its best rate, does as well as Adam here; gradient descent alone stays behind.

# %%
RATES = {
    "Adam": (optim.Adam, (0.03, 0.1, 0.3)),
    "HeavyBall": (optim.HeavyBall, (3.0, 10.0, 30.0)),
    "SGD": (optim.SGD, (1.0, 3.0, 10.0)),
}
steps = 30 if this.quick else 60
best = {}
for name, (method, rates) in RATES.items():
    reached = []
    for rate in rates:
        x = nn.Parameter(np.random.default_rng(0).random((1, 32, 32, 3), dtype=np.float32))
        optimizer = method([x], lr=rate)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = sum(style_loss(f, a) for f, a in zip(features(x), A, strict=True)).sum()
            loss.backward()
            optimizer.step()
            x.data = np.clip(x.data, 0, 1)
        reached.append(loss.item())
    best[name] = min(reached)
    listed = ", ".join(f"{rate:g}: {value:.3f}" for rate, value in zip(rates, reached, strict=True))
    print(f"{name:10s} style loss after {steps} steps, by rate: {listed}")
assert best["Adam"] < best["SGD"]
