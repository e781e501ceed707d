"""The study of residual smoothing: does it generalize better than weight decay alone? R, tables 1 to 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.studies.recipe import Recipe
from minidl.studies.space import Range
from minidl.studies.study import Options, Published, Study

BASELINE = "SGD"
DECAYS = (1e-2, 1e-3, 1e-4, 1e-5)
GRAY = ("digits", "mnist", "fashion-mnist")  # R's decay for Fashion-MNIST is ten times that for the others
ANNEALINGS = {"Laplace": (0.5, 0.2), "Logistic": (0.5, 0.25)}  # b for gray images, and R's for the others
ADAPTIVE = {"Adam": 1e-3, "AdaGrad": 1e-2}


def decay(data: str) -> float:
    """Return R's weight decay for a dataset."""
    return 1e-3 if data in GRAY else 1e-4


def plain(data: str, strength: float) -> str:
    """Return the name of the recipe with no smoothing and this weight decay."""
    return BASELINE if strength == decay(data) else f"{BASELINE}, weight decay {strength:g}"


def plan(options: Options) -> list[Recipe]:
    """Return least squares with four weight decays, Adam, AdaGrad, label smoothing, and the smoothing schemes."""
    strength = decay(options.data)

    def recipe(
        name: str,
        loss: str = "SquaredResidual",
        optimizer: str = "HeavyBall(beta=0.9, rate_inside=False)",
        penalty: str = "L2({weight_decay})",
        **values: Any,
    ) -> Recipe:
        return Recipe(
            name,
            options.model,
            optimizer,
            rate="PiecewiseConstant(({rate}, {rate} / 100), (0.75 * {epochs},))",
            loss=loss,
            penalty=penalty,
            augment="crop_flip(4)" if options.data.startswith("cifar") else "",
            batch_size=options.batch_size,
            epochs=options.epochs,
            values={"rate": 0.1, "weight_decay": strength} | values,
        )

    decays = [recipe(plain(options.data, each), penalty=f"L2({each})") for each in DECAYS if each != strength]
    adaptive = [recipe(name, optimizer=name, rate=rate) for name, rate in ADAPTIVE.items()]
    schemes = []
    for kind, (wide, narrow) in ANNEALINGS.items():
        b = wide if options.data in GRAY else narrow
        annealing = f"{kind}Annealing({{b}})"
        schemes += [
            recipe(f"global, {kind}", f"ResidualSmoothing({annealing}, mode='global')", b=b),
            recipe(f"global+local, {kind}", f"ResidualSmoothing({annealing}, {{alpha}})", b=b, alpha=1.0),
        ]
    by_epoch = "ResidualSmoothing(LogisticAnnealing({b}, unit='epoch', epochs={epochs}), {alpha})"
    return [
        recipe(BASELINE),
        *decays,
        *adaptive,
        recipe("adaptive penalty", penalty="AdaptivePenalty(L2({weight_decay}), {nu})", nu=0.5),
        recipe("label smoothing", "SquaredResidual(label_smoothing={eps})", eps=0.1),
        recipe("local", "ResidualSmoothing({s}, steepness={alpha}, mode='local')", s=0.5, alpha=1.0),
        *schemes,
        recipe("global+local, b in epochs", by_epoch, b=0.5, alpha=1.0),
    ]


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: R's ranges of b and α, and decades around its other settings."""
    ranges = {
        "rate": Range(1e-4, 1.0, log=True),
        "weight_decay": Range(1e-5, 1e-2, log=True),
        "b": Range(0.1, 1.7),
        "alpha": Range(0.25, 4.0, log=True),
        "s": Range(0.05, 1.0),
        "nu": Range(0.05, 2.0, log=True),
        "eps": Range(0.0, 0.4),
    }
    return {name: ranges[name] for name in ranges if name in recipe.used}


