# %% [markdown]
# # 19 · Style transfer
#
# An image has a content, *what* is shown, and a style, *how* it looks: its colors, strokes and textures. A
# convolutional network separates the two without having been asked to. Its feature maps say what is where. The
# correlations between its feature maps say which patterns occur, and not where. So one can look for an image that has
# the feature maps of a photograph and the correlations of a painting: neural style transfer.
#
# This lesson is also about gradients. Here the weights of the network are fixed, and the optimizer changes the pixels.
#
# Lecture notes §1.1.2, neural-based transformations; Gatys, Ecker and Bethge 2016. The network is a small one of our
# own, and the styles are drawn by formula, so nothing has to be downloaded.

# %%
import numpy as np

import minidl as ml
from minidl import course, data, nn, ops, optim, training, viz

this = course.lesson("19 · Style transfer")
images = this.images("cifar10")
size, channels = images.train_x.shape[1], images.train_x.shape[3]

# %% [markdown]
# ## A style is a Gram matrix
#
# Let $F$ be the feature maps of one layer, one row for each of the $M$ pixels and one column for each of the $C$ maps.
# The Gram matrix
#
# $$G = \frac{1}{M} F^T F$$
#
# has in $G_{ij}$ how strongly maps $i$ and $j$ answer at the same places. Sums over all pixels do not know where a
# pixel was: shuffle the rows of $F$, and $G$ stays. Let $A$ be the Gram matrix of the style. The style loss of the
# layer is their squared distance, relative to the size of $A$,
#
# $$E = \frac{\|G - A\|^2}{\|A\|^2}, \qquad \frac{\partial E}{\partial F} = \frac{4}{M \|A\|^2}\, F\,(G - A).$$
#
# (Gatys et al. divide by $4 C^2$ and give each layer a weight. To divide by $\|A\|^2$ is to choose that weight so that
# all layers count alike.)


# %%
def gram_by_hand(F):
    return F.T @ F / len(F)


def style_loss_by_hand(F, A):
    return np.sum((gram_by_hand(F) - A) ** 2) / np.sum(A**2)


def style_gradient_by_hand(F, A):
    return 4 * F @ (gram_by_hand(F) - A) / (len(F) * np.sum(A**2))


# %% [markdown]
# ## The same with minidl
#
# With `ops` only the losses have to be written. They take a batch of images, $(N, H, W, C)$, and give one loss for
# each.


# %%
def gram(F):
    count, height, width, maps = F.shape
    F = ops.reshape(F, (count, height * width, maps))
    return ops.transpose(F, (0, 2, 1)) @ F / (height * width)


def style_loss(F, A):
    """How far the Gram matrices of the features are from A, for each image."""
    return ((gram(F) - A) ** 2).sum(axis=(1, 2)) / (A**2).sum(axis=(1, 2))


def content_loss(F, P):
    """How far the features are from P, pixel by pixel, for each image."""
    return ((F - P) ** 2).sum(axis=(1, 2, 3)) / (P**2).sum(axis=(1, 2, 3))


rng = np.random.default_rng(0)
F, other = (rng.standard_normal((1, 6, 6, 4)) for _ in range(2))
A = gram(ml.Tensor(other)).numpy()

tensor = ml.Tensor(F, requires_grad=True)
loss = style_loss(tensor, A)
loss.sum().backward()
rows = F.reshape(36, 4)
off = np.abs(tensor.grad.reshape(36, 4) - style_gradient_by_hand(rows, A[0])).max()
print(f"style loss: by hand {style_loss_by_hand(rows, A[0]):.6f}, minidl {loss.item():.6f}")
print(f"its gradient: largest difference {off:.1e}")
np.testing.assert_allclose(loss.item(), style_loss_by_hand(rows, A[0]), rtol=1e-12)
np.testing.assert_allclose(tensor.grad.reshape(36, 4), style_gradient_by_hand(rows, A[0]), rtol=1e-10, atol=1e-14)

shuffled = rng.permutation(rows)
np.testing.assert_allclose(gram_by_hand(shuffled), gram_by_hand(rows), rtol=1e-12)
print("the pixels in another order: the same Gram matrix")

ml.check_gradients(lambda F: style_loss(F, A), F)
ml.check_gradients(lambda F: content_loss(F, other), F)
print("finite differences agree")

