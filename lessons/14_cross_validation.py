# %% [markdown]
# # 14 · Cross-validation
#
# The training loss says how well a model knows its samples. What one wants to know is how well it does on others. So
# some samples are held out, and the model is judged by them. How many, which ones, and how often? And what happens to
# the answer when it is used to choose something?
#
# This lesson makes every kind of split by hand and finds it again in `minidl/data/splits.py`. It measures how far an
# estimate from a single split can be off. It uses held-out samples for what they are for, to end a training in time and
# to choose hyper-parameters, and ends with a trap: choosing by the test set.
#
# Lecture notes §1.2.2; Bergstra and Bengio 2012 (random search).

# %%
import importlib.util
import itertools
import tempfile
from pathlib import Path

import numpy as np

import minidl as ml
from minidl import course, data, models, optim, studies, training, viz

splits = data.splits
this = course.lesson("14 · Cross-validation")

# %% [markdown]
# ## Splits
#
# A split is a pair of index arrays, (training, held out). Of $N$ samples:
#
# | split | what is held out | how many pairs |
# |---|---|---|
# | hold-out | a random part, by default 30 % | 1 |
# | repeated | a new random part each time | as many as you like |
# | k-fold | each of $k$ equal parts once; by default $k = 10$ | $k$ |
# | stratified k-fold | the same, with the classes in proportion | $k$ |
# | leave-p-out | each set of $p$ samples | $\binom{N}{p}$ |
#
# Each is a few lines of NumPy: a random order, and a cut.

# %%
N = 20
labels = np.repeat([0, 1, 2], [10, 5, 5])  # three classes, sorted


def others(held):
    return np.setdiff1d(np.arange(N), held)


def hold_out(seed=0):
    held = np.random.default_rng(seed).permutation(N)[: round(0.3 * N)]
    return others(held), np.sort(held)


def repeated(repeats, seed=0):
    for i in range(repeats):
        held = np.random.default_rng([seed, i]).permutation(N)[: round(0.3 * N)]
        yield others(held), np.sort(held)


def k_fold(k, seed=0):
    for held in np.array_split(np.random.default_rng(seed).permutation(N), k):
        yield others(held), np.sort(held)


def leave_p_out(p):
    for held in itertools.combinations(range(N), p):
        yield others(held), np.array(held)


def stratified_k_fold(k, seed=0):
    """Shuffle, sort by class, and deal the samples to the folds in turn."""
    order = np.random.default_rng(seed).permutation(N)
    order = order[np.argsort(labels[order], kind="stable")]
    for i in range(k):
        yield others(order[i::k]), np.sort(order[i::k])


by_hand = {
    "hold-out": [hold_out()],
    "repeated": list(repeated(5)),
    "k-fold": list(k_fold(5)),
    "stratified k-fold": list(stratified_k_fold(5)),
    "leave-2-out": list(leave_p_out(2)),
}
from_minidl = {
    "hold-out": [splits.hold_out(N)],
    "repeated": list(splits.repeated(N, 5)),
    "k-fold": list(splits.k_fold(N, 5)),
    "stratified k-fold": list(splits.stratified_k_fold(labels, 5)),
    "leave-2-out": list(splits.leave_p_out(N, 2)),
}
print("                    pairs   each sample is held out   of class 0, 1, 2 in a held-out part")
for name, pairs in by_hand.items():
    times = np.bincount(np.concatenate([held for _, held in pairs]), minlength=N)
    classes = np.array([np.bincount(labels[held], minlength=3) for _, held in pairs])
    ranges = ", ".join(f"{low}–{high}" for low, high in zip(classes.min(axis=0), classes.max(axis=0), strict=True))
    print(f"{name:18} {len(pairs):6}   {times.min():5} to {times.max()} times   {ranges:>25}")
    for mine, theirs in zip(pairs, from_minidl[name], strict=True):
        assert len(np.intersect1d(*mine)) == 0
        assert len(np.union1d(*mine)) == N
        if name != "stratified k-fold":
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])

# stratified: minidl deals in another order; what it promises is that no two folds differ by more than one
for pairs in (by_hand["stratified k-fold"], from_minidl["stratified k-fold"]):
    classes = np.array([np.bincount(labels[held], minlength=3) for _, held in pairs])
    assert np.ptp(classes, axis=0).max() <= 1