SGD = tuple(plain("fashion-mnist", each) for each in DECAYS)
SCHEMES = ("global, Laplace", "global, Logistic", "global+local, Laplace", "global+local, Logistic")
COMPARED = (BASELINE, *ADAPTIVE, "label smoothing", *SCHEMES[2:])
TABLES: dict[tuple[str, float], tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]] = {
    # data and fraction: recipes, maximum, mean of the last 10 % of epochs
    ("fashion-mnist", 1): (
        (*SGD, *SCHEMES),
        (88.46, 93.36, 93.25, 93.21, 93.73, 93.77, 93.89, 93.91),
        (88.04, 93.30, 93.19, 93.16, 93.65, 93.64, 93.79, 93.67),
    ),
    ("fashion-mnist", 1 / 2): (
        (*SGD, *SCHEMES[2:]),
        (88.84, 92.52, 91.76, 91.92, 92.99, 92.93),
        (88.55, 92.45, 91.73, 91.87, 92.87, 92.80),
    ),
    ("fashion-mnist", 1 / 4): (
        (*SGD, *SCHEMES[2:]),
        (88.46, 91.32, 90.55, 90.58, 91.75, 91.73),
        (88.27, 91.25, 90.52, 90.53, 91.65, 91.58),
    ),
    ("fashion-mnist", 1 / 8): (
        (*SGD, *SCHEMES[2:]),
        (88.14, 89.79, 89.00, 88.62, 90.12, 90.18),
        (88.02, 89.72, 88.94, 88.55, 90.01, 90.09),
    ),
    ("cifar10", 1): (
        COMPARED,
        (92.66, 90.50, 87.67, 92.36, 92.93, 92.89),
        (92.54, 89.86, 86.47, 92.21, 92.78, 92.74),
    ),
    ("cifar100", 1): (
        COMPARED,
        (70.94, 68.42, 66.55, 71.09, 71.06, 71.46),
        (70.71, 68.21, 66.41, 70.86, 70.89, 71.11),
    ),
    ("svhn", 1): (
        COMPARED,
        (95.88, 95.82, 94.70, 95.99, 96.09, 96.11),
        (95.83, 95.37, 94.36, 95.95, 96.05, 96.06),
    ),
}

STUDY = Study(
    name="smoothing",
    title="Adaptive residual smoothing",
    source=(
        "R: J. Cho, J. Kwon, B.-W. Hong, *Adaptive Regularization via Residual Smoothing in Deep Learning "
        "Optimization*, 2019, tables 1 to 3. There: SGD with momentum 0.9, batches of 128, mean squared error of the "
        "residual, He initialization, a rate of 0.1 for 75 % of the epochs and then 0.001, 5 trials; ResNet-20 and 48 "
        "epochs for Fashion-MNIST, ResNet-56 for CIFAR-10 and CIFAR-100 (160 epochs) and SVHN (100); weight decay "
        "0.001 for Fashion-MNIST and 0.0001 elsewhere. R leaves open what it chose of a grid, by the test images, for "
        "b and in table 1 for α, and the unit of b: here b is a share of the training, with which Logistic annealing "
        "never comes back to the plain loss (b = 0.5: s is 0.60 at the beginning and 0.94 at the end), and a number of "
        "epochs in one recipe, whose smoothing is over within a few epochs. The momentum is that of gradients, with "
        "the rate outside: with the rate inside, the steps before the cut to a hundredth would carry the weights away."
    ),
    plan=plan,
    space=space,
    options=Options("fashion-mnist", (1 / 8,), "small_cnn(normalization='batch')", epochs=24, trials=5),
    quick={"data": "digits", "fractions": (1 / 4,), "epochs": 8, "trials": 3},
    full={"fractions": (1.0, 1 / 2, 1 / 4, 1 / 8), "model": "resnet(20)", "epochs": 48},
    baseline=BASELINE,
    published=tuple(
        Published(recipe, name, fraction, maximum / 100, last / 100)
        for (name, fraction), table in TABLES.items()
        for recipe, maximum, last in zip(*table, strict=True)
    ),
)
