"""One file of arrays and plain values: safetensors, with JSON in its metadata. Nothing in it is code.

The bytes are written here and not by the library: that would need a second copy of all arrays, store those that are not
contiguous wrongly, and write to a temporary file of its own, which stays behind when the process is killed.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

import minidl
from minidl.backend import array_module, to_numpy
from minidl.files import replacing, user_path

FORMAT, VERSION = "minidl checkpoint", "1"
LARGEST_HEADER = 100_000_000  # bytes; readers refuse more
ARRAY = "__array__"  # in the JSON, {"__array__": name} stands for an array
DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip


def write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a nest of dictionaries, lists, arrays, numbers, strings, booleans and None.

    Tuples come back as lists, NumPy's scalars as Python's; NaN and ±∞ are kept.

    Raises
    ------
    TypeError
        Naming the place of something else.
    ValueError
        If all but the arrays is larger than the format allows.
    OSError
        Naming the path. What was there is then as before.
    """
    path = user_path(path, "save_checkpoint")
    arrays: dict[str, Any] = {}
    state = json.dumps(_packed(content, "", arrays))
    metadata = {"format": FORMAT, "version": VERSION, "minidl": minidl.__version__, "state": state}
    header: dict[str, Any] = {"__metadata__": metadata | {"crc32": _checksum(metadata, arrays)}}
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # so that all of them are aligned
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        dtype, shape = DTYPES[arrays[name].dtype.name], list(arrays[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > LARGEST_HEADER:
        raise ValueError(
            f"save_checkpoint: all but the arrays takes {len(encoded):,} bytes, the format allows {LARGEST_HEADER:,}; "
            "keep long lists of numbers as arrays"
        )
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name in names:
                file.write(arrays[name])
    except OSError as error:
        message = f"save_checkpoint: {path} cannot be written: {error.strerror or error}"
        raise type(error)(error.errno, message) from error


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write` wrote.

    Raises
    ------
    FileNotFoundError
        Naming the path.
    ValueError
        If the file is truncated, damaged or foreign; the message names it. No more memory is asked for than it is long.
    """
    path = user_path(path, "load_checkpoint")
    if not path.exists():
        raise FileNotFoundError(f"load_checkpoint: {path} does not exist")
    try:
        if path.is_dir():
            raise ValueError("it is a folder")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its metadata do not say '{FORMAT}'")
            if metadata.get("version") != VERSION:
                raise ValueError(f"it is of version {metadata.get('version')}, this minidl reads version {VERSION}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop("crc32", "") != _checksum(metadata, arrays):
            raise ValueError("it is damaged: the checksum is wrong")
        content = json.loads(metadata["state"])
        if not isinstance(content, dict):
            raise ValueError("its state is no dictionary")
        return _unpacked(content, arrays)
    except (SafetensorError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"load_checkpoint: {path} is not a whole checkpoint of minidl: {error}") from error


def _checksum(metadata: dict[str, str], arrays: dict[str, Any]) -> str:
    """Return a CRC-32 over everything: it changes with every single bit."""
    names = sorted(arrays)
    described = [sorted(metadata.items()), [(name, arrays[name].dtype.name, arrays[name].shape) for name in names]]
    crc = zlib.crc32(json.dumps(described).encode())
    for name in names:
        crc = zlib.crc32(arrays[name], crc)
    return f"{crc:08x}"


def _packed(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """Return what JSON can hold of the value, with names for its arrays, which are put into `arrays`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == ARRAY:
                raise TypeError(f"save_checkpoint: {place or 'the state'} has the key {key!r}, expected a string")
        return {key: _packed(item, f"{place}.{key}" if place else key, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(item, f"{place}.{i}", arrays) for i, item in enumerate(value)]
    if not isinstance(value, np.ndarray) and array_module(value) is np:
        expected = "arrays, numbers, strings, booleans, None, and lists and dictionaries of them"
        raise TypeError(f"save_checkpoint: {place} is of type {type(value).__name__}, expected {expected}")
    array = to_numpy(value)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"save_checkpoint: {place} has dtype {array.dtype}, which the format does not know")
    while place in arrays:
        place += "'"  # {"a.b": …} beside {"a": {"b": …}}
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    arrays[place] = np.ascontiguousarray(array).reshape(array.shape)  # the former makes (1,) of ()
    return {ARRAY: place}


def _unpacked(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if isinstance(value, dict):
        if ARRAY in value:  # taken out, because each has one place: a short text might name a large one often
            return arrays.pop(value[ARRAY])
        return {key: _unpacked(value[key], arrays) for key in value}
    return value
