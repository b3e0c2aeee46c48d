"""What all benchmarks have in common: clips on disk, the labels that are given, the truth, and a score. Torch-free.

A benchmark knows a dataset's own folder layout and the protocol that the field scores it by. It knows nothing of how
labels are carried: whoever runs it takes `given`, propagates, and hands the results to `score`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError, LabelError
from model.labels import Anchor, FrameResult, LabelObject, ObjectResult, colour_of, indexed_png
from model.labels.raster import tight_box
from model.labels.types import Mask
from model.video import Limits
from model.video.images import ImageFolder, Images


@dataclass(frozen=True)
class Clip:
    """One sequence of a dataset.

    Attributes:
        name: what the dataset calls it.
        video: a video file or a folder of images.
        truth: the file or folder that holds the truth.
        frame_count: how many frames are evaluated, from the first on.
        size: (width, height) of the truth, which the frames must have; None where the truth does not say.
    """

    name: str
    video: Path
    truth: Path
    frame_count: int
    size: tuple[int, int] | None


C = TypeVar("C", bound=Clip)


@dataclass(frozen=True)
class Selection(Generic[C]):
    """Which clips of a dataset are evaluated.

    Attributes:
        clips: in the order of their names, or of the dataset's own list.
        origin: where the choice comes from, in words.
        absent: names on the dataset's own list that are not on this disk, and so are not part of any number.
    """

    clips: tuple[C, ...]
    origin: str
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipScore:
    """How good the results of one clip are.

    Attributes:
        name: the clip's.
        numbers: by the benchmark's columns, in their order; NaN where nothing could be measured.
        frames: of every frame that is scored one number, 1 perfect and 0 lost, to find the worst by.
        details: what a report keeps beside the numbers, as JSON values.
        tally: what the mean over clips is made from; the benchmark's own matter.
    """

    name: str
    numbers: dict[str, float]
    frames: dict[int, float]
    details: dict[str, Any] = field(default_factory=dict)
    tally: Any = None


class Benchmark(ABC, Generic[C]):
    """One dataset by one protocol.

    Attributes:
        name: on the command line.
        protocol: what is measured and how, in a few sentences.
        columns: the numbers' names.
        least_frames: with fewer frames a clip has nothing to score.
        layout: a sentence that says what the dataset's folder looks like.
        root: the dataset's folder.
    """

    name: ClassVar[str]
    protocol: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    least_frames: ClassVar[int]
    layout: ClassVar[str]

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"There is no folder {root}. Give --root the folder that holds the dataset.")
        self.root = root

    @abstractmethod
    def select(self, wanted: Sequence[str] | None = None, frames: int | None = None) -> Selection[C]:
        """The clips to evaluate, their files found and their sizes compared.

        Args:
            wanted: names; None takes the dataset's own list where it has one, and all clips otherwise.
            frames: evaluate only so many frames of each, as if the clip ended there.

        Raises:
            InputError: the layout is another, a clip is missing, or its files do not fit each other; it names the file.
        """

    @abstractmethod
    def given(self, clip: C) -> Anchor:
        """The labels of the first frame, which is all that propagation may know."""

    @abstractmethod
    def truth(self, clip: C, frame: int) -> FrameResult:
        """What is true on a frame, as a result that a perfect model would give; for pictures."""

    @abstractmethod
    def score(self, clip: C, results: Iterable[FrameResult]) -> ClipScore:
        """Scores the results of all frames of a clip, ascending from frame 0."""

    @abstractmethod
    def mean(self, scores: Sequence[ClipScore]) -> dict[str, float]:
        """The dataset's numbers, by the protocol's own way of averaging."""

    @abstractmethod
    def write(self, clip: C, results: Iterable[FrameResult], folder: Path) -> None:
        """Writes predictions in the layout that the dataset's other tools read."""

    def object(self, identity: int) -> LabelObject:
        """How an object is called and coloured."""
        return LabelObject(identity, f"object-{identity}", colour_of(identity))

    def shown(self, result: FrameResult) -> FrameResult:
        """What of a result is drawn in a picture."""
        return result

    def _folder(self, *parts: str) -> Path:
        """A folder below the root.

        Raises:
            InputError: it is not there.
        """
        path = self.root.joinpath(*parts)
        if not path.is_dir():
            raise InputError(f"There is no folder {path}. {self.layout}")
        return path

    def _checked(self, selection: Selection[C]) -> Selection[C]:
        if not selection.clips and selection.absent:
            raise InputError(
                f"None of the {len(selection.absent)} sequences of {selection.origin} is in {self.root}, not even "
                f"{selection.absent[0]!r}. Name others with --sequences, or fetch them."
            )
        if not selection.clips:
            raise InputError(f"{self.root} holds no sequence to evaluate. {self.layout}")
        for clip in selection.clips:
            if clip.frame_count < self.least_frames:
                raise InputError(
                    f"{clip.truth}: {clip.frame_count} frames are too few; {self.name} needs {self.least_frames} at "
                    "least, since the first is given and not every other is scored."
                )
        return selection


