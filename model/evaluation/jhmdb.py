"""JHMDB: PCK of 15 joints as UVC and CRW measure it, and J of the person where there are puppet masks.

Layout: `ReCompress_Videos/CLASS/CLIP.avi` (or `Rename_Images/CLASS/CLIP/00001.png`),
`joint_positions/CLASS/CLIP/joint_positions.mat` (`pos_img`, 2 x 15 x T), `puppet_mask/CLASS/CLIP/puppet_mask.mat`
(`part_mask`, H x W x T) and `splits/CLASS_test_split1.txt` (`CLIP.avi 2` is a test clip).

`pos_img` is in MATLAB's pixels: the centre of the top-left pixel is (1, 1). UVC and CRW take 1 off for their indices;
here, where that centre is (0.5, 0.5), it is half a pixel. (On the 40 clips that could be had, joints hit their masks
most often without any further offset.)
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.benchmark import Benchmark, Clip, ClipScore, Selection, chosen, folders_in, image_names, present
from model.evaluation.metrics import jaccard, pck
from model.labels import (
    Anchor,
    FrameResult,
    Keypoint,
    KeypointResult,
    Label,
    LabelObject,
    ObjectResult,
    Skeleton,
    colour_of,
)
from model.labels.raster import tight_box
from model.labels.types import Mask
from model.video import Limits
from model.video.media import Media

Joint = tuple[float, float] | None

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)
JOINTS = (
    "neck", "belly", "face", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow", "left_elbow",
    "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
)  # fmt: skip
_EDGES = (
    (0, 2), (0, 3), (0, 4), (3, 7), (7, 11), (4, 8), (8, 12), (0, 1), (1, 5), (1, 6), (5, 9), (9, 13), (6, 10),
    (10, 14),
)  # fmt: skip
_PERSON = 1
_TO_OURS = -0.5
_TEST = "2"


@dataclass(frozen=True)
class JhmdbClip(Clip):
    """A clip; `truth` is the file of its joints, `masks` that of its masks, None where there is none."""

    masks: Path | None
    action: str


class Jhmdb(Benchmark[JhmdbClip]):
    """See the module."""

    name = "jhmdb"
    protocol = (
        "JHMDB split 1 as UVC and CRW score it: the first frame's joints are given, and its mask where there is one; a "
        "joint is right within alpha times 0.6 times the diagonal of the box around that frame's true joints; the "
        "first frame is not scored; each joint's share over all clips, then the mean over joints. Joints that lie off "
        "the first frame cannot be given and count neither as joints nor in the box, as there; a joint lost on the way "
        "is wrong (there it is left out). J is the mask's mean over all frames but the first, then over clips; it is "
        "no part of that protocol."
    )
    columns = (*(f"PCK@{alpha}" for alpha in ALPHAS), "J")
    least_frames = 2
    layout = (
        "JHMDB has ReCompress_Videos/CLASS/CLIP.avi and joint_positions/CLASS/CLIP/joint_positions.mat; --root is the "
        "folder above both."
    )

    def select(self, wanted: Sequence[str] | None = None, frames: int | None = None) -> Selection[JhmdbClip]:
        joints = self._folder("joint_positions")
        actions = {clip: action for action in folders_in(joints) for clip in folders_in(joints / action)}
        absent: tuple[str, ...] = ()
        names, origin = sorted(actions, key=lambda clip: (actions[clip], clip)), f"every folder in {joints}"
        if wanted is not None:
            names, origin = chosen(names, [Path(name).stem for name in wanted], joints), "as asked for"
        elif listed := sorted(self.root.glob("splits/*_test_split1.txt")):
            names, absent = present((clip for path in listed for clip in _test_clips(path)), actions)
            origin = f"test clips of split 1 in {self.root / 'splits'}"
        clips = tuple(self._clip(actions[name], name, frames) for name in names)
        return self._checked(Selection(clips, origin, absent))

    def given(self, clip: JhmdbClip) -> Anchor:
        mask, first = _mask(clip, 0), self._track(clip)[0]
        points = [Keypoint(name, *point) for name, point in zip(JOINTS, first, strict=True) if point is not None]
        return Anchor(0, (Label(_PERSON, mask, keypoints=tuple(points)),))

    def truth(self, clip: JhmdbClip, frame: int) -> FrameResult:
        mask, joints = _mask(clip, frame), self._track(clip)[frame]
        points = tuple(
            KeypointResult(name, *point, visible=True, confidence=1.0)
            for name, point in zip(JOINTS, joints, strict=True)
            if point is not None
        )
        box = None if mask is None else tight_box(mask)
        return FrameResult(frame, 0, (ObjectResult(_PERSON, True, 1.0, mask, box, points, "anchor"),))

    def score(self, clip: JhmdbClip, results: Iterable[FrameResult]) -> ClipScore:
        truth = self._track(clip)
        pred: list[list[Joint]] = []
        overlaps: dict[int, float] = {}
        for result in results:
            found = result.objects[0]
            by_name = {point.name: (point.x, point.y) for point in found.keypoints}
            pred.append([by_name.get(name) for name in JOINTS])
            if found.mask is not None and result.frame and (true := _mask(clip, result.frame)) is not None:
                overlaps[result.frame] = jaccard(found.mask, true)
        mean_overlap = float(np.mean(list(overlaps.values()))) if overlaps else math.nan
        errors = {frame: _errors(pred[frame], truth[frame]) for frame in range(1, clip.frame_count)}
        return ClipScore(
            name=clip.name,
            numbers={**_pck(pred, truth), "J": mean_overlap},
            # Half of the box's size away is as wrong as anything.
            frames={f: float(1 - np.minimum(e / 0.5, 1).mean()) for f, e in errors.items() if e.size},
            details={"action": clip.action, "joints_given": sum(point is not None for point in truth[0])},
            tally=(pred, truth, mean_overlap),
        )

    def mean(self, scores: Sequence[ClipScore]) -> dict[str, float]:
        pred = {score.name: score.tally[0] for score in scores}
        truth = {score.name: score.tally[1] for score in scores}
        overlaps = [score.tally[2] for score in scores if not math.isnan(score.tally[2])]
        return {**_pck(pred, truth), "J": float(np.mean(overlaps)) if overlaps else math.nan}

    def write(self, clip: JhmdbClip, results: Iterable[FrameResult], folder: Path) -> None:
        """`joint_positions` and `puppet_mask` as the dataset has them; NaN for a joint that was lost."""
        positions = np.full((2, len(JOINTS), clip.frame_count), np.nan)
        masks: list[Mask] = []
        for result in results:
            found = result.objects[0]
            for point in found.keypoints:
                positions[:, JOINTS.index(point.name), result.frame] = point.x - _TO_OURS, point.y - _TO_OURS
            if found.mask is not None:
                masks.append(found.mask)
        _save(folder / "joint_positions" / clip.action / clip.name / "joint_positions.mat", "pos_img", positions)
        if masks:
            path = folder / "puppet_mask" / clip.action / clip.name / "puppet_mask.mat"
            _save(path, "part_mask", np.stack(masks, axis=2).astype(np.uint8))

    def object(self, identity: int) -> LabelObject:
        return LabelObject(identity, "person", colour_of(identity), Skeleton(JOINTS, _EDGES))

    def _clip(self, action: str, name: str, frames: int | None) -> JhmdbClip:
        joints = self.root / "joint_positions" / action / name / "joint_positions.mat"
        positions = _positions(joints)
        path = self.root / "puppet_mask" / action / name / "puppet_mask.mat"
        masks = path if path.is_file() else None
        video = self.root / "ReCompress_Videos" / action / f"{name}.avi"
        if not video.is_file():
            images = self.root / "Rename_Images" / action / name
            if not images.is_dir():
                raise InputError(f"There is neither {video} nor {images}. {self.layout}")
            video = images
        count, size = positions.shape[2], _size(video)
        if masks is not None and (shape := _masks(masks).shape) != (size[1], size[0], count):
            raise InputError(
                f"{masks} is {shape[1]} x {shape[0]} pixels and {shape[2]} frames, but it should be {size[0]} x "
                f"{size[1]} as {video} and {count} as {joints}."
            )
        return JhmdbClip(name, video, joints, min(frames or count, count), size, masks, action)

    def _track(self, clip: JhmdbClip) -> list[list[Joint]]:
        """The true joints by frame, of those that were given on the first; None for the others."""
        assert clip.size is not None
        positions = _positions(clip.truth)
        width, height = clip.size
        on_frame = [0 <= x <= width and 0 <= y <= height for x, y in positions[:, :, 0].T.tolist()]
        return [
            [(x, y) if seen else None for (x, y), seen in zip(joints.T.tolist(), on_frame, strict=True)]
            for joints in np.moveaxis(positions, 2, 0)[: clip.frame_count]
        ]


def _pck(pred: Any, truth: Any) -> dict[str, float]:
    return {f"PCK@{alpha}": pck(pred, truth, alpha) for alpha in ALPHAS}


def _errors(pred: Sequence[Joint], truth: Sequence[Joint]) -> NDArray[np.float64]:
    """Of every true joint, how far off the prediction is, in sizes of the person (0.6 times the box's diagonal)."""
    known = np.array([joint for joint in truth if joint is not None], np.float64).reshape(-1, 2)
    size = 0.6 * math.hypot(*np.ptp(known, axis=0)) if len(known) else 0.0
    if not size:
        return np.zeros(0)
    pairs = [(p, t) for p, t in zip(pred, truth, strict=True) if t is not None]
    return np.array([math.inf if p is None else math.dist(p, t) / size for p, t in pairs])


def _test_clips(path: Path) -> list[str]:
    """The clips that a `CLASS_test_split1.txt` marks as test clips."""
    rows = [line.rsplit(maxsplit=1) for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return [Path(row[0]).stem for row in rows if row[-1] == _TEST]


def _size(video: Path) -> tuple[int, int]:
    if video.is_dir():
        return image_names(video)[1]
    try:
        with Media(video, Limits()) as media:
            return media.codec.width, media.codec.height
    except InputError as error:
        raise InputError(f"{video}: {error.detail}") from None


def _mask(clip: JhmdbClip, frame: int) -> Mask | None:
    return None if clip.masks is None else _masks(clip.masks)[:, :, frame]


@lru_cache(maxsize=8)
def _positions(path: Path) -> NDArray[np.float64]:
    """(2, 15, T) joints in our coordinates."""
    positions = _variable(path, "pos_img").astype(np.float64)
    if positions.ndim == 2:  # of a single frame, which MATLAB does not keep as a dimension
        positions = positions[:, :, None]
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JOINTS)) or not np.isfinite(positions).all():
        raise InputError(f"{path}: pos_img should be 2 x 15 x frames of finite numbers, not {positions.shape}.")
    return positions + _TO_OURS


