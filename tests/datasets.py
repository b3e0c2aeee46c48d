"""Rendered clips in the layouts of the datasets that `labelprop evaluate` reads, and results made from their truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.io import savemat

from model.labels import FrameResult, KeypointResult, ObjectResult, indexed_png
from model.labels.raster import tight_box
from model.rendered import FLOWER, PUPPET, RenderedClip

IndexMap = np.ndarray
"""(height, width) uint8."""

VIP_CLASSES = {FLOWER: 13, PUPPET: 4}
"""The flower as a face, the puppet as upper clothes."""


def index_maps(clip: RenderedClip) -> list[IndexMap]:
    """The truth of every frame."""
    return [clip.mask(i) for i in range(clip.frame_count)]


def write_pictures(clip: RenderedClip, folder: Path, names: str) -> None:
    """Every frame as an image; `names` is a format of its number, such as `{:05}.jpg`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(clip.frames()):
        Image.fromarray(image).save(folder / names.format(i), quality=95)


def write_masks(maps: Sequence[IndexMap], folder: Path, names: str) -> None:
    """Every index map as an indexed PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, index_map in enumerate(maps):
        (folder / names.format(i)).write_bytes(indexed_png.encode(index_map))


def write_davis(root: Path, name: str, clip: RenderedClip, *, single: bool = False) -> Path:
    """A sequence as DAVIS 2017 has it, with both objects; `single` as DAVIS 2016, black and white, of the puppet."""
    write_pictures(clip, root / "JPEGImages" / "480p" / name, "{:05}.jpg")
    maps = index_maps(clip)
    if single:
        maps = [np.where(index_map == PUPPET, 255, 0).astype(np.uint8) for index_map in maps]
    write_masks(maps, root / "Annotations" / "480p" / name, "{:05}.png")
    return root


def write_vip(root: Path, name: str, clip: RenderedClip) -> Path:
    """A video as VIP_Fine has it, and its name on the list of validation videos."""
    write_pictures(clip, root / "Images" / name, "{:012}.jpg")
    write_masks(vip_maps(clip), root / "Annotations" / "Category_ids" / name, "{:012}.png")
    (root / "lists").mkdir(exist_ok=True)
    with (root / "lists" / "val_videos.txt").open("a") as file:
        file.write(f"{name}\n")
    return root


def vip_maps(clip: RenderedClip) -> list[IndexMap]:
    """The truth of every frame in VIP's classes."""
    table = np.zeros(256, np.uint8)
    for identity, number in VIP_CLASSES.items():
        table[identity] = number
    return [table[index_map] for index_map in index_maps(clip)]


def jhmdb_joints(clip: RenderedClip) -> np.ndarray:
    """(2, 15, T) the puppet's joints in JHMDB's order and in pixels whose first centre is (0.5, 0.5)."""
    frames = []
    for i in range(clip.frame_count):
        at = {point.name: np.array((point.x, point.y)) for point in clip.keypoints(i)}
        neck = (at["left_shoulder"] + at["right_shoulder"]) / 2
        belly = (2 * neck + at["left_knee"] + at["right_knee"]) / 4
        hips = [(belly + at[f"{side}_knee"]) / 2 for side in ("right", "left")]
        limbs = ("elbow", "knee", "hand", "foot")
        frames.append(
            [neck, belly, at["head"], at["right_shoulder"], at["left_shoulder"], *hips]
            + [at[f"{side}_{limb}"] for limb in limbs for side in ("right", "left")]
        )
    return np.array(frames).transpose(2, 1, 0)


def write_jhmdb(
    root: Path, action: str, name: str, clip: RenderedClip, *, masks: bool = True, video: bool = True, split: int = 2
) -> Path:
    """A clip as JHMDB has it: a video or a folder of images, joints, puppet masks, and its line in the split."""
    if video:
        (root / "ReCompress_Videos" / action).mkdir(parents=True, exist_ok=True)
        write_avi(clip, root / "ReCompress_Videos" / action / f"{name}.avi")
    else:
        write_pictures(clip, root / "Rename_Images" / action / name, "{:05}.png")
    write_mat(root / "joint_positions" / action / name / "joint_positions.mat", pos_img=jhmdb_joints(clip) + 0.5)
    if masks:
        puppet = np.stack([index_map == PUPPET for index_map in index_maps(clip)], axis=2)
        write_mat(root / "puppet_mask" / action / name / "puppet_mask.mat", part_mask=puppet.astype(np.uint8))
    (root / "splits").mkdir(exist_ok=True)
    with (root / "splits" / f"{action}_test_split1.txt").open("a") as file:
        file.write(f"{name}.avi {split}\n")
    return root


def write_mat(path: Path, **variables: np.ndarray) -> None:
    """A MATLAB file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def write_avi(clip: RenderedClip, path: Path) -> None:
    """An AVI of one intra-coded frame after the other."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuvj444p"
        for image in clip.frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def otb_boxes(clip: RenderedClip, identity: int = PUPPET) -> list[tuple[float, float, float, float]]:
    """The tight box of an object on every frame, (x, y, width, height) at pixel borders."""
    found = [tight_box(index_map == identity) for index_map in index_maps(clip)]
    return [box for box in found if box is not None]


def write_otb(
    root: Path, name: str, clip: RenderedClip, *, separator: str = ",", file: str = "groundtruth_rect.txt"
) -> Path:
    """A sequence as OTB has it: numbers from 1, MATLAB's pixels."""
    write_pictures(clip, root / name / "img", "{:04}.jpg")
    lines = [separator.join(f"{v:g}" for v in (x + 1, y + 1, w, h)) for x, y, w, h in otb_boxes(clip)]
    (root / name / file).write_text("\r\n".join(lines) + "\r\n")
    return root


def result_of(frame: int, masks: Mapping[int, np.ndarray], points: tuple[KeypointResult, ...] = ()) -> FrameResult:
    """A frame's results of given masks by object; all points belong to the first object."""
    objects = [
        ObjectResult(each, bool(mask.any()), 1.0, mask, tight_box(mask), () if i else points, "propagated")
        for i, (each, mask) in enumerate(masks.items())
    ]
    return FrameResult(frame, 40 * frame, tuple(objects))


def results_of(maps: Sequence[IndexMap], identities: Sequence[int]) -> list[FrameResult]:
    """Results that say of every frame what its index map says."""
    return [result_of(i, {each: index_map == each for each in identities}) for i, index_map in enumerate(maps)]


def spoiled(maps: Sequence[IndexMap], seed: int = 0) -> list[IndexMap]:
    """Index maps as a model may give them: objects pushed aside, a hole, a stray piece, one frame where all is lost."""
    rng = np.random.default_rng(seed)
    worse = []
    for index_map in maps:
        shift = rng.integers(-6, 7, 2)
        moved = np.roll(index_map, tuple(shift), (0, 1))
        top, left = rng.integers(0, index_map.shape[0] - 8), rng.integers(0, index_map.shape[1] - 8)
        moved[top : top + 8, left : left + 8] = rng.choice(np.unique(index_map))
        worse.append(moved)
    worse[len(worse) // 2][:] = 0
    return worse
