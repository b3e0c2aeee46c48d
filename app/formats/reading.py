"""What readers of foreign files share: files that are opened without trust, documents that are checked, and the error.

A reader gets one file, a zip or, on the command line, a folder. Zips go through `model.video.archive`, which knows the
attacks; every file is bounded before it is in memory. JSON is checked against a model by pydantic, which names the
field or the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from model.errors import InputError, MediaError
from model.video.archive import Archive, is_archive
from model.video.limits import Limits

if TYPE_CHECKING:
    from app.formats.base import ImportInput

MAX_FILE = 64 << 20
"""Bytes of one file, unpacked."""

MAX_BYTES = 512 << 20
"""Bytes of all files of a zip or folder, unpacked."""

_SPARE_FILES = 1000
M = TypeVar("M")


class Foreign(BaseModel):
    """A part of another tool's document: fields that we do not know are its own, NaN is refused."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


def bad(detail: str, *, pointer: str | None = None) -> InputError:
    """The error of annotations that cannot be used: name the file, line or field, and say what to do."""
    return InputError(detail, slug="bad-annotations", pointer=pointer)


def parse_json(shape: type[M], data: bytes, where: str) -> M:
    """A JSON document of the given shape.

    Args:
        shape: a model, or a type such as `list[SomeModel]`.
        data: the bytes; a byte order mark is passed over.
        where: what to call the file.

    Raises:
        InputError: `bad-annotations`, naming the field, or the line where it is no JSON.
    """
    try:
        return TypeAdapter(shape).validate_json(data.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        more = f" ({error.error_count()} faults in all.)" if error.error_count() > 1 else ""
    sentence = fault["msg"].removeprefix("Value error, ").rstrip(".")
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in fault["loc"])
    raise bad(f"{where}{': ' + pointer if pointer else ''}: {sentence}.{more}", pointer=pointer or None)


class Files:
    """The files that were given, by their paths within the zip or folder; a single file stands for itself."""

    def __init__(
        self, sizes: dict[PurePosixPath, int], read: Callable[[PurePosixPath], bytes], *, single: bool
    ) -> None:
        self._sizes = sizes
        self._read = read
        self.single = single
        """Whether one plain file was given."""

    @property
    def paths(self) -> list[PurePosixPath]:
        """Sorted, so that what is read does not depend on the order of a zip."""
        return sorted(self._sizes)

    def with_suffix(self, *suffixes: str) -> list[PurePosixPath]:
        """Those whose name ends so, whatever its case."""
        return [path for path in self.paths if path.suffix.lower() in suffixes]

    def named(self, *names: str) -> PurePosixPath | None:
        """The file of one of these names that lies least deep, or None."""
        found = [path for path in self.paths if path.name.lower() in names]
        return min(found, key=lambda path: len(path.parts), default=None)

    def read(self, path: PurePosixPath, *, max_bytes: int = MAX_FILE) -> bytes:
        """The content of one file.

        Raises:
            InputError: `bad-annotations` for one that is damaged or larger than `max_bytes`.
        """
        if self._sizes[path] > max_bytes:
            raise bad(f"{path} has {self._sizes[path]} bytes; at most {max_bytes} are read. Send fewer frames at once.")
        return self._read(path)

    def text(self, path: PurePosixPath, *, max_bytes: int = MAX_FILE) -> str:
        """The content of one text file; raises `bad-annotations` for what is not UTF-8."""
        try:
            return self.read(path, max_bytes=max_bytes).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise bad(f"{path} is not text in UTF-8 (byte {error.start}). Save it as UTF-8.") from None


def open_files(given: ImportInput) -> AbstractContextManager[Files]:
    """The files of an import, as `open_path` opens them; hardly more than the video has frames."""
    return open_path(given.path, max_files=given.table.frame_count + _SPARE_FILES)


@contextmanager
def open_path(path: Path, *, max_files: int = Limits.max_frames) -> Iterator[Files]:
    """A file, or the files of a zip or folder.

    Raises:
        InputError: `bad-annotations` for what cannot be opened, holds nothing, or is larger than the caps.
    """
    with ExitStack() as stack:
        try:
            if path.is_dir():
                files = _folder(path)
            elif is_archive(path):
                archive = Archive(path, Limits(max_bytes=MAX_BYTES, max_frames=max_files))
                stack.callback(archive.close)
                files = Files(
                    {path: archive.size_of(path) for path in archive.paths}, _unpacking(archive), single=False
                )
            else:
                size = path.stat().st_size
                files = Files({PurePosixPath(path.name): size}, lambda _: path.read_bytes(), single=True)
        except MediaError as error:
            raise bad(error.detail) from None
        except OSError as error:
            raise bad(f"{path.name} cannot be read: {error.strerror}.") from None
        if not files.paths:
            raise bad(f"{path.name} holds no files. Put the annotations into it.")
        yield files


def _unpacking(archive: Archive) -> Callable[[PurePosixPath], bytes]:
    def read(path: PurePosixPath) -> bytes:
        try:
            return archive.read(path)
        except MediaError as error:
            raise bad(error.detail) from None

    return read


def _folder(folder: Path) -> Files:
    sizes = {}
    for path in folder.rglob("*"):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            sizes[inside] = path.stat().st_size
    if sum(sizes.values()) > MAX_BYTES:
        raise bad(f"The files in {folder} have more than {MAX_BYTES} bytes. Give a folder of annotations alone.")
    return Files(sizes, lambda path: (folder / path).read_bytes(), single=False)