@lru_cache(maxsize=2)
def _masks(path: Path) -> NDArray[np.bool_]:
    """(H, W, T) where the person is."""
    masks = _variable(path, "part_mask")
    masks = (masks[:, :, None] if masks.ndim == 2 else masks) > 0
    if masks.ndim != 3:
        raise InputError(f"{path}: part_mask should be height x width x frames, not {masks.shape}.")
    if not masks[:, :, 0].any():
        raise InputError(f"{path} marks nothing on the first frame, and propagation starts from it.")
    return masks


def _variable(path: Path, name: str) -> NDArray[Any]:
    """One variable of a MATLAB file."""
    matlab = _matlab()
    try:
        with path.open("rb") as file:
            return np.asarray(matlab.loadmat(file, variable_names=[name])[name])
    except FileNotFoundError:
        raise InputError(f"There is no {path}.") from None
    except KeyError:
        raise InputError(f"{path} holds no variable {name!r}.") from None
    except (OSError, ValueError, TypeError, NotImplementedError, zlib.error, matlab.matlab.MatReadError) as error:
        raise InputError(f"{path} is not a MATLAB file that can be read ({error}).") from None


def _save(path: Path, name: str, value: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _matlab().savemat(path, {name: value}, do_compression=True)


def _matlab() -> Any:
    try:
        import scipy.io
    except ImportError:
        raise InputError("JHMDB's .mat files are read by scipy: pip install scipy, or labelprop[evaluate].") from None
    return scipy.io