# %% [markdown]
# ## A network to look with
#
# Three convolutions with ReLU and average pooling. Gatys et al. prefer average pooling to maximum pooling here: it lets
# the gradient through to every pixel. The pixels are centered first, else all Gram matrices would mostly say how bright
# the image is. The network learns to tell the classes of the images; then it is frozen (`minidl/nn/module.py`). What we
# need of it are the features behind each ReLU.

# %%
WIDTHS = (16, 32, 48)


class Center(nn.Module):
    def forward(self, x):
        return 4.0 * (x - 0.5)


def make_body():
    layers, inputs = {"center": Center()}, channels
    for i, outputs in enumerate(WIDTHS, 1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding="same")
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.AvgPool2d(2)
        inputs = outputs
    return nn.Sequential(**layers)


def features(body, x):
    """What comes out of each ReLU."""
    found = []
    for name, module in body.children():
        x = module(x)
        if name.startswith("relu"):
            found.append(x)
    return found


ml.manual_seed(0)
untrained = make_body().freeze()
body = make_body()
classifier = nn.Sequential(body=body, flatten=nn.Flatten(), dense=nn.Dense(WIDTHS[-1] * (size // 8) ** 2, 10))
count = 1000 if this.quick else 6000
trainer = training.Trainer(classifier, optim.Adam(classifier, lr=0.002), progress=False)
history = trainer.fit(
    data.Loader(images.train_x[:count], images.train_y[:count], 64, seed=0),
    validation=(images.test_x[:1000], images.test_y[:1000]),
    epochs=2,
)
print(f"the network is right on {history.column('validation_accuracy')[-1]:.0%} of images it has not seen")
classifier.freeze()

# %% [markdown]
# The whole chain, from the pixels through the network to the loss, is differentiable. Finite differences confirm the
# gradient with respect to the pixels, here of an untrained network in double precision.

# %%
small = make_body().astype(np.float64).freeze()
one, two = (np.random.default_rng(seed).random((1, 12, 12, channels)) for seed in (1, 2))
targets = [gram(f).detach() for f in features(small, ml.Tensor(two))]
ml.check_gradients(
    lambda x: sum(style_loss(f, a) for f, a in zip(features(small, x), targets, strict=True)), one, rtol=1e-3
)
print("the gradient with respect to the pixels: finite differences agree")

# %% [markdown]
# ## Styles by formula
#
# Waves, stripes, dots and rings, in colors (or in gray, if the images are gray).


# %%
def draw_styles(side):
    v, u = np.mgrid[0:side, 0:side] / side
    turn = 2 * np.pi * side / 64  # as many pixels a period on small images as on large ones
    waves = 0.5 + 0.5 * np.sin(turn * (7 * v + 0.6 * np.sin(4 * np.pi * u)))
    stripes = np.sin(turn * 6 * (u + v)) > 0
    dots = np.cos(turn * 8 * u) + np.cos(turn * 8 * v) < -0.7
    rings = 0.5 + 0.5 * np.sin(turn * 9 * np.hypot(u - 0.5, v - 0.5))
    colors = {
        "waves": (waves, (0.05, 0.25, 0.55), (0.75, 0.90, 0.95)),
        "stripes": (stripes, (0.85, 0.20, 0.15), (0.98, 0.85, 0.55)),
        "dots": (dots, (0.15, 0.15, 0.20), (0.95, 0.93, 0.85)),
        "rings": (rings, (0.95, 0.75, 0.10), (0.30, 0.10, 0.40)),
    }
    drawn = {}
    for name, (pattern, ink, paper) in colors.items():
        share = pattern[..., None].astype(np.float32)
        picture = share * np.array(ink, np.float32) + (1 - share) * np.array(paper, np.float32)
        drawn[name] = picture if channels == 3 else picture.mean(axis=-1, keepdims=True)
    return drawn


def as_floats(x):
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


larger = 2 if channels == 3 else 1  # photographs are enlarged, so that there is room for a texture
styles = draw_styles(larger * size)
chosen = {7: 6, 0: 3, 1: 16}  # class: which image of it; of CIFAR-10 a horse, an airplane and a car
examples = [np.flatnonzero(images.train_y == label)[place] for label, place in chosen.items()]
contents = ops.upsample2d(as_floats(images.train_x[examples]), larger, "bilinear").numpy()

# %% [markdown]
# ## The optimizer changes the pixels
#
# The image $X$ is a parameter. Adam ($\eta = 0.03$) minimizes, for all images of a batch at once,
#
# $$L(X) = \underbrace{\frac{\|F_2 - P_2\|^2}{\|P_2\|^2}}_{\text{content}}
#   + \lambda \underbrace{\sum_{l=1}^{3} \frac{\|G_l - A_l\|^2}{\|A_l\|^2}}_{\text{style}}
#   + \mu \underbrace{\overline{(\Delta_v X)^2 + (\Delta_h X)^2}}_{\text{smoothness}}$$
#
# where $F_2$ are the features of $X$ in the second layer, $P_2$ those of the content, $G_l$ and $A_l$ the Gram matrices
# of $X$ and of the style in layer $l$, and $\Delta_v$, $\Delta_h$ the differences of neighboring pixels; $\lambda = 4$
# and $\mu = 5$, if nothing else is said. The last term keeps single pixels from flickering
# (Mahendran and Vedaldi 2015). $X$ starts as the content with a little noise, out of which a pattern can grow where the
# content is flat. After each step the pixels are clipped to [0, 1].


# %%
def transfer(network, content, style, strength=4.0, smoothness=5.0, steps=100, start=None, keep=()):
    """Return images with the content of one and the style of the other, both losses, and the images at some steps."""
    P = features(network, ml.Tensor(content))[1].detach()
    A = [gram(f).detach() for f in features(network, ml.Tensor(style))]
    noise = np.random.default_rng(0).standard_normal(content.shape, dtype=np.float32)
    x = nn.Parameter(np.clip(content + 0.05 * noise, 0, 1) if start is None else start)
    optimizer = optim.Adam([x], lr=0.03)
    losses, kept = [], []
    for step in range(steps):
        if step in keep:
            kept.append(x.numpy().copy())
        optimizer.zero_grad()
        F = features(network, x)
        of_content = content_loss(F[1], P)
        of_style = sum(style_loss(f, a) for f, a in zip(F, A, strict=True))
        down, right = x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]
        of_pixels = (down**2).mean(axis=(1, 2, 3)) + (right**2).mean(axis=(1, 2, 3))
        (of_content + strength * of_style + smoothness * of_pixels).sum().backward()
        optimizer.step()
        x.data = np.clip(x.data, 0, 1)
        losses.append((of_content.numpy().mean(), of_style.numpy().mean()))
    return x.numpy().copy(), np.array(losses), [*kept, x.numpy().copy()]


steps = 40 if this.quick else 100
rows, columns = len(contents), len(styles)
content_batch = np.repeat(contents, columns, axis=0)
style_batch = np.tile(np.stack(list(styles.values())), (rows, 1, 1, 1))
results, losses, _ = transfer(body, content_batch, style_batch, steps=steps)
print(f"{len(results)} images, {steps} steps: the style loss falls from {losses[0, 1]:.2f} to {losses[-1, 1]:.3f}")
print(f"the content loss rises from {losses[0, 0]:.2f} to {losses[-1, 0]:.2f}")
assert losses[-1, 0] > losses[0, 0]
assert losses[-1, 1] < 0.2 * losses[0, 1], "the style is to be reached"


# %%
def show_image(axes, image):
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


figure = viz.titled_figure(
    9.0, 8.0, "Content, style, and both", "left: contents; above: styles, drawn by formula; by our own small network"
)
grid = figure.subplots(rows + 1, columns + 1)
grid[0, 0].set_axis_off()
for column, (name, style) in enumerate(styles.items(), 1):
    show_image(grid[0, column], style)
    grid[0, column].set_title(name, fontsize=10, color=viz.INK)
for row in range(rows):
    show_image(grid[row + 1, 0], contents[row])
    for column in range(columns):
        show_image(grid[row + 1, column + 1], results[row * columns + column])
this.show(figure, "19_style_transfer_grid")

# %% [markdown]
# ## From the first step to the last
#
# One picture, twice: begun from the content itself, and begun from noise. From noise, the optimizer would have to find
# the content too.

# %%
moments = (0, 3, 8, 20) if this.quick else (0, 3, 8, 20, 50)
noise = np.random.default_rng(0).random(contents[:1].shape, dtype=np.float32)
waves = styles["waves"][None]
from_content = transfer(body, contents[:1], waves, steps=steps, keep=moments)
from_noise = transfer(body, contents[:1], waves, steps=steps, start=noise, keep=moments)
for name, (_, curve, _) in (("content", from_content), ("noise", from_noise)):
    print(f"begun from {name:8s} content {curve[0, 0]:.3f} → {curve[-1, 0]:.3f}   style {curve[0, 1]:.3f}", end=" ")
    print(f"→ {curve[-1, 1]:.4f}")

figure = viz.titled_figure(10.5, 6.6, "Over the steps", "above: begun from the content; middle: begun from noise")
upper, lower = figure.subfigures(2, 1, height_ratios=(1.9, 1))
grid = upper.subplots(2, len(moments) + 1)
for axes, kept in zip(grid, (from_content[2], from_noise[2]), strict=True):
    for cell, moment, image in zip(axes, (*moments, steps), kept, strict=True):
        show_image(cell, image[0])
        cell.set_title(f"step {moment}", fontsize=9, color=viz.INK)
for axes, column, name in zip(lower.subplots(1, 2), (0, 1), ("content loss", "style loss"), strict=True):
    viz.plain(axes)
    axes.plot(from_content[1][:, column], color=viz.ACCENT, linewidth=2, label="from the content")
    axes.plot(from_noise[1][:, column], color=viz.INK, linewidth=1.2, label="from noise")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=viz.INK)
    axes.set_xlabel("step", fontsize=8.5, color=viz.INK)
    axes.legend(frameon=False, fontsize=8.5)
this.show(figure, "19_style_transfer_steps")

# %% [markdown]
# Begun from noise it ends nearer to the style than begun from the content: there is nothing in the way. The content is
# hardly found in these few steps. Its loss falls little in the quick form and rises in the full one, where the horse is
# a faint shape at the end. That is a reason to begin with the content.
#
# ## What the optimizer has matched
#
# The Gram matrices of the first layer: of the content, of the style, and of the result. The result looks like the
# content and has nearly the matrix of the style.

# %%
first = [features(body, ml.Tensor(x))[0] for x in (contents[:1], waves, from_content[0])]
of_content, of_style, of_result = (gram(f).numpy()[0] for f in first)
before = np.linalg.norm(of_content - of_style) / np.linalg.norm(of_style)
after = np.linalg.norm(of_result - of_style) / np.linalg.norm(of_style)
print(f"distance to the style's Gram matrix, relative: content {before:.2f}, result {after:.3f}")
assert after < 0.3 * before

figure = viz.titled_figure(
    9.0, 6.3, "Gram matrices of the first layer", "their root; dark: two feature maps that answer at the same places"
)
top = max(of_content.max(), of_style.max(), of_result.max())
parts = (("content", contents[0], of_content), ("style", waves[0], of_style), ("result", from_content[0][0], of_result))
for pair, (name, picture, matrix) in zip(figure.subplots(2, 3).T, parts, strict=True):
    show_image(pair[0], picture)
    pair[0].set_title(name, fontsize=10, color=viz.INK)
    pair[1].imshow(np.sqrt(matrix), cmap="Blues", vmin=0, vmax=np.sqrt(top))
    pair[1].set_xticks([])
    pair[1].set_yticks([])
    pair[1].set_xlabel("feature map", fontsize=8.5, color=viz.INK)
this.show(figure, "19_style_transfer_gram")

# %% [markdown]
# ## Does the network have to be trained?
#
# For textures, even random filters do well (Ustyuzhaninov et al. 2016). Here the same is done with the untrained
# network, all settings equal. Their own losses cannot be compared, since each network measures in its own features.
# A judge that knows neither network is the covariance $K$ of patches of 5×5 pixels. The distance between the
# covariance of a picture and that of the style, $K_s$, is measured by their angle,
# $1 - \langle K, K_s \rangle / (\|K\|\, \|K_s\|)$: 0 if they have the same pattern, whatever the contrast.


# %%
def patch_covariance(image):
    patches = np.lib.stride_tricks.sliding_window_view(image, (5, 5), axis=(0, 1)).reshape(-1, 25 * channels)
    return np.cov(patches.T.astype(np.float64))


def judge(pictures):
    """The mean distance of pictures to their styles in the covariance of patches."""
    distances = []
    for picture, style in zip(pictures, style_batch, strict=True):
        K, Ks = patch_covariance(picture), patch_covariance(style)
        distances.append(1 - np.sum(K * Ks) / (np.linalg.norm(K) * np.linalg.norm(Ks)))
    return np.mean(distances)


by_untrained, _, _ = transfer(untrained, content_batch, style_batch, steps=steps)
verdict = {"contents": judge(content_batch), "trained": judge(results), "untrained": judge(by_untrained)}
for name, distance in verdict.items():
    print(f"{name:10s} distance of the patches to the style {distance:.2f}")
assert max(verdict["trained"], verdict["untrained"]) < verdict["contents"], "both bring the style nearer"

figure = viz.titled_figure(
    9.0, 4.9, "Trained and random filters", "the same settings; the number is the distance of the patches to the style"
)
parts = figure.subfigures(2, 1)
for part, name, pictures in zip(parts, ("trained", "untrained"), (results, by_untrained), strict=True):
    part.suptitle(f"{name}: {verdict[name]:.2f}", fontsize=10, color=viz.INK)
    for cell, image in zip(part.subplots(1, columns), pictures, strict=False):
        show_image(cell, image)
this.show(figure, "19_style_transfer_random")

# %% [markdown]
# ## As augmentation
#
# A styled image keeps its label, as long as one can still see what it shows. How strong may the style be? Test images
# that the network names right are styled at several strengths λ, with μ = 2λ and half the steps, and the network is
# asked again.

# %%
count = 16 if this.quick else 48
said = classifier(ml.Tensor(as_floats(images.test_x[:500]))).numpy().argmax(axis=1)
right = np.flatnonzero(said == images.test_y[:500])[:count]
pictures, labels = as_floats(images.test_x[right]), images.test_y[right]
native = np.stack(list(draw_styles(size).values()))
given = native[np.arange(count) % len(native)]
styled = {0.0: pictures}
for strength in (0.03, 0.3, 3.0):
    styled[strength], _, _ = transfer(body, pictures, given, strength, smoothness=2 * strength, steps=steps // 2)
verdicts = {s: classifier(ml.Tensor(x)).numpy().argmax(axis=1) for s, x in styled.items()}
for strength, names in verdicts.items():
    print(f"λ = {strength:4.2f}: the network still names {np.mean(names == labels):4.0%} of {count} images right")

figure = viz.titled_figure(10.5, 6.6, "Styled images and their labels", "what the network says; blue: it is the label")
for row, (strength, changed) in zip(figure.subfigures(len(styled), 1), styled.items(), strict=True):
    row.suptitle(f"λ = {strength:g}", x=0.01, ha="left", fontsize=10, fontweight="bold", color=viz.INK)
    for i, cell in enumerate(row.subplots(1, 8)):
        show_image(cell, changed[i])
        name = verdicts[strength][i]
        cell.set_title(images.classes[name], fontsize=8.5, pad=2, color=viz.ACCENT if name == labels[i] else viz.INK)
this.show(figure, "19_style_transfer_augmentation")

# %% [markdown]
# ## Take away
#
# - Gram matrices of feature maps know which patterns occur together, and not where: that is a style. The feature maps
#   themselves know where: that is a content.
# - A gradient with respect to the input is no more work than one with respect to the weights. An optimizer minimizes
#   over whatever is its parameter, also over pixels.
# - Random filters carry a style too. In the full form, with the photographs of CIFAR-10, the trained ones come nearer
#   to the patches of the style; on the digits of the quick form both are alike.
# - As augmentation a style has to be weak to keep the label for certain. With λ = 3 the network fails on most of the
#   images that it had named right, though we still see what many of them show: it looks at textures more than we do
#   (Geirhos et al. 2019, on large networks).
#
# ## Exercises
#
# 1. Derive the gradient of the content loss, $E = \|F - P\|^2 / \|P\|^2$, and check it, by hand and by finite
#    differences.
# 2. Shift the style by a few pixels, around the edge (`np.roll`). How much do its Gram matrices change, how much its
#    features?
# 3. Leave out the content, keep the smoothness, and begin with noise: the result is a texture. Use the Gram matrices of
#    the first layer only, of the first two, and of all three. What does each layer add?
# 4. Gatys et al. minimize with a quasi-Newton method. Compare Adam, heavy ball and plain gradient descent on the
#    texture, each with the best of a few rates.