def chosen(names: Sequence[str], wanted: Sequence[str] | None, where: Path) -> list[str]:
    """The wanted names, each once, in the order given; all where none are wanted.

    Raises:
        InputError: one is not among `names`, which are named.
    """
    if wanted is None:
        return list(names)
    missing = [name for name in wanted if name not in names]
    if missing:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"There is no sequence {missing[0]!r} in {where}. It has: {some or 'none'}.")
    return list(dict.fromkeys(wanted))


def present(listed: Iterable[str], names: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """The names on a dataset's own list that are on this disk, and those that are not, each in the list's order."""
    here = set(names)
    listed = list(dict.fromkeys(listed))
    return [name for name in listed if name in here], tuple(name for name in listed if name not in here)


def folders_in(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_of_names(path: Path) -> list[str]:
    """The sequences that a text file lists, one a line, in whatever form datasets do that.

    A line may be a name, a path that ends in a name, or (DAVIS 2016) an image and its mask, frame by frame.
    """
    names: dict[str, None] = {}
    for line in path.read_text(errors="replace").splitlines():
        if line.strip():
            first = Path(line.split()[0])
            names[first.parent.name if first.suffix.lower() in (".jpg", ".png") else first.name] = None
    return list(names)


def image_names(folder: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    """The images of a folder in the order that they are read in, and the first one's (width, height).

    Raises:
        InputError: there is no such folder, it has no images, or they cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}, which should hold the frames.")
    limits = Limits()
    try:
        images = Images(ImageFolder(folder, limits), limits)
    except InputError as error:
        raise InputError(f"{folder}: {error.detail}") from None
    assert images.size is not None
    return images.names, images.size


def png_size(path: Path) -> tuple[int, int]:
    """(width, height) from a PNG's head.

    Raises:
        InputError: it is missing, or no PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.size
    except FileNotFoundError:
        raise InputError(f"There is no {path}. Every frame that is evaluated needs its truth.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(f"{path} is not a PNG that can be read. Replace it.") from None


def read_png(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """An indexed or grey PNG's values (height, width).

    Some of DAVIS 2016's masks are stored in grey with an alpha channel (bear, frame 77): those are read as well.

    Raises:
        InputError: it is missing, damaged, of another kind or of another size; it names the file.
    """
    try:
        return indexed_png.decode(path.read_bytes(), size=size)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except LabelError as error:
        if (grey := _grey_in_colour(path, size)) is not None:
            return grey
        raise InputError(f"{path}: {error.detail}") from None


def _grey_in_colour(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """The one value of each pixel of a PNG that has more channels than it needs; None for any other picture."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != size or image.mode not in ("LA", "RGB", "RGBA"):
                return None
            colours = np.asarray(image)[:, :, : len(image.mode.removesuffix("A"))]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return colours[:, :, 0] if (colours == colours[:, :, :1]).all() else None


def masks_of_folder(images: Path, masks: Path, frames: int | None) -> tuple[tuple[Path, ...], tuple[int, int]]:
    """A PNG for every image (of the first `frames`), and their one (width, height).

    Raises:
        InputError: one is missing, or of another size; it names the file.
    """
    names, size = image_names(images)
    paths = tuple(masks / f"{Path(name).stem}.png" for name in names[:frames])
    for path in paths:
        if (own := png_size(path)) != size:
            raise InputError(
                f"{path} is {own[0]} x {own[1]} pixels, but the frames in {images} are {size[0]} x {size[1]}."
            )
    return paths, size


def as_truth(identity: int, mask: Mask) -> ObjectResult:
    """An object's true region as a result."""
    return ObjectResult(identity, bool(mask.any()), 1.0, mask, tight_box(mask), (), "anchor")


def write_index_map(result: FrameResult, folder: Path, name: str, size: tuple[int, int]) -> None:
    """A result's regions as one indexed PNG in a folder, which is made."""
    masks = {found.object: found.mask for found in result.objects if found.mask is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(indexed_png.encode(indexed_png.flatten(masks, shape=(size[1], size[0]))))
