"""An optimizer's equation on a GPU: one kernel over the vector W, written from `update` itself."""

from __future__ import annotations

from typing import Any

from minidl.kernels.cuda import fusion, launch
from minidl.kernels.cuda.fusion import Array
from minidl.kernels.cuda.tracing import NoRuleError, Trace

OF_THE_BASE = {"_vector", "_scale", "layout", "lr", "penalties", "clip", "t"}
MANY = 256  # kernels that are remembered

_rules: dict[Any, fusion.Fused | None] = {}


def rule(optimizer: Any) -> fusion.Fused | None:
    """Return the kernel of an optimizer's equation; None if it has none, and `update` must be called on the arrays.

    The equation is written down when it is first asked for, and again when one of the settings has changed.
    """
    dtype = optimizer._vector.position.dtype
    if not optimizer.by_element or dtype.char not in launch.C_TYPES:
        return None
    settings = _settings(optimizer)
    key = (
        type(optimizer),
        getattr(optimizer.update, "__func__", None),
        tuple(settings),
        tuple(map(_marked, settings.values())),
        dtype.char,
        optimizer.lr is None,
        optimizer._scale is None,
    )
    if key not in _rules:
        if len(_rules) == MANY:
            _rules.clear()
        try:
            _rules[key] = write(optimizer)
        except Exception:  # an equation may do anything; if it is wrong, it says so when it is called on the arrays
            _rules[key] = None
    return _rules[key]


def compute(rule: fusion.Fused, optimizer: Any, result: Any, W: Any, g: Any, lr: Any, t: Any) -> None:
    """Launch the kernel: write the new weights to `result`, which may be W, and the new state over the old one."""
    scale = [] if optimizer._scale is None else [optimizer._scale]
    state = [getattr(optimizer, name) for name in optimizer.state]
    values = {"lr": lr, "t": t}
    rule([result, W, g, *scale, *state], [values[name] for name in rule.numbers], W.size)


def write(optimizer: Any) -> fusion.Fused:
    """Return the kernel of an optimizer's equation.

    Raises
    ------
    NoRuleError
        If `update` does what has no form in a kernel, or assigns more than its state, or is not the same twice.
    """
    first, second = _written(optimizer), _written(optimizer)
    if first.source != second.source:
        raise NoRuleError("update does not do the same when it is called again")
    return first


def _written(optimizer: Any) -> fusion.Fused:
    trace = Trace(optimizer._vector.position.dtype)
    W, g, t = trace.array("W"), trace.array("g"), trace.number("t", int)
    lr: Any = None if optimizer.lr is None else trace.number("lr", float)
    scale = trace.array("scale")
    if optimizer._scale is not None:
        lr = lr * scale
    names = fusion.names(optimizer.state, taken=("W", "g", "new_W", "scale", "lr", "t"))
    before = {name: trace.array(own) for name, own in zip(optimizer.state, names, strict=True)}

    twin = _twin(optimizer)
    vars(twin).update({name: array.copy() for name, array in before.items()}, t=t)
    given = dict(vars(twin))
    try:
        new_W = twin.update(W.copy(), g.copy(), lr, t)
    except AttributeError as error:
        if error.obj is not twin:
            raise
        raise NoRuleError(f"update uses {error.name}, which is neither a number nor in `state`") from error
    after = vars(twin)
    assigned = [name for name in after if name not in optimizer.state and after[name] is not given.get(name)]
    if assigned:
        raise NoRuleError(f"update assigns {', '.join(assigned)}, which its class does not name in `state`")

    arrays = [Array("new_W", trace.dtype, written=new_W), Array("W", trace.dtype, W), Array("g", trace.dtype, g)]
    arrays += [] if optimizer._scale is None else [Array("scale", trace.dtype, scale)]
    for name, x in before.items():
        kept = after[name] is given[name] and x.name == given[name].name
        arrays.append(Array(x.name, trace.dtype, x, None if kept else after[name]))
    name = type(optimizer).__name__
    title = f"The step of {name}: its `update`, line by line; each thread computes some elements of W and of the state."
    return fusion.fuse(name, title, trace, arrays, ("lr", "t"))


def _twin(optimizer: Any) -> Any:
    """Return an optimizer of the class with the settings alone, so that `update` can use nothing else."""
    settings = _settings(optimizer)
    known = {*settings, *OF_THE_BASE, *optimizer.state}
    hidden = [name for name in vars(optimizer) if name not in known and hasattr(type(optimizer), name)]
    if hidden:
        raise NoRuleError(f"{', '.join(hidden)} of this optimizer are not those of its class")
    twin = object.__new__(type(optimizer))
    vars(twin).update(settings)
    return twin


def _settings(optimizer: Any) -> dict[str, Any]:
    """Return the attributes that are numbers, words or tuples of them, other than the base's and the state."""
    state = optimizer.state
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in OF_THE_BASE and name not in state and _marked(value) is not None
    }


def _marked(value: Any) -> Any:
    """Return a setting with its type, since 1, 1.0 and True are equal; None if it is no setting."""
    if isinstance(value, fusion.PLAIN):
        return type(value), value
    if type(value) is not tuple or not all(isinstance(each, fusion.PLAIN) for each in value):
        return None
    return tuple((type(each), each) for each in value)