figure = viz.titled_figure(
    11, 3.6, "Splits of 20 samples", "a row for each pair, blue: held out; the lines separate the three classes"
)
for axes, (name, pairs) in zip(figure.subplots(1, 5), from_minidl.items(), strict=True):
    shown = pairs[:12]
    picture = np.zeros((len(shown), N))
    for row, (_, held) in zip(picture, shown, strict=True):
        row[held] = 1
    for i, j in itertools.product(range(len(shown)), range(N)):
        axes.plot(j, i, "s", markersize=4, color=viz.ACCENT if picture[i, j] else viz.FAINT)
    for border in (9.5, 14.5):
        axes.plot([border, border], [-0.6, len(shown) - 0.4], color=viz.INK, linewidth=0.8)
    axes.set_ylim(11.8, -0.8)
    axes.set_axis_off()
    more = f" ({len(pairs)} in all)" if len(pairs) > len(shown) else ""
    axes.set_title(name + more, loc="left", fontsize=10, color=viz.INK)
this.show(figure, "14_cross_validation_splits")

# %% [markdown]
# In plain k-fold some parts have none of a class; in the stratified form the classes are spread as evenly as whole
# samples can be.
#
# ## How far a single split can be off
#
# Take 200 digits as all the data there are, and a model that trains in a millisecond: least squares on the 64 pixels
# with an L2 penalty, one output for each class. The remaining digits play the rest of the world: they say what the
# model is really worth. Now estimate that from the 200 alone, again and again, with other random splits.

# %%
digits = data.load("digits", size=8)
pixels = np.concatenate([digits.train_x, digits.test_x]).reshape(-1, 64).astype(np.float64)
digit = np.concatenate([digits.train_y, digits.test_y])
order = np.random.default_rng(1).permutation(len(pixels))
x, y = pixels[order[:200]], digit[order[:200]]
world_x, world_y = pixels[order[200:]], digit[order[200:]]


def accuracy(train_x, train_y, test_x, test_y, strength=1.0):
    W = np.linalg.solve(train_x.T @ train_x + strength * np.eye(64), train_x.T @ np.eye(10)[train_y])
    return np.mean((test_x @ W).argmax(axis=1) == test_y)


def estimate(pairs):
    return np.mean([accuracy(x[train], y[train], x[held], y[held]) for train, held in pairs])


truth = accuracy(x, y, world_x, world_y)
seeds = range(60 if this.quick else 300)
estimates = {
    "hold-out, 30 %": [estimate([splits.hold_out(200, seed=seed)]) for seed in seeds],
    "repeated 10 times": [estimate(splits.repeated(200, 10, seed=seed)) for seed in seeds],
    "10-fold": [estimate(splits.k_fold(200, 10, seed=seed)) for seed in seeds],
    "stratified 10-fold": [estimate(splits.stratified_k_fold(y, 10, seed=seed)) for seed in seeds],
    "leave-one-out": [estimate(splits.leave_one_out(200))],
}
print(f"on the rest of the world: {truth:.1%}")
print(f"                        mean    deviation    lowest to highest of {len(seeds)} seeds")
for name, values in estimates.items():
    deviation = f"{np.std(values, ddof=1):8.1%}" if len(values) > 1 else "       –"
    print(f"{name:20} {np.mean(values):7.1%}    {deviation}     {np.min(values):7.1%} to {np.max(values):.1%}")
assert np.std(estimates["hold-out, 30 %"]) > 3 * np.std(estimates["10-fold"])
assert np.mean(estimates["hold-out, 30 %"]) < np.mean(estimates["10-fold"])

figure = viz.titled_figure(
    8.5,
    3.9,
    "The estimate depends on the split",
    f"200 digits, {len(seeds)} random splits; dashed: accuracy on 1,597 others",
)
axes = viz.plain(figure.add_subplot())
rng = np.random.default_rng(0)
for place, (_, values) in enumerate(estimates.items()):
    spread = rng.uniform(-0.28, 0.28, len(values)) if len(values) > 1 else 0
    axes.plot(values, place + spread, "o", color=viz.ACCENT, alpha=0.25, markersize=4, markeredgecolor="none")
    axes.plot(np.mean(values), place, "D", color=viz.INK, markersize=7, markeredgecolor="white")
axes.axvline(truth, color=viz.INK, linestyle=(0, (4, 3)), linewidth=1)
axes.set_yticks(range(len(estimates)), list(estimates))
axes.invert_yaxis()
axes.set_xlabel("estimated accuracy (diamonds: means)")
axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
this.show(figure, "14_cross_validation_spread")

