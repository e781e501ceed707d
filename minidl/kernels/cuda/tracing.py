"""Formulas written down as CUDA C++: a formula in Python runs once, on symbols in place of its arrays.

NumPy asks a symbol what a function means (`__array_ufunc__`, `__array_function__`); the symbol's `Trace` writes down a
line that computes it, and the result is a new symbol. So whatever is written for arrays, such as an optimizer's
equation, becomes a kernel without being written a second time.

The types are NumPy's, which is asked for them: float32 with a Python number is float32, with a float64 it is float64.
What has no rule here, or depends in Python on a symbol's value, raises `NoRuleError`; nothing is dropped silently.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

C_TYPES = {"b1": "bool", "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32",
           "i8": "int64", "u8": "uint64", "f4": "float", "f8": "double"}  # fmt: skip

# NumPy's functions of elements, by name, in C++. The functions in FUNCTIONS exist for floating-point numbers only.
OPERATORS = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "negative": "-{}",
    "positive": "{}", "square": "{0} * {0}", "maximum": "larger({}, {})", "minimum": "smaller({}, {})",
    "sign": "sign_of({})", "equal": "{} == {}", "not_equal": "{} != {}", "less": "{} < {}", "less_equal": "{} <= {}",
    "greater": "{} > {}", "greater_equal": "{} >= {}", "logical_and": "{} && {}", "logical_or": "{} || {}",
    "logical_not": "!{}", "isnan": "{0} != {0}", "isinf": "fabs({}) == infinity()",
    "isfinite": "{0} - {0} == {0} - {0}",
}  # fmt: skip
FUNCTIONS = {
    "absolute": "fabs", "fabs": "fabs", "sqrt": "sqrt", "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p",
    "exp2": "exp2", "log2": "log2", "log10": "log10", "sin": "sin", "cos": "cos", "tan": "tan", "arctan": "atan",
    "arctan2": "atan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "power": "pow", "hypot": "hypot",
    "floor": "floor", "ceil": "ceil", "rint": "rint", "trunc": "trunc", "copysign": "copysign", "fmax": "fmax",
    "fmin": "fmin", "cbrt": "cbrt", "erf": "erf", "erfc": "erfc", "ndtr": "normcdf",
}  # fmt: skip
OF_BOOLEANS = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "not_equal",
               "invert": "logical_not"}  # fmt: skip
OF_NUMBERS = {"add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}",
              "power": "pow({}, {})", "floor_divide": "floor({} / {})", "negative": "-{}", "positive": "{}",
              "absolute": "fabs({})"}  # fmt: skip
LARGEST_POWER = 16  # up to which powers are products


class NoRuleError(TypeError):
    """A formula does what cannot be written down here."""


@dataclass
class Line:
    """One line of the kernel: `const type name = text;`."""

    name: str
    type: str
    text: str
    uses: tuple[str, ...]  # the names in the text
    uniform: bool  # whether it is the same for all elements
    origin: str  # the line of Python that it comes from


class Symbol(NDArrayOperatorsMixin):
    """An array in a formula that is written down: its name in the kernel, and its dtype.

    `dtype` is `int` or `float` for a number of Python's, whose type gives way to an array's.
    """

    def __init__(self, trace: Trace, name: str, dtype: Any, uniform: bool) -> None:
        self.trace, self.name, self.dtype, self.uniform = trace, name, dtype, uniform

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any) -> Any:
        if method != "__call__" or settings:
            raise _no_rule(f"numpy.{ufunc.__name__} as {method} {settings or ''}".strip())
        result = self.trace.ufunc(ufunc, inputs)
        if out is None:
            return result
        return self.trace.store(result, out[0])

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in ARRAY_FUNCTIONS:
            raise _no_rule(f"numpy.{function.__name__}")
        return ARRAY_FUNCTIONS[function](self.trace, *args, **kwargs)

    def astype(self, dtype: Any, copy: bool = True) -> Symbol:
        return self.trace.cast(self, np.dtype(dtype))

    def copy(self) -> Symbol:
        return Symbol(self.trace, self.name, self.dtype, self.uniform)

    def clip(self, low: Any = None, high: Any = None) -> Symbol:
        return _clip(self.trace, self, low, high)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a protocol that somebody asks about
            raise AttributeError(name)
        raise _no_rule(f"an array's .{name}")

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NoRuleError("a formula for the GPU cannot look at the values of its arrays, nor depend on them in Python")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = _refuse
    __array__ = __iter__ = __len__ = __getitem__ = __setitem__ = _refuse


class Number(Symbol):
    """A number of Python's that is not known yet, such as the rate.

    Arithmetic with it is Python's, in double precision. Where it meets an array it takes the array's type.
    """


def _operator(name: str, reverse: bool = False) -> Callable[..., Any]:
    function = getattr(np, name)

    def operate(self: Number, *other: Any) -> Any:
        operands = (*other, self) if reverse else (self, *other)
        if any(type(x) not in (Number, int, float, bool) for x in operands):
            return function(*operands)
        return self.trace.arithmetic(name, operands)

    return operate


for _name, _function in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power",
                         "floordiv": "floor_divide"}.items():  # fmt: skip
    setattr(Number, f"__{_name}__", _operator(_function))
    setattr(Number, f"__r{_name}__", _operator(_function, reverse=True))
for _name, _function in {"neg": "negative", "pos": "positive", "abs": "absolute"}.items():
    setattr(Number, f"__{_name}__", _operator(_function))


class Trace:
    """What a formula does, line by line.

    Parameters
    ----------
    dtype : dtype
        float32 or float64: what `T` is in the kernel.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.lines: list[Line] = []
        self.shared: dict[tuple[str, str], str] = {}  # what all elements share: its name there by (name, type) here
        self._known: dict[tuple[str, str], Line] = {}

    # -- what a formula begins with

    def array(self, name: str, dtype: Any = None, uniform: bool = False) -> Symbol:
        """Return a symbol for an array, or with `uniform` for one of shape ()."""
        return Symbol(self, name, self.dtype if dtype is None else np.dtype(dtype), uniform)

    def number(self, name: str, kind: type) -> Number:
        """Return a symbol for a number of Python's, an `int` or a `float`."""
        return Number(self, name, kind, True)

    # -- what it does

    def ufunc(self, ufunc: Any, inputs: tuple[Any, ...]) -> Symbol:
        """Write down a function of elements."""
        name = ufunc.__name__
        if ufunc.nout != 1:
            raise _no_rule(f"numpy.{name}")
        if name == "power" and (product := self._product(*inputs)) is not None:
            return product
        *types, result = self._types(ufunc, inputs)
        if name in OF_BOOLEANS and all(dtype.kind == "b" for dtype in types):
            name = OF_BOOLEANS[name]
        if name in FUNCTIONS and all(dtype.kind == "f" for dtype in types):
            text = f"{FUNCTIONS[name]}({', '.join(['{}'] * ufunc.nin)})"
        elif name in OPERATORS:
            text = OPERATORS[name]
        else:
            raise _no_rule(f"numpy.{name} of {', '.join(map(str, types))}")
        return self._write(text, tuple(zip(inputs, types, strict=True)), result)

    def arithmetic(self, name: str, operands: tuple[Any, ...]) -> Number:
        """Write down Python's arithmetic on numbers."""
        kinds = [x.dtype if isinstance(x, Number) else type(x) for x in operands]
        kind = float if float in kinds or name == "divide" else int
        if name == "power" and kind is int and (isinstance(operands[1], Number) or operands[1] < 0):
            raise _no_rule("an integer to a power that may be negative")
        line = self._write(OF_NUMBERS[name], tuple((x, float) for x in operands), float)
        return Number(self, line.name, kind, True)

    def where(self, condition: Any, x: Any, y: Any) -> Symbol:
        """Write down x where the condition holds, else y."""
        dtype = np.result_type(*(_sample(each) for each in (x, y)))
        return self._write("{} ? {} : {}", ((condition, np.dtype(bool)), (x, dtype), (y, dtype)), dtype)

    def cast(self, x: Any, dtype: Any) -> Symbol:
        """Write down a change of type; a number or a constant becomes an array of it."""
        return self._write("{}", ((x, dtype),), dtype)

    def store(self, result: Symbol, out: Any) -> Symbol:
        """Let the array `out` be what was computed, as `x += y` does."""
        if not isinstance(out, Symbol) or isinstance(out, Number):
            raise NoRuleError("a result that is written down cannot be stored in an array")
        if not np.can_cast(result.dtype, out.dtype, "same_kind"):
            raise NoRuleError(f"a result of dtype {result.dtype} cannot be stored in an array of {out.dtype}")
        result = self.cast(result, out.dtype)
        out.name, out.uniform = result.name, result.uniform
        return out

    def operand(self, x: Any, dtype: Any, uniform: bool = False) -> tuple[str, str]:
        """Return what stands for x in a line of the type asked for, and the name in it, "" if x is a constant.

        Parameters
        ----------
        x : Symbol or number
        dtype : dtype, int or float
        uniform : bool, default False
            Whether the line is one of those that are the same for all elements.
        """
        own = self.c_type(dtype)
        if not isinstance(x, Symbol):
            _kind(x)  # which refuses what is no number
            return _literal(x, dtype, own), ""
        if x.trace is not self:
            raise NoRuleError("an array of another formula")
        if x.uniform and not uniform:
            name = self.shared.setdefault((x.name, own), f"n{len(self.shared) + 1}")
            return name, name
        return x.name if self.c_type(x.dtype) == own else f"{own}({x.name})", x.name

    def c_type(self, dtype: Any) -> str:
        """Return the type in C++; a number of Python's is a double."""
        if isinstance(dtype, type):
            return "double"
        if dtype == self.dtype:
            return "T"
        if dtype.str[1:] not in C_TYPES:
            raise _no_rule(f"the dtype {dtype}")
        return C_TYPES[dtype.str[1:]]

    # -- how it is written

    def _types(self, ufunc: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the dtypes with which NumPy computes: of the arguments and of the result."""
        kinds = [x.dtype if isinstance(x, Symbol) else _kind(x) for x in inputs]
        if all(isinstance(kind, type) for kind in kinds):  # numbers of Python's alone become arrays
            kinds = list(map(np.dtype, kinds))
        return ufunc.resolve_dtypes((*kinds, None))

    def _write(self, text: str, operands: tuple[tuple[Any, Any], ...], dtype: Any) -> Symbol:
        """Write a line down, unless it has been before, and return its result."""
        uniform = all(x.uniform for x, _ in operands if isinstance(x, Symbol))
        parts, uses = zip(*(self.operand(x, kind, uniform) for x, kind in operands), strict=True)
        key = text.format(*parts), self.c_type(dtype)
        if key not in self._known:
            prefix = "s" if uniform else "a"
            name = f"{prefix}{1 + sum(line.uniform == uniform for line in self.lines)}"
            self._known[key] = Line(name, key[1], key[0], uses, uniform, _origin())
            self.lines.append(self._known[key])
        return Symbol(self, self._known[key].name, dtype, uniform)

    def _product(self, x: Any, exponent: Any) -> Any:
        """Return x to a power as products, or as the root that NumPy takes for the power 1/2; None for other powers."""
        if not isinstance(x, Symbol) or isinstance(x, Number) or isinstance(exponent, Symbol):
            return None
        dtype = self._types(np.power, (x, exponent))[-1]
        if dtype.kind != "f" or abs(exponent) > LARGEST_POWER:
            return None
        x = self.cast(x, dtype) if x.dtype != dtype else x
        if exponent == 0.5:
            return np.sqrt(x)
        if exponent != int(exponent):
            return None
        return 1 / _repeated(x, int(-exponent)) if exponent < 0 else _repeated(x, int(exponent))


def _repeated(x: Any, times: int) -> Any:
    """Return x multiplied by itself so many times."""
    if times < 2:
        return x if times else np.ones_like(x)
    half = _repeated(x, times // 2)
    return half * half * x if times % 2 else half * half


def _sample(x: Any) -> Any:
    """Return what NumPy takes for x when it looks for a common dtype."""
    if isinstance(x, Symbol):
        return x.dtype(0) if isinstance(x.dtype, type) else x.dtype
    return x if type(x) in (int, float) else _kind(x)


def _kind(x: Any) -> Any:
    """Return the dtype of a constant; `int` or `float` if it is a number of Python's."""
    if type(x) in (int, float):
        return type(x)
    if isinstance(x, (bool, np.generic)):
        return np.asarray(x).dtype
    raise _no_rule(f"a constant of type {type(x).__name__}")


def _literal(x: Any, dtype: Any, c_type: str) -> str:
    """Return a constant as C++ has it, in full precision."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return "true" if x else "false"
    if kind == "f":
        x = float(x)
        text = repr(x) if math.isfinite(x) else 'nan("")' if math.isnan(x) else f"{'-' * (x < 0)}infinity()"
    else:
        text = str(int(x))
    return text if isinstance(dtype, type) else f"{c_type}({text})"


def _clip(trace: Trace, x: Any, low: Any = None, high: Any = None, out: Any = None) -> Symbol:
    x = x if low is None else np.maximum(x, low)
    x = x if high is None else np.minimum(x, high)
    return x if out is None else trace.store(x, out)


def _full_like(value: Any = None) -> Callable[..., Symbol]:
    def full_like(trace: Trace, x: Any, fill_value: Any = value, dtype: Any = None) -> Symbol:
        return trace.cast(fill_value, x.dtype if dtype is None else np.dtype(dtype))

    return full_like


ARRAY_FUNCTIONS: dict[Any, Callable[..., Symbol]] = {
    np.where: Trace.where,
    np.clip: _clip,
    np.copy: lambda trace, x: x.copy(),
    np.zeros_like: _full_like(0),
    np.ones_like: _full_like(1),
    np.full_like: _full_like(),
}


def _origin() -> str:
    """Return the line of Python that is being executed, of the formula that is written down."""
    frame = sys._getframe(1)
    while frame.f_globals is globals() or frame.f_globals.get("__name__", "").startswith("numpy."):
        frame = frame.f_back  # type: ignore[assignment]  # there is one: somebody has called this module
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().rstrip("\\").rstrip()


def _no_rule(what: str) -> NoRuleError:
    return NoRuleError(f"{what} has no form in a generated kernel; minidl.kernels.cuda.tracing lists what has one")
