"""Many runs, one after the other or in several processes; what is done stays done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from minidl import backend, training
from minidl.studies.run import Run
from minidl.threads import set_threads

_stop = threading.Event()  # in a worker process: it is to end
_at_work = threading.Lock()  # there too: held while it has a run


def carry_out(
    runs: Sequence[Run], folder: Path, processes: int = 1, callbacks: Sequence[training.Callback] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Train the runs that the folder has no record of; yield the number of each and its record, as they end.

    Parameters
    ----------
    runs : sequence of Run
    folder : path
        Of the records.
    processes : int, default 1
        Several share the cores of the machine evenly; results do not depend on it.
    callbacks : sequence of Callback
        For the trainings in this process; in other processes there are none.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C. Runs that have begun leave a checkpoint, from which the next call goes on.
    """
    if processes == 1 or len(runs) < 2:
        for i, run in enumerate(runs):
            yield i, run.train(folder, callbacks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy our threads' locks
    told, tell = context.Pipe(duplex=False)  # closed to say stop: an Event's lock could die with a killed worker
    share = max(1, (os.cpu_count() or 1) // processes)
    workers = ProcessPoolExecutor(processes, context, _begin, (told, share, backend.device()))
    try:
        same: dict[str, list[int]] = {}
        for i, run in enumerate(runs):
            same.setdefault(run.key, []).append(i)
        futures: dict[Future[dict[str, Any]], list[int]] = {
            workers.submit(_train, runs[numbers[0]].as_dict(), folder, processes): numbers for numbers in same.values()
        }
        for future in as_completed(futures):
            record = future.result()
            for i in futures[future]:
                yield i, record
    except BrokenProcessPool as error:
        raise RuntimeError("a process was killed, perhaps for want of memory; the same command goes on") from error
    finally:
        tell.close()  # does nothing if all is done
        workers.shutdown(cancel_futures=True)
        told.close()


def _begin(told: Connection, share: int, device: str) -> None:
    """Prepare a worker process: Ctrl-C reaches it too, but it is told through the pipe."""
    threading.Thread(target=_end_when_told, args=(told,), daemon=True).start()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the executor's, when one has left; the others finish their step
    set_threads(share)
    backend.use_device(device)


def _end_when_told(told: Connection) -> None:
    """Stop after the current step when the other end of the pipe is closed, and leave.

    The executor tells its workers to leave too, through a queue; but one that was killed may hold that queue's lock.
    """
    told.poll(None)
    _stop.set()
    with _at_work:
        os._exit(0)


def _end_with_parent() -> None:
    """Leave at once when the parent has been killed; checkpoints are whole at every moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Stop(training.Callback):
    def on_step(self, trainer: training.Trainer) -> None:
        if _stop.is_set():
            trainer.stop("interrupted")


def _train(run: dict[str, Any], folder: Path, processes: int) -> dict[str, Any]:
    with _at_work:
        if _stop.is_set():  # the executor hands on a run before its turn
            raise KeyboardInterrupt
        return Run.from_dict(run).train(folder, [_Stop()], processes)
