"""What a kernel's parameters are, and the arguments that fit them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

C_NAMES = {
    "f4": "float",
    "f8": "double",
    "i1": "char",
    "i2": "short",
    "i4": "int",
    "i8": "long long",
    "u1": "unsigned char",
    "u2": "unsigned short",
    "u4": "unsigned",
    "u8": "unsigned long long",
    "b1": "bool",
    "v": "void",
}


class Parameter:
    """A parameter of a kernel, from its short name: "*cf4" is const float*, "i4" is int."""

    def __init__(self, code: str) -> None:
        self.pointer = code.startswith("*")
        self.const = code.startswith("*c")
        self.type = code.lstrip("*c")
        self.any = self.type.startswith(("v", "V"))  # void, float4, a struct: arrays of all types fit a pointer to it

    def __str__(self) -> str:
        name = C_NAMES.get(self.type, f"struct of {self.type[1:]} bytes")
        return f"{'const ' if self.const else ''}{name}{'*' if self.pointer else ''}"


def packed(kernel: str, parameters: list[Parameter], arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return a C array of pointers to the arguments, and what must stay alive while it is used."""
    if len(arguments) != len(parameters):
        wanted = ", ".join(map(str, parameters))
        raise TypeError(f"{kernel}: got {len(arguments)} arguments, expected {len(parameters)}: ({wanted})")
    keep: list[Any] = [arguments]
    pointers = (ctypes.c_void_p * max(1, len(parameters)))()
    for i, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        try:
            value = _pointer(parameter, argument) if parameter.pointer else _number(parameter, argument)
        except TypeError as error:
            raise TypeError(f"{kernel}: argument {i + 1} of {len(parameters)} is {error}") from None
        keep.append(ctypes.create_string_buffer(value, 8))
        pointers[i] = ctypes.addressof(keep[-1])
    return pointers, keep


def _pointer(parameter: Parameter, argument: Any) -> bytes:
    """Return the address that is passed for a pointer."""
    if isinstance(argument, np.integer) and argument.itemsize == 8 and argument == 0:
        return bytes(8)
    if not isinstance(argument, np.ndarray):
        raise TypeError(f"{_described(argument)}, expected an array for {parameter} (or np.uintp(0), a null pointer)")
    what = f"an array of {argument.dtype}"
    fits = parameter.any or _code(argument.dtype) in (parameter.type, *(("b1",) if parameter.type == "u1" else ()))
    if not fits:
        raise TypeError(f"{what}, expected {_dtype(parameter)} for {parameter}")
    if not argument.flags.c_contiguous:
        strides = f"shape {argument.shape} and strides {argument.strides}"
        raise TypeError(f"{what} that is not C-contiguous ({strides}), expected one that is for {parameter}")
    if not argument.dtype.isnative or not argument.flags.aligned:
        raise TypeError(f"{what} in foreign byte order or not aligned, expected a usual one for {parameter}")
    if not parameter.const and not argument.flags.writeable:
        raise TypeError(f"{what} that is read-only, expected one that can be written for {parameter}")
    return int(argument.ctypes.data).to_bytes(8, "little")


def _number(parameter: Parameter, argument: Any) -> bytes:
    """Return the bytes that are passed for a number."""
    number = argument
    if type(argument) in (bool, int, float):  # as CuPy sends them
        kind = {bool: np.bool_, int: np.int64, float: np.float64}[type(argument)]
        try:
            number = kind(argument)
        except OverflowError:
            raise TypeError(f"{_described(argument)}, which has more than 8 bytes, expected {parameter}") from None
    if not isinstance(number, np.generic) or not _fits(parameter.type, number):
        raise TypeError(f"{_described(argument)}, expected {_dtype(parameter)} for {parameter}")
    return number.tobytes()


def _fits(code: str, number: Any) -> bool:
    """Whether a NumPy scalar is of the parameter's type, or an integer with the same bits."""
    own = _code(number.dtype)
    if own == code:
        return True
    return (
        own[0] in "iu"
        and code[0] in "iu"
        and own[1:] == code[1:]
        and np.iinfo(code).min <= number <= np.iinfo(code).max
    )


def _code(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{dtype.itemsize}"


def _dtype(parameter: Parameter) -> str:
    return f"np.{np.dtype(parameter.type).name}" if parameter.type in C_NAMES else str(parameter)


def _described(argument: Any) -> str:
    if type(argument) in (bool, int, float):
        size = 1 if isinstance(argument, bool) else 8
        return f"the Python {type(argument).__name__} {argument!r}, which is passed in {size} byte{'s' * (size > 1)}"
    if isinstance(argument, np.ndarray):
        return f"an array of {argument.dtype}"
    if isinstance(argument, np.generic):
        return f"np.{argument.dtype}({argument})"
    return f"{argument!r}, a {type(argument).__name__}"