# %% [markdown]
# Two things can be seen. The *spread*: a single hold-out of 60 samples has a deviation of four percentage points, and
# the worst of the 300 in the full form are off their mean by ten, on either side. The estimates by ten folds agree with
# each other far better, for ten times the work. And the *bias*: hold-out trains on 140 samples, 10-fold on 180. With
# less data models are worse, so hold-out is the more pessimistic.
#
# And a third, which no split can mend: all means lie below the dashed line, also that of leave-one-out, which trains on
# 199 of 200. These 200 digits happen to be harder than the others. The spread between the splits of one set of samples
# does not show it (exercise 4).
#
# ## A network in folds
#
# `training.cross_validate` does with a network what the loop above does with least squares: for each fold a new model
# from a new seed, trained on its part, judged by the rest. Anything that is measured on data, such as the mean for
# standardization, is measured on the training part alone (`prepare`). By hand and in minidl:

# %%
images = data.load("digits", size=8)
count, epochs, k = (300, 5, 3) if this.quick else (600, 10, 5)
small_x, small_y = images.train_x[:count], images.train_y[:count]
folds = splits.stratified_k_fold(small_y, k)


def make_trainer(lr=0.05, hidden=32):
    model = models.mlp([64, hidden, 10])
    return training.Trainer(model, optim.HeavyBall(model, lr=lr), progress=False)


by_hand = []
for number, (train, held) in enumerate(folds, start=1):
    with ml.backend.seeded([0, number]):
        trainer = make_trainer()
        part = small_x[train].astype(np.float64)
        scaled = ((small_x - part.mean()) / part.std()).astype(np.float32)
        trainer.fit(data.Loader(scaled[train], small_y[train], 32, seed=0), epochs=epochs)
        by_hand.append(trainer.evaluate((scaled[held], small_y[held])))

found = training.cross_validate(
    make_trainer, small_x, small_y, folds, epochs, prepare=data.Standardization, batch_size=32, show=False
)
print("fold   accuracy   loss by hand   cross_validate")
for mine, theirs in zip(by_hand, found.folds, strict=True):
    print(f"{theirs['fold']:4} {theirs['accuracy']:10.2%} {mine['loss']:14.5f} {theirs['loss']:16.5f}")
    np.testing.assert_allclose(mine["loss"], theirs["loss"], rtol=1e-5)
    assert mine["accuracy"] == theirs["accuracy"]
print(f"mean and deviation: {found.mean['accuracy']:.2%} ± {found.deviation['accuracy']:.2%}")

# %% [markdown]
# `print(found)` gives the same as a table, with times.
#
# ## When to stop
#
# The held-out part can also end a training. The rule: after each epoch look at the validation loss; when it has not
# been better than its best for `patience` epochs in a row, stop, and return to the weights of the best epoch.

# %%
source = this.images("fashion-mnist")
few = 250
train_x, train_y = source.train_x[:few], source.train_y[:few]
held_x, held_y = source.train_x[-1000:], source.train_y[-1000:]
long, patience = (30, 4) if this.quick else (60, 6)


def trained(callbacks=()):
    ml.manual_seed(0)
    model = models.mlp([784, 64, 10])
    trainer = training.Trainer(model, optim.HeavyBall(model, lr=0.03), callbacks=callbacks, progress=False)
    trainer.fit(data.Loader(train_x, train_y, 32, seed=0), (held_x, held_y), long)
    return trainer


whole = trained().history
best, best_epoch, waited, stop = np.inf, 0, 0, long
for epoch, loss in enumerate(whole.column("validation_loss"), start=1):
    if loss < best:
        best, best_epoch, waited = loss, epoch, 0
    else:
        waited += 1
    if waited == patience:
        stop = epoch
        break

rule = training.EarlyStopping(patience)
stopped = trained([rule])
print(f"by hand: stop after epoch {stop}, best is epoch {best_epoch} with {best:.6f}")
print(f"minidl:  {stopped.history.stopped}")
print(f"least of all {long} epochs, had it gone on: {min(whole.column('validation_loss')):.6f}")
print(f"the model stands at the validation loss {stopped.evaluate((held_x, held_y))['loss']:.6f}")
assert (stop, best_epoch) == (len(stopped.history.epochs), rule.best_epoch)
np.testing.assert_allclose([rule.best, stopped.evaluate((held_x, held_y))["loss"]], best, rtol=1e-5)

