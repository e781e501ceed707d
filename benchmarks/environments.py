"""Environments in which the same cases are measured, each in processes of its own.

Two things that are not the code's decide what the machine gives: which kernels OpenBLAS chooses (NumPy's products use
them, PyTorch's do not), and whether the C library's malloc keeps the memory of large arrays or gives it back to the
system with every free (both use it). Each library reads its variables when it is loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

_DETECTED = {"OPENBLAS_CORETYPE": None, "OPENBLAS_L2_SIZE": None}
_HASWELL = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
_DEFAULT_MALLOC = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"))
_TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "S": _DETECTED | _DEFAULT_MALLOC,
    "S-tuned": _DETECTED | _TUNED_MALLOC,
    "H": _HASWELL | _DEFAULT_MALLOC,
    "H-tuned": _HASWELL | _TUNED_MALLOC,
}
MEANING = (
    "S: OpenBLAS detects the processor. H: OPENBLAS_CORETYPE=Haswell, OPENBLAS_L2_SIZE=512. Tuned: malloc keeps the "
    "memory of large arrays, for both libraries."
)


def variables(name: str, of: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a process in this environment: this process's, but for those that it sets or unsets."""
    own = ENVIRONMENTS[name]
    kept = {key: value for key, value in (os.environ if of is None else of).items() if key not in own}
    return kept | {key: value for key, value in own.items() if value is not None}


def answers(environment: str, task: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what `benchmarks.worker` finds out in a process of this environment, as it does.

    Raises
    ------
    RuntimeError
        If the process fails; what it said is on the standard error.
    """
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=variables(environment), text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"the measurement in environment {environment} failed with status {process.returncode}")
