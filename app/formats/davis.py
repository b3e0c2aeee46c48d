"""DAVIS: one indexed PNG per frame, pixel value = object id, in the palette of DAVIS and VOC.

Objects that overlap cannot both be shown: the higher id wins. Keypoints are not part of this format.

Read are a PNG, or a zip or folder of them, indexed or grey, each by its name (`app.formats.frames`); a single PNG whose
name has no number is frame 0. Values are object ids and 255 is void; where 0 and 255 are the only values of *all*
pictures, 255 is object 1. The layouts of DAVIS and of YouTube-VOS are both read, and `meta.json` gives names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.formats import packing
from app.formats.base import Imported
from app.formats.frames import FrameNames
from app.formats.gathering import Gathering
from app.formats.reading import Files, Foreign, bad, open_files, parse_json
from model.errors import LabelError
from model.labels import indexed_png, rle

if TYPE_CHECKING:
    from app.formats.base import ExportInput, ImportInput


def write_zip(given: ExportInput, path: Path) -> None:
    """A zip of the PNGs, the same bytes whenever it is built."""
    packing.write_zip(path, pictures(given), compress=False)


def write_folder(given: ExportInput, folder: Path) -> None:
    """The PNGs, straight into `folder`."""
    for name, data in pictures(given):
        (folder / name).write_bytes(data)


def pictures(given: ExportInput) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every frame's PNG."""
    shape = (given.info.height, given.info.width)
    for result in given.results():
        masks = {object_.object: object_.mask for object_ in result.objects if object_.mask is not None}
        index_map = indexed_png.flatten(masks, shape=shape) if masks else np.zeros(shape, np.uint8)
        yield f"{given.stem(result.frame)}.png", indexed_png.encode(index_map)


def read(given: ImportInput) -> Imported:
    """The masks of the frames that have a picture.

    Raises:
        InputError: `bad-annotations`, naming the picture.
    """
    with open_files(given) as files:
        pictures_given = files.paths if files.single else files.with_suffix(".png")
        if not pictures_given:
            raise bad(f"{given.path.name} holds no PNG. Give one indexed PNG for each labelled frame.")
        names = _names(files)
        frames = _frames(pictures_given, given, single=files.single)
        gathering = Gathering(given)
        plain: list[tuple[int, PurePosixPath, dict[str, Any]]] = []
        indexed = False
        for frame, path in frames.items():
            index_map = _decoded(files, path, given)
            values = np.flatnonzero(np.bincount(index_map.reshape(-1), minlength=256)).tolist()
            ids = [value for value in values if value not in (0, indexed_png.VOID)]
            indexed = indexed or bool(ids)
            if not ids:
                gathering.spend(str(path))  # each picture costs something, also an empty one
            for id_ in ids:
                region = {"mask": rle.encode(index_map == id_)}
                gathering.add(frame, str(path), number=id_, name=names.get(id_), region=region)
            if indexed_png.VOID in values:
                plain.append((frame, path, rle.encode(index_map == indexed_png.VOID)))
        for frame, path, mask in plain:
            if indexed:
                gathering.void(frame, mask)
            else:
                gathering.add(frame, str(path), number=1, name=names.get(1), region={"mask": mask})
        return gathering.imported(given.path.name)


def _frames(paths: list[PurePosixPath], given: ImportInput, *, single: bool) -> dict[int, PurePosixPath]:
    if single and given.table.names is None and not any(character.isdigit() for character in paths[0].stem):
        return {0: paths[0]}
    frame_names = FrameNames(given.table)
    frames: dict[int, PurePosixPath] = {}
    for path in paths:
        frame = frame_names.find(str(path))
        if frame in frames:
            raise bad(f"{path} and {frames[frame]} are both frame {frame}. Give the pictures of one video alone.")
        frames[frame] = path
    return frames


def _decoded(files: Files, path: PurePosixPath, given: ImportInput) -> NDArray[np.uint8]:
    size = (given.info.width, given.info.height)
    try:
        return indexed_png.decode(files.read(path), size=size, max_pixels=size[0] * size[1])
    except LabelError as error:
        raise bad(f"{path}: {error.detail}") from None


class _MetaObject(Foreign):
    category: str | None = None


class _MetaVideo(Foreign):
    objects: dict[str, _MetaObject] = Field(default_factory=dict)


class _Meta(Foreign):
    videos: dict[str, _MetaVideo] = Field(default_factory=dict)


def _names(files: Files) -> dict[int, str]:
    """The objects' names by id, where a `meta.json` as YouTube-VOS has it speaks of one video."""
    path = files.named("meta.json")
    if path is None:
        return {}
    videos = parse_json(_Meta, files.read(path), str(path)).videos
    if len(videos) != 1:
        return {}
    objects = next(iter(videos.values())).objects
    return {int(id_): entry.category for id_, entry in objects.items() if id_.isdecimal() and entry.category}