subtitle = f"{few} images; the held-out loss is not better than at epoch {best_epoch} for {patience} epochs in a row"
figure = viz.titled_figure(8, 4.2, "Early stopping", subtitle)
axes = viz.plain(figure.add_subplot())
at = np.arange(1, long + 1)
for name, color in (("loss", viz.INK), ("validation_loss", viz.ACCENT)):
    values = whole.column(name)
    axes.plot(at, values, color=color, linewidth=1.8, label={"loss": "training"}.get(name, "held out"))
axes.plot(best_epoch, best, "o", color=viz.ACCENT, markersize=8, markeredgecolor="white")
axes.axvline(stop, color=viz.INK, linestyle=(0, (4, 3)), linewidth=1)
axes.annotate(f"stop at {stop}", (stop, 0.97), xycoords=axes.get_xaxis_transform(), xytext=(5, 0),
              textcoords="offset points", va="top", color=viz.INK)  # fmt: skip
axes.set_xlabel("epoch")
axes.set_ylabel("loss")
axes.legend(frameon=False, fontsize=9, loc="upper right")
this.show(figure, "14_cross_validation_early_stopping")

# %% [markdown]
# The validation loss is noisy, so a small patience may stop too early: in the quick form a better epoch would still
# have come. A large patience costs time, and nothing else, because the best weights are kept.
#
# ## Searching hyper-parameters
#
# Two of them here: the learning rate and the number of hidden units, judged by 3-fold cross-validation. A grid tries
# every combination of some values. Random search draws each trial anew, the rate evenly in its logarithm. With the same
# number of trials the random one sees about that many different values of *each* parameter; the grid repeats a few.
# Where only one of the parameters matters, that is an advantage.

# %%
search_folds = splits.stratified_k_fold(small_y, 3)
search_epochs = 2 if this.quick else 4


def score(lr, hidden):
    result = training.cross_validate(
        lambda: make_trainer(lr, hidden), small_x, small_y, search_folds, search_epochs, batch_size=32, show=False
    )
    return result.mean["accuracy"]


rates, widths = ((0.003, 0.03, 0.3), (8, 32)) if this.quick else ((0.003, 0.01, 0.03, 0.1), (8, 16, 32, 64))
grid = [{"lr": lr, "hidden": hidden} for lr, hidden in itertools.product(rates, widths)]
random = []
for place in range(len(grid)):
    rng = np.random.default_rng([0, place])
    lr = float(np.exp(rng.uniform(np.log(0.001), np.log(0.5))))
    random.append({"lr": lr, "hidden": int(rng.integers(8, 64, endpoint=True))})
results = {}
for name, trials in (("grid", grid), ("random", random)):
    results[name] = [score(**values) for values in trials]
    i = int(np.argmax(results[name]))
    shown = f"lr {trials[i]['lr']:.4f}, {trials[i]['hidden']} hidden units: {results[name][i]:.2%}"
    print(f"{name:7} {len(trials)} trials, {len({v['lr'] for v in trials})} different rates; the best is {shown}")

# %% [markdown]
# `studies.search` does the same with Optuna, in one process or many, and can go on after an interruption. It also has a
# method that learns from earlier trials ("bayesian"). Where Optuna is not installed, this cell says so.

# %%
if importlib.util.find_spec("optuna") is None:
    print('Optuna is not installed: pip install "minidl[search]". The search by hand above is the same.')
else:
    spaces = {
        "grid": {"lr": studies.Choice(rates), "hidden": studies.Choice(widths)},
        "random": {"lr": studies.Range(0.001, 0.5, log=True), "hidden": studies.Range(8, 64, integer=True)},
    }
    for name, space in spaces.items():
        with tempfile.TemporaryDirectory() as folder:
            search = studies.search(
                lambda values, report: score(**values), space, name=name, method=name, quiet=True,
                trials=None if name == "grid" else len(random), storage=Path(folder) / "trials.journal",
            )  # fmt: skip
        tried = [trial["value"] for trial in search.trials]
        print(f"studies.search, {name}: {len(tried)} trials, best {search.value:.2%}; the same as by hand")
        np.testing.assert_allclose(tried, results[name], rtol=1e-12)
    words = f"{len(tried)} random trials, judged by 3-fold cross-validation; later ones darker, the best one orange"
    picture = viz.search(search.trials, search.settings["space"], "A random search", words, ylabel="accuracy")
    this.show(picture, "14_cross_validation_search")

