"""A study of hyper-parameters in its storage: what is done, what is free, and what a killed process has left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidl import files
from minidl.studies.space import Choice, Range, Value

BEAT = 10.0  # seconds between two signs of life of a running trial
PATIENCE = 120.0  # seconds without a new one until a trial counts as lost, by the clock of who waits for it
JOURNAL = b'{"op_code"'  # how a journal of Optuna begins
KEY = "minidl"  # the study's attribute with its settings


def need_optuna() -> Any:
    """Return Optuna, or raise ImportError that says how to get it."""
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise ImportError('search: Optuna is not installed: pip install "minidl[search]"') from error
    return optuna


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna write nothing to the log but errors, in this context."""
    logging = need_optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Hide warnings: Optuna's about what is experimental, NumPy's about medians of what has diverged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---------------------------------------------------------------- storages


@contextlib.contextmanager
def opened(storage: object) -> Iterator[Any]:
    """Open a storage: a path (Optuna's journal), a URL as Optuna knows them, or a storage object of Optuna."""
    optuna = need_optuna()
    if isinstance(storage, optuna.storages.BaseStorage):
        yield storage
    elif isinstance(storage, str) and "://" in storage:
        database = _database(storage)
        try:
            yield database
        finally:
            database.remove_session()
            database.engine.dispose()
    else:
        yield _journal(files.user_path(storage, "search", "storage"))


