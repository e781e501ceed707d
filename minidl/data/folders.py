"""Datasets from folders of image files, one folder for each class."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minidl import memory
from minidl.data.dataset import Dataset, check_test_fraction, set_apart
from minidl.files import user_path

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MODES = {1: "L", 3: "RGB"}
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
WIDENED = ("PNG", "PPM")  # formats whose 16 bits of grey Pillow gives as "I", integers of 32 bits
ORIENTATION = 0x0112  # of EXIF; 1 is upright
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # by orientation, which of Pillow's transpositions undoes it


def from_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Read a dataset from image files: `folder/CLASS/*.png`, or `folder/train/CLASS/*.png` and `folder/test/CLASS/…`.

    Needs Pillow: ``pip install "minidl[images]"``. Classes are the names of their folders, in alphabetical order; so
    are files. Files that are hidden or whose names end otherwise than those of images are left out, and so are hidden
    folders; so is, without a word, what does not lie in the folder of a class itself: files beside these folders, and
    whatever is in folders inside them. Of an animation, the first frame is read. Images are turned as their EXIF
    orientation says, and 16 bits of grey, 0 … 65,535, scaled to 8.

    Parameters
    ----------
    folder : path
        If it holds the two folders `train` and `test` and nothing else, they are the parts; otherwise its folders are
        the classes.
    size : int or (height, width), optional
        To which all images are scaled, with antialiasing. Default: the size that all of them have.
    channels : {1, 3}, optional
        1: grey, 3: red, green, blue, on black where they are transparent. Default: 1 if all images are grey, or else 3.
    test_fraction : float in (0, 1), default 0.2
        Where there are no two parts: how many are set apart for testing, of every class alike.
    seed : int, default 0
        Of which images these are.

    Returns
    -------
    Dataset
        Images are uint8.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    FileNotFoundError
        If there is no such folder.
    ValueError
        Naming the file that is no image or too large or has another size than the first, or whose pixels are floats or
        integers of 32 bits, of which nobody knows what is white; or the folder of a class that holds no image.
    MemoryError
        If the images would not fit into memory.
    """
    path = user_path(folder, "from_folder", "folder")
    if not path.is_dir():
        raise FileNotFoundError(f"from_folder: folder is {path}, which is not a folder")
    if channels not in (None, *MODES):
        raise ValueError(f"from_folder: channels is {channels!r}, expected 1 or 3")
    shape = _size(size)
    check_test_fraction(test_fraction, "from_folder")
    parts = {part.name: part for part in _folders(path)}
    split = parts.keys() == {"train", "test"}
    roots = [parts["train"], parts["test"]] if split else [path]
    classes = [inner.name for inner in _folders(roots[0])]
    if not classes:
        raise ValueError(f"from_folder: {roots[0]} holds no folders, expected one for each class")
    if split and (others := [inner.name for inner in _folders(roots[1])]) != classes:
        raise ValueError(f"from_folder: {roots[1]} holds the classes {others}, {roots[0]} {classes}")
    listed = [_files(root / name) for root in roots for name in classes]
    shape, channels = _check([file for files in listed for file in files], shape, channels)
    read = [_read(listed[i : i + len(classes)], shape, channels) for i in range(0, len(listed), len(classes))]
    if split:
        return Dataset(*read[0], *read[1], tuple(classes))
    x, y = read[0]
    test = set_apart(y, test_fraction, seed, "from_folder")
    return Dataset(x[~test], y[~test], x[test], y[test], tuple(classes))


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith(".") and p.is_file()]
    if not files:
        hint = "; it holds folders: a part for training and one for testing are called train and test, with no other"
        raise ValueError(
            f"from_folder: {folder} holds no images, expected files that end with {', '.join(sorted(ENDINGS))}"
            + (hint if _folders(folder) else "")
        )
    return sorted(files)


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if np.iterable(size) else (size, size)
    whole = all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ValueError(f"from_folder: size is {size!r}, expected a positive integer or two, (height, width)")
    return int(pair[0]), int(pair[1])


class _File(io.BufferedReader):
    """A file of which no read asks for more memory than is left to read: Pillow asks for what a header claims."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open an image file, of which only the header is read then."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('from_folder: Pillow is not installed: pip install "minidl[images]"') from error
    with contextlib.ExitStack() as opened:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = opened.enter_context(Image.open(opened.enter_context(_File(io.FileIO(path)))))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"from_folder: {path} is too large: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # see _reading
            raise ValueError(f"from_folder: {path} is no image that can be read: {error}") from error
        yield image


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file whose pixels cannot be read: of broken files Pillow raises whatever there is, also IndexErrors."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"from_folder: {path} is damaged: {error}") from error


def _orientation(image: Any) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # the image itself may be good
        return 1


def _upright(image: Any) -> Any:
    """Return the image, loaded, as it is to be seen."""
    image.load()  # first, because TIFF files are turned then, and say no more that they are to be
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _check(files: list[Path], shape: tuple[int, int] | None, channels: int | None) -> tuple[tuple[int, int], int]:
    """Read the headers of all files, before any memory is taken: return the size and the channels of the images."""
    grey, first = True, None
    for file in files:
        with _open(file) as image:
            if image.mode == "F" or (image.mode == "I" and image.format not in WIDENED):
                numbers = "floats" if image.mode == "F" else "integers of 32 bits"
                raise ValueError(f"from_folder: {file} holds {numbers}, expected 8 or 16 bits for each colour")
            grey = grey and image.mode in ("1", "L", "LA", "I", *GREY_16)
            with _reading(file):  # only what is to be turned is loaded for this: which way is hard to say otherwise
                seen = image if _orientation(image) == 1 else _upright(image)
            found = seen.height, seen.width
        first = first or (file, found)
        if shape is None and found != first[1]:
            raise ValueError(
                f"from_folder: {file} has {found[0]} × {found[1]} pixels, but {first[0]} has "
                f"{first[1][0]} × {first[1][1]}; give a size to scale all to"
            )
    assert first is not None
    shape, channels = shape or first[1], channels or (1 if grey else 3)
    count = len(files) * shape[0] * shape[1] * channels
    memory.require(
        2 * count, "from_folder", f"{len(files):,} images"
    )  # twice: once more when the test part is set apart
    return shape, channels


def _read(classes: list[list[Path]], shape: tuple[int, int], channels: int) -> tuple[Any, Any]:
    y = np.repeat(np.arange(len(classes)), [len(files) for files in classes])
    x = np.empty((len(y), *shape, channels), np.uint8)
    for i, file in enumerate(file for files in classes for file in files):
        with _open(file) as image:
            with _reading(file):
                pixels = _bytes(_upright(image), channels)
            if (pixels.height, pixels.width) != shape:
                pixels = pixels.resize(shape[::-1], 2)  # bilinear, with antialiasing
            x[i] = np.asarray(pixels).reshape(pixels.height, pixels.width, channels)
    return x, y


def _bytes(image: Any, channels: int) -> Any:
    """Return the image in grey or colour, 8 bits each, on black where it is transparent."""
    from PIL import Image

    if image.mode == "I" or image.mode in GREY_16:
        grey = np.array(image).astype(np.int64)
        grey[grey == image.info.get("transparency", -1)] = 0
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))  # rounded: 65,535 = 255 × 257
    if not image.has_transparency_data:
        return image.convert(MODES[channels])
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert(MODES[channels])
