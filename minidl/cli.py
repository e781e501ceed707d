"""The command `minidl`. Heavy imports stay inside the functions, so that `minidl --help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

STUDIES = {
    "smoothing": "adaptive residual smoothing beside weight decay and label smoothing",
    "sharpening": "blurred images first, then sharper and sharper ones",
    "optimizers": "optimizers plain and with all adjustments",
    "regularizers": "penalties, constraints and other regularizers side by side",
    "normalization": "kinds of normalization side by side",
    "dropout": "kinds of dropout side by side",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("minidl: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError) as error:
        print(f"minidl {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from minidl import __version__

    parser = argparse.ArgumentParser(prog="minidl", description="Learn CNN optimization: train, compare and look.")
    parser.add_argument("--version", action="version", version=f"minidl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    compare = commands.add_parser(
        "compare",
        help="race optimizers on one network; ends in a table and a picture",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    compare.add_argument("--optimizers", default="all", help="comma-separated names, or 'all' for the eleven")
    compare.add_argument("--model", default="lenet5", help="lenet5, mlp, cifar_cnn or resnet20")
    compare.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, cifar10, cifar100 or svhn")
    compare.add_argument("--epochs", type=int, default=10, help="epochs of the race")
    compare.add_argument("--batch-size", type=int, default=64, help="images in a batch")
    compare.add_argument("--lr", default="grid", help="a rate for all, 'default', or 'grid': tune each on a small grid")
    compare.add_argument("--seed", type=int, default=0, help="of initial weights and batches")
    compare.add_argument("--device", default="cpu", help="cpu, gpu or auto")
    compare.add_argument("--out", default="minidl-compare", help="folder for the table and the picture")
    compare.set_defaults(run=_compare)

    race = commands.add_parser(
        "race",
        help="race optimizers, first and second order, on a surface; ends in a table, pictures and an interactive page",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    race.add_argument(
        "--surface", default="rosenbrock", help="rosenbrock, beale, himmelblau, saddle, quadratic or rastrigin"
    )
    race.add_argument("--condition", type=float, help="condition number, for --surface quadratic (100 if not given)")
    race.add_argument(
        "--optimizers",
        default="all",
        help="'all', or some of sgd,heavyball,nesterov,adagrad,adagrad-exp,rmsprop,adadelta,adam,adamax,nadam,amsgrad,"
        "steepest,newton,gauss-newton,lm, and the variants adam-uncorrected,rmsprop-outside",
    )
    race.add_argument("--steps", type=int, default=200, help="steps of every run")
    race.add_argument(
        "--start", nargs=2, type=float, metavar=("X", "Y"), help="where to begin (the surface's own start if not given)"
    )
    race.add_argument(
        "--pictures",
        default="all",
        help="'all', or some of sheet,page,animation,sensitivity,map,inside,effective,momentum,amsgrad",
    )
    race.add_argument("--out", default="minidl-race", help="folder for the table and the pictures")
    race.set_defaults(run=_race)

    _add_study(commands.add_parser("study", help="make a paper's experiment; ends in its table, ours beside"))
    _add_lesson(commands.add_parser("lesson", help="run a lesson of the course, or name them all"))
    _add_data(commands.add_parser("data", help="datasets: which there are, where they lie, whether they are whole"))

    info = commands.add_parser("info", help="versions, the device, and why the GPU cannot be used if it cannot")
    info.set_defaults(run=_info)
    return parser


def _add_study(parser: argparse.ArgumentParser) -> None:
    studies = parser.add_subparsers(dest="study", required=True, metavar="study")
    for name, help in STUDIES.items():
        study = studies.add_parser(name, help=help, description=f"{help}. What is not given is the study's default.")
        study.add_argument("--quick", action="store_true", help="the embedded digits, under three minutes on two cores")
        study.add_argument("--full", action="store_true", help="as in the source: for a GPU, or for days")
        study.add_argument("--data", help="digits, mnist, fashion-mnist, cifar10, cifar100 or svhn")
        study.add_argument(
            "--fraction", nargs="+", metavar="F", help="of the training images, as in 1/8; one or several"
        )
        study.add_argument("--model", help="as in 'resnet(20)' or \"small_cnn(normalization='batch')\"")
        study.add_argument("--epochs", type=int, help="of every run")
        study.add_argument("--trials", type=int, help="runs of every recipe, with different seeds")
        study.add_argument("--seed", type=int, help="of the first trial")
        study.add_argument("--batch-size", type=int, help="images in a batch")
        study.add_argument(
            "--grid",
            action="append",
            default=[],
            metavar="NAME=V,V,…",
            help="make each recipe that has this hyper-parameter with all values; may be given several times",
        )
        study.add_argument("--only", action="append", default=[], metavar="PART", help="recipes of names with this")
        study.add_argument("--tuning-epochs", type=int, help="of the study's own tuning, for each value that it tries")
        study.add_argument("--tuning-images", type=int, help="of the study's own tuning, at most")
        study.add_argument("--search", choices=("grid", "random", "bayesian"), help="tune each recipe first, by Optuna")
        study.add_argument("--budget", type=int, help="trials of the search for each recipe (20)")
        study.add_argument("--storage", help="of the search: an Optuna storage URL that several processes share")
        study.add_argument("--processes", type=int, help="runs at the same time (as many as cores; 1 on a GPU)")
        study.add_argument("--device", default="cpu", help="cpu, gpu or auto (cpu)")
        study.add_argument("--out", help=f"folder (minidl-{name})")
        study.set_defaults(run=_study)
    listed = studies.add_parser("list", help="all studies: their settings, recipes and hyper-parameters")
    listed.set_defaults(run=_study_list)
    repeat = studies.add_parser("repeat", help="make the run of a record again, and compare")
    repeat.add_argument("record", help="a file in a study's folder `runs`")
    repeat.add_argument("--device", default="cpu", help="cpu, gpu or auto (cpu)")
    repeat.set_defaults(run=_repeat)


def _add_lesson(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="of the lesson, or `list`")
    parser.add_argument("--quick", action="store_true", help="less data and fewer steps: seconds instead of minutes")
    parser.add_argument("--solutions", action="store_true", help="the solutions of its exercises instead")
    parser.add_argument("--copy", action="store_true", help="do not run it, but copy the script into the folder --out")
    parser.add_argument("--out", default="minidl-lessons", help="folder for the pictures (minidl-lessons)")
    parser.set_defaults(run=_lesson)


def _add_data(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    actions.add_parser("list", help="all datasets, and where they lie").set_defaults(run=_data_list)
    fetch = actions.add_parser("fetch", help="download one into the user's cache")
    fetch.add_argument("name")
    fetch.set_defaults(run=_data_fetch)
    where = actions.add_parser("where", help="the folder of one, or those that are looked in")
    where.add_argument("name", nargs="?")
    where.set_defaults(run=_data_where)
    check = actions.add_parser("check", help="compare the files that are here with the published checksums")
    check.add_argument("name", nargs="?", help="all if not given")
    check.set_defaults(run=_data_check)
    show = actions.add_parser(
        "show", help="a picture of augmented images", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    show.add_argument("name")
    show.add_argument("--augment", default="all", help="as in 'crop(4), flip, rotate(10)', or 'all': a row for each")
    show.add_argument("--seed", type=int, default=0, help="of the random numbers")
    show.add_argument("--out", default="minidl-augmentation.png", help="file of the picture")
    show.set_defaults(run=_data_show)


def _compare(options: argparse.Namespace) -> int:
    from minidl import backend
    from minidl.studies import compare, contenders
    from minidl.studies.comparison import show_table

    backend.use_device(options.device)
    comparison = compare(
        contenders.DEFAULT if options.optimizers == "all" else options.optimizers,
        model=options.model,
        dataset=options.data,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=_rate(options.lr),
        seed=options.seed,
        out=options.out,
    )
    if comparison.runs:
        show_table(comparison)
    return 130 if comparison.interrupted else 0


def _race(options: argparse.Namespace) -> int:
    import os

    from minidl import surfaces
    from minidl.optim import catalogue
    from minidl.viz import racing

    surface: Any = options.surface
    if options.condition is not None:
        if surface != "quadratic":
            raise ValueError(f"--condition is for --surface quadratic, but the surface is {surface}")
        surface = surfaces.quadratic(options.condition)
    result = racing.race(
        surface,
        catalogue.RACE if options.optimizers == "all" else options.optimizers,
        steps=options.steps,
        start=options.start,
        pictures=tuple(racing.PICTURES) if options.pictures == "all" else options.pictures,
        out=options.out,
        processes=min(2, os.cpu_count() or 1),
    )
    racing.show_race(result)
    return 130 if result.interrupted else 0


def _study(options: argparse.Namespace) -> int:
    from minidl import backend
    from minidl.studies import command

    backend.use_device(options.device)
    return command.run(options)


def _study_list(options: argparse.Namespace) -> int:
    from minidl.studies import command

    command.show_list()
    return 0


def _repeat(options: argparse.Namespace) -> int:
    from minidl import backend
    from minidl.studies import command

    backend.use_device(options.device)
    return command.repeat(options.record)


def _lesson(options: argparse.Namespace) -> int:
    from pathlib import Path

    from minidl import course

    if options.number == "list":
        for script in course.lessons():
            print(f"{script.number:2}  {script.title}")
        return 0
    if not options.number.isdecimal():
        raise ValueError(f"the lesson is {options.number!r}, expected a number or 'list'")
    script = course.find(int(options.number))
    if options.copy:
        print("wrote", course.copy(script, Path(options.out), solutions=options.solutions))
        return 0
    path = script.solutions if options.solutions else script.path
    return course.run(path, ["--out", options.out, *(["--quick"] if options.quick else [])])


def _data_list(options: argparse.Namespace) -> int:
    from minidl.data import inventory

    inventory.show_list()
    return 0


def _data_fetch(options: argparse.Namespace) -> int:
    from minidl.data import inventory

    inventory.fetch(options.name)
    return 0


def _data_where(options: argparse.Namespace) -> int:
    from minidl.data import inventory

    inventory.show_places(options.name)
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from minidl.data import inventory

    return 0 if inventory.check(options.name) else 1


def _data_show(options: argparse.Namespace) -> int:
    from minidl.viz.augmentations import show

    print(f"wrote {show(options.name, options.augment, options.out, seed=options.seed)}")
    return 0


def _rate(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _info(options: argparse.Namespace) -> int:
    import platform

    import numpy
    import threadpoolctl

    import minidl

    status = minidl.gpu_status()
    pools = threadpoolctl.threadpool_info()
    blas = ", ".join(
        f"{p['internal_api']} {p['version']} ({p.get('architecture', '?')}, {p['num_threads']} threads)" for p in pools
    )
    print(f"minidl {minidl.__version__}, Python {platform.python_version()}, NumPy {numpy.__version__}")
    print(f"BLAS: {blas or 'unknown'}")
    print(f"GPU: {'usable: ' if status else 'not usable: '}{status.reason}")
    return 0