# %% [markdown]
# ## The trap
#
# The best of many trials is best for two reasons: it is good, and it was lucky. The value by which it was chosen
# contains the luck. To see the luck alone, take models that know nothing: each guesses one of two classes at random.
# All have an accuracy of 50 %. Choose the best of $K$ of them by a test set of $n$ samples. The accuracy of one is
# about normal with the deviation $1 / (2\sqrt n)$, and the largest of $K$ of them is on average not above
#
# $$\tfrac12 + \frac{1}{2 \sqrt n} \sqrt{2 \ln K}$$
#
# and not far below it.

# %%
n, repeats = 100, 200 if this.quick else 1000
rng = np.random.default_rng(0)
counts = (1, 10, 100, 1000)
print(f"   K   accuracy of the best on the {n} samples that chose it   on {n} new ones     bound")
chosen, fresh = [], []
for K in counts:
    on_test = rng.binomial(n, 0.5, size=(repeats, K)) / n
    on_new = rng.binomial(n, 0.5, size=repeats) / n  # the chosen model guesses there, too
    chosen.append(on_test.max(axis=1).mean())
    fresh.append(on_new.mean())
    bound = 0.5 + np.sqrt(2 * np.log(K)) / (2 * np.sqrt(n))
    print(f"{K:4} {chosen[-1]:30.1%} {fresh[-1]:32.1%} {bound:12.1%}")
assert chosen[2] > 0.6
assert np.allclose(fresh, 0.5, atol=0.02)

# %% [markdown]
# With a hundred trials a model that knows nothing looks like one with more than 60 %. The same happens, with smaller
# numbers, in the search above: the accuracy of the best trial is a little too good. So the test set is used once, at
# the very end, for the one model that was chosen by other samples. For the random search above that is:

# %%
best = max(zip(results["random"], random, strict=True), key=lambda pair: pair[0])
ml.manual_seed(0)
trainer = make_trainer(**best[1])
trainer.fit(data.Loader(small_x, small_y, 32, seed=0), epochs=search_epochs)
final = trainer.evaluate((images.test_x, images.test_y))["accuracy"]
judged = f"{best[0]:.2%} by cross-validation"
print(f"the best random trial: {judged}; on {len(images.test_y)} test digits, used once: {final:.2%}")

figure = viz.titled_figure(
    7.2, 4.0, "The best of many that know nothing", f"accuracy on {n} samples, mean of {repeats} repeats"
)
axes = viz.plain(figure.add_subplot())
axes.plot(counts, chosen, "o-", color=viz.ACCENT)
axes.plot(counts, fresh, "o-", color=viz.INK)
axes.set_xscale("log")
axes.set_ylim(0.45, 0.7)
axes.annotate("on the samples that chose it", (10, chosen[1]), xytext=(-4, 12), textcoords="offset points",
              ha="right", color=viz.ACCENT)  # fmt: skip
axes.annotate("on new samples", (10, fresh[1]), xytext=(0, -16), textcoords="offset points", color=viz.INK)
axes.set_xlabel("models to choose from")
axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
this.show(figure, "14_cross_validation_trap")

# %% [markdown]
# The test accuracy is the one to report, also if it is the lower one. (With 355 digits its standard error is above one
# percentage point, so that not all of a difference is the luck of the choice.)
#
# ## Take away
#
# - One random split is one draw. Use k-fold where a training is cheap, stratified where classes are rare, and report
#   the spread.
# - Everything that is measured or chosen with samples has seen them: standardization, the number of epochs, the
#   hyper-parameters. Measure and choose inside of the training part, or on held-out samples that judge nothing else.
# - The best of many trials looks better than it is. The test set judges once, at the end.
#
# ## Exercises
#
# 1. A rare class: 200 samples, 10 of which are of class 1. In how many of 200 seeds has plain 10-fold a part without
#    any of them? And the stratified form?
# 2. For least squares with an L2 penalty leave-one-out needs no retraining: with $A = X (X^T X + \lambda I)^{-1} X^T$
#    the error of sample $i$, when it is left out, is $(y_i - \hat y_i) / (1 - A_{ii})$. Check it against $N$ trainings.
# 3. 50 samples, 2,000 features, labels 0 and 1, all of it pure chance. Pick the 20 features that correlate most with
#    the labels, then cross-validate a least-squares classifier on them. Then pick them anew in each training part. What
#    do the two estimates say?
# 4. Take 100 different sets of 200 digits. For each, the 10-fold estimate and the accuracy on all other digits. How
#    large is the deviation of their difference, beside that of the same estimate over 100 seeds of one set?
