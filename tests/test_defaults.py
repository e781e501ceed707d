"""What the documentation says of an argument left out is what happens."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import numpy as np

import minidl
from minidl import nn

PARAMETER = re.compile(r"^ *(?P<names>[\w, ]+) : [^\n]*?, default (?P<values>.+?)\.?$", re.MULTILINE)
KNOWN = {"inf": float("inf"), "nn": nn, "uint8": np.uint8}


def documented_callables():
    """Yield (name, callable) for each class, method and function of the package that has a docstring."""
    for info in pkgutil.walk_packages(minidl.__path__, "minidl."):
        if info.name.startswith("minidl.course.lessons") or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != info.name:
                continue
            inside = vars(thing).items() if inspect.isclass(thing) else ()
            found = [
                (name, thing),
                *((f"{name}.{key}", method) for key, method in inside if inspect.isfunction(method)),
            ]
            yield from ((f"{info.name}.{name}", each) for name, each in found if callable(each) and each.__doc__)


def test_documented_defaults_are_those_of_the_signatures():
    checked, wrong = 0, []
    for where, thing in documented_callables():
        try:
            parameters = inspect.signature(thing).parameters
        except ValueError:
            continue
        for entry in PARAMETER.finditer(thing.__doc__):
            names, values = entry["names"].split(", "), entry["values"].split(" and ")
            values = values if len(values) == len(names) else len(names) * [entry["values"]]
            for name, value in zip(names, values, strict=True):
                default = parameters[name].default if name in parameters else inspect.Parameter.empty
                try:
                    said = eval(value, KNOWN)
                except (NameError, SyntaxError):
                    continue  # in words
                if default is inspect.Parameter.empty or default is None:
                    continue  # made anew for each call
                checked += 1
                if said != default:
                    wrong.append(f"{where}: {name} is {default!r} by default, documented as {value}")
    assert not wrong
    assert checked > 300