def shown(storage: object) -> str:
    """Return a storage as it may be printed: without the password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", str(storage))


def _database(url: str) -> Any:
    """Open the database that a URL names."""
    optuna = need_optuna()
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    for trial in range(5):
        try:
            with no_warnings():
                return optuna.storages.RDBStorage(url, engine_kwargs=engine)
        except ImportError as error:
            raise ImportError(f"search: the storage {shown(url)} needs a driver: {error.__cause__ or error}") from error
        except ArgumentError as error:
            raise ValueError(f"search: storage is {shown(url)}, expected a URL that Optuna knows: {error}") from error
        except (SQLAlchemyError, RuntimeError) as error:
            failure = error
            time.sleep(0.2 * trial)  # processes that start together may make the same tables
    raise OSError(f"search: cannot open the storage {shown(url)}: {failure}") from failure


def _journal(path: Path) -> Any:
    """Open a journal, and make a new one where there is none."""
    journal = need_optuna().storages.journal
    try:
        with path.open("a+b") as file:
            file.seek(0)
            start = file.read(len(JOURNAL))
    except OSError as error:
        message = f"search: cannot open the storage {path}: {error.strerror or error}"
        raise type(error)(error.errno, message) from error
    if start != JOURNAL[: len(start)]:
        raise ValueError(f"search: storage is {path}, which is no journal of Optuna; its begin is {start!r}")
    try:
        return need_optuna().storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=_lock(path)))
    except (ValueError, KeyError) as error:
        raise ValueError(f"search: the storage {path} is damaged: {error}") from error


def _lock(path: Path) -> Any:
    """Return the lock on a journal: the system's, or Optuna's own on a file system that has none."""
    lock = _FileLock(path)
    try:
        lock.acquire()
    except OSError:
        return None
    lock.release()
    return lock


class _FileLock:
    """The system's lock on the journal itself: it ends with its process, also with a killed one.

    Who takes it first removes a last line that a process could not finish: the next line would be written behind it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._file = self._path.open("r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._mend()
        except BaseException:
            self._file.close()
            raise
        return True

    def release(self) -> None:
        self._file.close()

    def _mend(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.seek(0)
                self._file.truncate(self._file.read().rfind(b"\n") + 1)


# ---------------------------------------------------------------- trials


@dataclass
class Running:
    """A trial that this process is at.

    A trial has a place in the study, from 0. A place whose trial was lost or failed gets another trial; so the places
    are what is counted, and what says which point of a grid, or which random values, a trial has.
    """

    place: int
    values: dict[str, Value]
    identity: int
    reported: dict[int, float] = field(default_factory=dict)
    pruned: bool = False


class SharedStudy:
    """A study that any number of processes work on, in any storage of Optuna.

    A storage has one operation that is atomic everywhere: to make a trial, which gives it a number of its own. A trial
    is made with its place; of several at one place the one with the lowest number holds it, and whoever made another
    one sees that and gives its own up.

    Parameters
    ----------
    storage : Optuna's storage
    name : str
    settings : dict
        What must be the same for all who share the study.
    """

    def __init__(self, storage: Any, name: str, settings: Mapping[str, Any]) -> None:
        optuna = need_optuna()
        self._states = optuna.trial.TrialState
        self._storage = storage
        self._own = {"host": files.host_mark(), "process": os.getpid(), "search": secrets.token_hex(8)}
        self._beats: dict[int, tuple[int, float]] = {}  # of others' trials by number: the last beat, when it was new
        direction = settings["direction"]
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=direction,
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(),
        )
        self._id = storage.get_study_id_from_name(name)
        if KEY not in self._study.user_attrs:
            if self._study.get_trials(deepcopy=False):
                raise ValueError(f"search: the study {name!r} was not made by minidl; choose another name")
            self._study.set_user_attr(KEY, dict(settings))
        self.settings = self._study.user_attrs[KEY]
        for key, value in settings.items():
            if self.settings.get(key) != value:
                raise ValueError(
                    f"search: the study {name!r} is there with another {key}: {self.settings.get(key)}, not {value}; "
                    "choose another name or storage"
                )

    def holders(self) -> dict[int, Any]:
        """Return Optuna's trials by place, in the order of places: those that are done and those that are running."""
        found: dict[int, Any] = {}
        for trial in self._study.get_trials(deepcopy=False):  # by number
            place = trial.user_attrs.get("place")
            if place is not None and trial.state != self._states.FAIL and not self._is_lost(trial):
                found.setdefault(place, trial)
        return dict(sorted(found.items()))

    def _is_lost(self, trial: Any) -> bool:
        """Whether a running trial's process has ended; the trial is then marked as failed."""
        attributes = trial.user_attrs
        if trial.state.is_finished() or attributes["search"] == self._own["search"]:
            return False
        ended = attributes["host"] == self._own["host"] and files.has_ended(attributes["process"])
        beat, now = attributes.get("beat", 0), time.monotonic()
        last, since = self._beats.get(trial.number, (None, now))
        if beat != last:
            since = now
        self._beats[trial.number] = beat, since
        if not ended and now - since < PATIENCE:
            return False
        identity = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        return self._end(identity, self._states.FAIL)

    def _end(self, identity: int, state: Any, value: float | None = None) -> bool:
        """Give a trial its final state; return whether nobody has done so before."""
        try:
            return self._storage.set_trial_state_values(identity, state, None if value is None else [value])
        except RuntimeError:  # Optuna's UpdateFinishedTrialError is one
            return False

    def claim(
        self, count: int, propose: Callable[[int, Mapping[int, Any]], dict[str, Value]], space: Any
    ) -> Running | None:
        """Begin a trial at a free place below `count`; None if there is none.

        `propose` returns the values for a place and the trials that hold places.
        """
        optuna = need_optuna()
        while True:
            held = self.holders()
            place = next((place for place in range(count) if place not in held), None)
            if place is None:
                return None
            values = propose(place, held)
            template = optuna.trial.create_trial(
                state=self._states.RUNNING,
                params=values,
                distributions=distributions(space),
                user_attrs=self._own | {"place": place},
            )
            identity = self._storage.create_new_trial(self._id, template)
            holder = self.holders()[place]
            if self._storage.get_trial_id_from_study_id_trial_number(self._id, holder.number) == identity:
                return Running(place, dict(values), identity)
            self._end(identity, self._states.FAIL)

    @contextlib.contextmanager
    def alive(self, running: Running) -> Iterator[None]:
        """Give signs of life for a trial, from a thread, in this context."""
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(BEAT):
                count += 1
                with contextlib.suppress(Exception):  # a busy storage: the next one will do; a trial given up by others
                    self._storage.set_trial_user_attr(running.identity, "beat", count)
            with contextlib.suppress(Exception):
                self._storage.remove_session()  # a database's, of this thread

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def report(self, running: Running, epoch: int, value: float) -> bool:
        """Store the value of an epoch; return whether to stop: by the median rule, or as others took it for lost."""
        optuna = need_optuna()
        try:
            self._storage.set_trial_intermediate_value(running.identity, epoch, value)
        except RuntimeError:  # as in `_end`
            return True
        with no_warnings():
            trial = self._storage.get_trial(running.identity)
            return bool(optuna.pruners.MedianPruner().prune(self._study, trial))

    def finish(self, running: Running, value: float, failure: str = "") -> bool:
        """Store the value of a trial; return whether it counts: false where others took it for lost."""
        if failure:
            with contextlib.suppress(RuntimeError):
                self._storage.set_trial_user_attr(running.identity, "failure", failure)
        return self._end(running.identity, self._states.PRUNED if running.pruned else self._states.COMPLETE, value)

    def give_up(self) -> None:
        """Mark all trials that this search has begun and not finished as failed."""
        for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            if trial.user_attrs.get("search") == self._own["search"]:
                self._end(
                    self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number), self._states.FAIL
                )


def distributions(space: Mapping[str, Choice | Range]) -> dict[str, Any]:
    """Return the space in Optuna's words."""
    kinds = need_optuna().distributions
    found: dict[str, Any] = {}
    for name, values in space.items():
        if isinstance(values, Choice):
            found[name] = kinds.CategoricalDistribution(values.values)
        else:
            kind = kinds.IntDistribution if values.integer else kinds.FloatDistribution
            found[name] = kind(values.low, values.high, log=values.log)
    return found
