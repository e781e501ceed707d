"""From preprocessed CUDA C++ to the C++ of g++: what macros in cuda.hpp cannot do."""

from __future__ import annotations

import re

_EXPORT = '__attribute__((visibility("default")))'
_BRACKETS = r"\s*\((?:[^()]|\([^()]*\))*\)"
_WORDS = rf"(?:[^;{{}}()]|{_BRACKETS})*?"
_LAUNCH_BOUNDS = re.compile(rf"\b__launch_bounds__({_BRACKETS})")
_KERNEL = re.compile(
    rf'extern\s+"C"\s(?P<words>{_WORDS}\b__global__\b{_WORDS})\b(?!__launch_bounds__|__attribute__)(?P<name>\w+)\s*\('
)
_DYNAMIC = re.compile(r"\bextern\b(?P<before>[^;{}=]*?)__shared__(?P<after>[^;{}=]*?)\b(?P<name>\w+)\s*\[\s*\]\s*;")
_SHARED = re.compile(rf"\b__shared__\b(\s*alignas{_BRACKETS})?")  # which C++ wants in front
_BRACES = re.compile(r"""(?:extern\s*"C"|namespace(?:\s+[\w:]+)?)\s*\{|[{}]|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""")
_UNROLL = re.compile(r"^[ \t]*#pragma[ \t]+unroll[ \t]*\(?[ \t]*(\d*)[ \t]*\)?[ \t]*$", re.MULTILINE)
_ALIGNMENT = re.compile(rf"(?:alignas|__attribute__){_BRACKETS}")


def translated(text: str) -> str:
    """Return the preprocessed source as C++ that g++ compiles, with a table of its kernels."""
    bounds: dict[str, str] = {}
    for kernel in _KERNEL.finditer(text):
        found = _LAUNCH_BOUNDS.search(kernel["words"])
        bounds[kernel["name"]] = found[1] if found else bounds.get(kernel["name"], "()")
    text = _LAUNCH_BOUNDS.sub("", text)
    text = text.replace("__global__", "")
    text = _with_dynamic_arrays(text)
    text = _SHARED.sub(r"\1 static __thread __attribute__((used))", text)
    text = _UNROLL.sub(lambda found: f"#pragma GCC unroll {found[1] or 16}", text)
    table = "".join(f'emulator::make<&{name}>("{name}", emulator::first{bound}),\n' for name, bound in bounds.items())
    return f"{text}\n{_EXPORT} emulator::Kernel emulator_kernels[] = {{\n{table}{{}}}};\n"


def _with_dynamic_arrays(text: str) -> str:
    """Replace `extern __shared__ T name[];` by a pointer to dynamic shared memory.

    In a function that is a constant. Outside it is a variable, set anew for each block.
    """
    pieces, end, outside = [], 0, set()
    for found in _DYNAMIC.finditer(text):
        name = found["name"]
        kind = _ALIGNMENT.sub("", f"{found['before']} {found['after']}").strip()
        new = f"{kind}* const {name} = ({kind}*)emulator::dynamic_shared();"
        if not _in_function(text[: found.start()]):
            set_it = f"emulator::each_block([](char* bytes) {{ {name} = ({kind}*)bytes; }})"
            new = f"static __thread {kind}* {name}; static bool emulator_sets_{name} = {set_it};"
            new = "" if name in outside else new
            outside.add(name)
        pieces += [text[end : found.start()], new]
        end = found.end()
    return "".join([*pieces, text[end:]])


def _in_function(before: str) -> bool:
    """Whether a function (or a class) is open at the end of this text, rather than only namespaces."""
    opened: list[bool] = []
    for found in _BRACES.finditer(before):
        if found[0].endswith("{"):
            opened.append(found[0] == "{")
        elif found[0] == "}" and opened:
            opened.pop()
    return any(opened)
