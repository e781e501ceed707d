"""A process that measures: `python -m benchmarks.worker TASK`. It prints its answers, one JSON line each.

The tasks: {"do": "facts"}; {"do": "time", "cases": names, "effort": arguments of `compare`}; {"do": "memory",
"case": name, "side": "ours" or "theirs"}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

THREADS = 2
STEPS = 3  # until the pools of memory have what they need
MIB = 2**20


def facts() -> Iterator[dict[str, str]]:
    import torch

    from benchmarks import report

    torch.set_num_threads(THREADS)
    yield report.environment("benchmarks.cpu", {"PyTorch": f"{torch.__version__}, {torch.get_num_threads()} threads"})


def measure_time(cases: Sequence[str], effort: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import torch

    from benchmarks.cases import PER_CALL, make
    from benchmarks.paired import compare

    torch.set_num_threads(THREADS)
    for case in cases:
        yield {"case": case} | compare(*make(case), per_call=PER_CALL.get(case, 1), **effort)


def measure_memory(case: str, side: str) -> Iterator[float]:
    """Yield by how many MiB some steps raise the peak of the process, over what a step on two images has left.

    That step has loaded what is loaded when it is first needed.
    """
    from benchmarks import networks

    network, batch = networks.STEPS[case]
    model = network.make()
    if side == "theirs":
        import torch

        torch.set_num_threads(THREADS)
        model = network.make_twin(model)
    steps = networks.ours if side == "ours" else networks.theirs
    warm_up, step = (steps(model, *network.batches(images, STEPS)) for images in (2, batch))
    warm_up()
    before = _peak()
    for _ in range(STEPS):
        step()
    yield (_peak(reset=False) - before) / MIB


def _peak(reset: bool = True) -> int:
    """Return the largest resident memory in bytes since the last reset, and forget it."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


TASKS = {"facts": facts, "time": measure_time, "memory": measure_memory}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    task = json.loads(sys.argv[1])
    for answer in TASKS[task.pop("do")](**task):
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
