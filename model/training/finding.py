"""What lies at the paths that a trainer is given: videos, frames that make up a clip, and photographs.

Names inside of a tar are only ever shown: its members are found by their place in the file, and nothing is unpacked
under a name of its own.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from model.errors import MediaError
from model.video.archive import is_archive
from model.video.images import SUFFIXES as IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpegts"})
MAX_MEMBERS = 2_000_000
_MARK = "__"


class Kind(Enum):
    """What an item is."""

    VIDEO = "video"
    FRAMES = "frames"
    ZIP = "zip"
    STILL = "still"


@dataclass(frozen=True)
class Blob:
    """A regular file, or a stretch of a tar file that is one.

    Attributes:
        path: the file to read from.
        offset: where in it the content starts.
        size: bytes of the content; None is the whole file, whatever size it has then.
    """

    path: Path
    offset: int = 0
    size: int | None = None

    def count(self) -> int:
        """The content's size in bytes."""
        return self.path.stat().st_size if self.size is None else self.size

    def read(self) -> bytes:
        """The content, whole."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.count())


@dataclass(frozen=True)
class Item:
    """One clip or one photograph, not opened yet.

    Attributes:
        kind: how it is read.
        name: for people: its path below the path that was given, or its path inside of a pack.
        source: the part of its file name before `__`, else the name of the folder or pack that it lies in.
        blobs: the file; of `FRAMES` all images, in no order.
        labels: the file name of each blob.
    """

    kind: Kind
    name: str
    source: str
    blobs: tuple[Blob, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """Something that is not trained on, or only its beginning.

    Attributes:
        name: as that of an `Item`.
        reason: why, and what to do about it.
    """

    name: str
    reason: str


def find(paths: Sequence[Path]) -> tuple[list[Item], list[Skipped]]:
    """Everything that can be trained on at some paths, in an order that depends on names alone.

    Args:
        paths: each a video, a photograph, a zip of frames, a tar, or a folder. In folders and tars of any depth, videos
            and zips are clips; images that all have nothing but numbers for names are the frames of one clip per
            folder; other images are photographs. What else lies there, and what is hidden, is left alone.

    Raises:
        MediaError: a path does not exist, or no path was given, or nothing was found at one of them, or the only one
            cannot be read.
    """
    if not paths:
        raise MediaError("There is nothing to train on. Name a video, a folder or a .tar that holds videos.")
    items: list[Item] = []
    skipped: list[Skipped] = []
    seen: set[tuple[Path, int]] = set()
    for path in paths:
        before = len(skipped)
        found = list(_at(path, skipped))
        if not found and len(skipped) > before:
            if len(paths) == 1:
                raise MediaError(skipped[-1].reason)
            continue
        if not found:
            raise MediaError(
                f"{path} holds nothing to train on. Put videos ({_listed(VIDEO_SUFFIXES)}) or photographs "
                f"({_listed(IMAGE_SUFFIXES)}) there, or name another path."
            )
        for item in found:
            # Paths may overlap: a clip read twice would be trained on twice, and held out of training only once.
            place = (item.blobs[0].path.resolve(), item.blobs[0].offset)
            if place not in seen:
                seen.add(place)
                items.append(item)
    return items, skipped


def stills(item: Item) -> list[Item]:
    """The images of an item of `FRAMES` as photographs, by name."""
    pairs = sorted(zip(item.labels, item.blobs, strict=True), key=lambda pair: pair[0])
    return [Item(Kind.STILL, f"{item.name}/{label}", item.source, (blob,), (label,)) for label, blob in pairs]


def _at(path: Path, skipped: list[Skipped]) -> Iterator[Item]:
    if path.is_dir():
        files = _walk(path)
        yield from _grouped(files, path.resolve().name, skipped)
    elif path.is_file():
        yield from _file(path, PurePosixPath(path.name), path.resolve().parent.name, skipped, given=True)
    elif path.exists():
        raise MediaError(f"{path} is neither a file nor a folder. Name a video, a folder or a .tar.")
    else:
        raise MediaError(f"There is no file or folder {path}. Check the path.")


def _file(path: Path, name: PurePosixPath, home: str, skipped: list[Skipped], *, given: bool = False) -> Iterator[Item]:
    """A file on disk; one that was `given` by its own path is tried whatever it is called."""
    blob = Blob(path)
    if name.suffix.lower() == ".tar" or (given and _kind(name) is None and _is_tar(path)):
        try:
            members = _members(path)
        except MediaError as error:
            skipped.append(Skipped(_shown(str(name)), error.detail))
            return
        yield from _grouped(members, path.stem, skipped, packed=True)
        return
    kind = _kind(name)
    if given and kind is None:
        kind = Kind.ZIP if is_archive(path) else Kind.VIDEO
    if kind is not None:
        yield _item(kind, name, home, blob)


def _grouped(
    files: Iterable[tuple[PurePosixPath, Blob]], home: str, skipped: list[Skipped], *, packed: bool = False
) -> Iterator[Item]:
    """Items for the files of a folder or a tar: numbered images become clips."""
    pictures: dict[PurePosixPath, list[tuple[PurePosixPath, Blob]]] = {}
    others: list[tuple[PurePosixPath, Blob]] = []
    # A name that comes twice in a tar means the later one.
    for name, blob in dict(files).items():
        if any(part.startswith(".") or part == "__MACOSX" for part in name.parts if part not in (".", "..")):
            continue
        if name.suffix.lower() in IMAGE_SUFFIXES:
            pictures.setdefault(name.parent, []).append((name, blob))
        else:
            others.append((name, blob))
    found: list[tuple[str, Item]] = []
    for folder, images in pictures.items():
        if len(images) > 1 and all(name.stem.isdecimal() for name, _ in images):
            found.append((str(folder), _frames(folder, home, images)))
        else:
            found += [(str(name), _item(Kind.STILL, name, _lies_in(name, home), blob)) for name, blob in images]
    for name, blob in others:
        within = _lies_in(name, home)
        if not packed:
            found += [(str(name), item) for item in _file(blob.path, name, within, skipped)]
        elif _kind(name) is Kind.VIDEO:
            found.append((str(name), _item(Kind.VIDEO, name, within, blob)))
    # A tar keeps the order it was packed in out of this: the same files give the same footage.
    found.sort(key=lambda pair: pair[0])
    yield from (item for _, item in found)


def _frames(folder: PurePosixPath, home: str, images: Sequence[tuple[PurePosixPath, Blob]]) -> Item:
    name = folder.name or home
    return Item(
        Kind.FRAMES,
        _shown(str(folder) if folder.name else home),
        _shown(name.split(_MARK)[0] if _MARK in name else _lies_in(folder, home)),
        tuple(blob for _, blob in images),
        tuple(image.name for image, _ in images),
    )


def _item(kind: Kind, name: PurePosixPath, home: str, blob: Blob) -> Item:
    before, mark, _ = name.name.partition(_MARK)
    source = before if mark and before else home
    return Item(kind, _shown(str(name)), _shown(source), (blob,), (name.name,))


def _kind(name: PurePosixPath) -> Kind | None:
    suffix = name.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Kind.VIDEO
    if suffix in IMAGE_SUFFIXES:
        return Kind.STILL
    return Kind.ZIP if suffix == ".zip" else None


def _lies_in(name: PurePosixPath, home: str) -> str:
    return name.parent.name or home


def _walk(root: Path) -> Iterator[tuple[PurePosixPath, Blob]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            # A link to a file is followed, as data sets are often made of them; one to a folder is not.
            if path.is_file():
                yield PurePosixPath(path.relative_to(root).as_posix()), Blob(path)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


def _members(path: Path) -> list[tuple[PurePosixPath, Blob]]:
    """The regular files of a tar, by their place in it."""
    members: list[tuple[PurePosixPath, Blob]] = []
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for count, member in enumerate(tar, 1):
                if count > MAX_MEMBERS:
                    raise MediaError(f"{path.name} has more than {MAX_MEMBERS} members. Split it into several packs.")
                if member.isreg() and not member.issparse():
                    if member.size < 0 or member.offset_data + member.size > end:
                        raise tarfile.ReadError("it ends in the middle of a file")
                    members.append((PurePosixPath(member.name), Blob(path, member.offset_data, member.size)))
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(
            f"{path.name} cannot be read as a tar ({error}). Pack it again, without compression: "
            f"`tar -cf {path.stem}.tar FOLDER`."
        ) from error
    return members


def _shown(name: str) -> str:
    """A name that is safe to print: other people's packs choose their members' names."""
    return "".join(char if char.isprintable() else "?" for char in name)


def _listed(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))
