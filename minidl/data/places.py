"""Where datasets may lie: the folder that `MINIDL_DATA` names, then the user's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from minidl.data.sources import Source
from minidl.files import user_path


@dataclass(frozen=True)
class Found:
    """A dataset's files: `paths` by part, in the folder; `source` may be a subset of what was asked for."""

    source: Source
    folder: Path
    paths: dict[str, Path]


def cache() -> Path:
    """Return the folder that downloads go to: minidl in the user's cache (`XDG_CACHE_HOME`, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minidl"


def roots() -> list[Path]:
    """Return the folders that are looked in, in this order.

    Raises
    ------
    FileNotFoundError
        If `MINIDL_DATA` names what is no folder: a slip of the pen is better seen than passed over.
    """
    named = os.environ.get("MINIDL_DATA")
    if not named:
        return [cache()]
    if not Path(named).expanduser().is_dir():
        raise FileNotFoundError(f"data.load: the environment variable MINIDL_DATA is {named}, which is not a folder")
    return [Path(named).expanduser(), cache()]


def find(source: Source, root: str | os.PathLike[str] | None = None) -> Found | None:
    """Return where the dataset, or else its subset, lies; None where there is no file of it.

    With `root`, only there.

    Raises
    ------
    FileNotFoundError
        If a folder holds some of the files but not all: naming those that are missing. In the cache they are fetched.
    """
    for candidate in (source, source.subset):
        if candidate is None:
            continue
        for place in roots() if root is None else [user_path(root, "data.load", "root")]:
            folder = place / candidate.name
            paths, missing = candidate.locate(folder)
            if not missing:
                return Found(candidate, folder, paths)
            if paths and (root is not None or place != cache()):
                raise FileNotFoundError(incomplete(candidate, folder, missing))
    return None


def incomplete(source: Source, folder: Path, missing: list[str]) -> str:
    """Say which files of a dataset are not in the folder, and what is."""
    parts = [" or ".join(f"{part}{ending}" for ending in ("", *source.endings)) for part in missing]
    names = "; ".join(parts[:2]) + (f"; and {len(parts) - 2} more" if len(parts) > 2 else "")
    archive = f", nor is {source.archive}, which holds them," if source.archive else ""
    lies = sorted(path.name for path in folder.iterdir())[:5] if folder.is_dir() else None
    there = "which does not exist" if lies is None else f"which holds {', '.join(lies) or 'nothing'}"
    return f"data.load: {names} {'is' if len(parts) == 1 else 'are'} not in the folder {folder}{archive or ','} {there}"
