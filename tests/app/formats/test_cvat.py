"""CVAT's XML: held to CVAT's rules of import, to the SDK's masks, and to itself."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from cvat_sdk import masks as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.formats import FORMATS, cvat
from app.formats.base import ExportInput, Imported, ImportInput
from app.jobspec import parse_job, resolve
from model.errors import InputError
from model.labels import FrameResult, KeypointResult, LabelObject, ObjectResult, Skeleton, raster, rle
from model.rendered import RenderedClip
from model.video import FrameTable, VideoInfo, encode_video, open_video

WIDTH, HEIGHT, FRAMES = 24, 16, 12
BONES = Skeleton(("head", "left hand", '<&">'), ((0, 1), (2, 0)))


def video(frames: int = FRAMES, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The facts of a video of variable frame rate."""
    info = VideoInfo("mp4", "h264", WIDTH, HEIGHT, frames, 500, Fraction(25), Fraction(1), 0, 1)
    pts = np.cumsum(np.arange(frames) % 3 + 1).astype(np.int64)
    return {"info": info, "table": FrameTable(pts, np.ones(frames, np.bool_), Fraction(1, 90), names=names)}


def region(frame: int, mask: np.ndarray, object_id: int = 1, **changes: Any) -> ObjectResult:
    values = {"visible": True, "confidence": 0.5, "keypoints": (), "source": "propagated", **changes}
    return ObjectResult(object_id, mask=mask, box=values.pop("box", raster.tight_box(mask)), **values)


def square(x: int, y: int, side: int = 4) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def ring(x: int, y: int) -> np.ndarray:
    mask = square(x, y, 6)
    mask[y + 2 : y + 4, x + 2 : x + 4] = False
    return mask


def points(*given: tuple[str, float, float, bool]) -> tuple[KeypointResult, ...]:
    return tuple(KeypointResult(name, x, y, visible, 0.5) for name, x, y, visible in given)


def only_points(object_id: int, *given: tuple[str, float, float, bool]) -> ObjectResult:
    return ObjectResult(object_id, bool(given), 0.5, None, None, points(*given), "propagated")


def object_(id_: int, name: str = "dog", skeleton: Skeleton | None = None) -> LabelObject:
    return LabelObject(id_, name, (1, 2, 3), skeleton)


def results(by_frame: dict[int, list[ObjectResult]], frames: range = range(FRAMES)) -> list[FrameResult]:
    return [FrameResult(frame, 40 * frame, tuple(by_frame.get(frame, ()))) for frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cvat")


@pytest.fixture(scope="module")
def write(folder: Path) -> Callable[..., str]:
    def do(objects: list[LabelObject], found: list[FrameResult], name: str = "cvat") -> str:
        given = ExportInput(
            **video(), objects=tuple(objects), results=lambda: iter(found), frames=lambda first: iter(()),
            video_name="a <b> & c.mp4",
        )  # fmt: skip
        FORMATS[name].write_file(given, folder / "out.xml")
        return (folder / "out.xml").read_text()

    return do


@pytest.fixture(scope="module")
def read(folder: Path) -> Callable[..., Imported]:
    def do(text: str, names: tuple[str, ...] | None = None, frames: int = FRAMES) -> Imported:
        path = folder / "in.xml"
        path.write_text(text)
        imported = cvat.read(ImportInput(path, video_name="clip.mp4", **video(frames, names)))
        # Whatever is read is a request that the service takes.
        job = parse_job(json.dumps({"objects": imported.objects, "anchors": imported.anchors}))
        resolve(job, video(frames)["info"])
        return imported

    return do


def shown(text: str) -> dict[tuple[str, int, int], list[tuple[int, Any]]]:
    """What CVAT shows after importing a document, by its importer's rules: label, group and track, its frames' shapes.

    A track is shown from a keyframe until one that is outside, or to the end; of a track of masks the first is kept.
    """
    found: dict[tuple[str, int, int], list[tuple[int, Any]]] = {}
    for track in ElementTree.fromstring(text).iter("track"):
        frames: dict[int, Any] = {}
        keyframes = {int(shape.get("frame", "-1")): shape for shape in track if shape.get("keyframe") == "1"}
        first = keyframes[min(keyframes)]
        for frame in range(FRAMES):
            before = [number for number in keyframes if number <= frame]
            if before and not _outside(keyframes[max(before)]):
                frames[frame] = keyframes[max(before)]
        if first.tag == "mask":
            frames = {min(keyframes): first}
        key = (track.get("label", ""), int(track.get("group_id", 0)), int(track.get("id", 0)))
        found[key] = sorted(frames.items())
    return found


def _outside(shape: Any) -> bool:
    if shape.tag == "skeleton":
        return all(point.get("outside") == "1" for point in shape)
    return shape.get("outside") == "1"


def sdk_mask(shape: Any) -> np.ndarray:
    left, top, width, height = (int(shape.get(name)) for name in ("left", "top", "width", "height"))
    encoded = [*map(int, shape.get("rle").split(", ")), left, top, left + width - 1, top + height - 1]
    return reference.decode_mask(encoded, image_width=WIDTH, image_height=HEIGHT)


class TestWriter:
    def test_masks_are_shown_on_their_frames_and_no_other(self, write: Callable) -> None:
        by_frame = {frame: [region(frame, ring(frame, 3))] for frame in (2, 3, 4, 8)}
        tracks = shown(write([object_(1)], results(by_frame)))
        seen = {frame: shape for frames in tracks.values() for frame, shape in frames}
        assert sorted(seen) == [2, 3, 4, 8]
        for frame, shape in seen.items():
            assert np.array_equal(sdk_mask(shape), ring(frame, 3))
        assert {(label, group) for label, group, _ in tracks} == {("dog", 1)}

    def test_a_box_ends_after_its_last_frame_and_comes_back(self, write: Callable) -> None:
        by_frame = {
            frame: [region(frame, square(frame, 3), source="anchor" if frame == 2 else "propagated")]
            for frame in (2, 3, 4, 8, 9)
        }
        text = write([object_(1)], results(by_frame))
        (frames,) = shown(text).values()
        assert [frame for frame, _ in frames] == [2, 3, 4, 8, 9]
        assert [(s.tag, s.get("xtl"), s.get("ytl"), s.get("xbr"), s.get("ybr")) for _, s in frames][1] == (
            "box", "3.00", "3.00", "7.00", "7.00",
        )  # fmt: skip
        keyframes = [(s.get("frame"), s.get("outside")) for s in ElementTree.fromstring(text).iter("box")]
        assert keyframes == [("2", "0"), ("3", "0"), ("4", "0"), ("5", "1"), ("8", "0"), ("9", "0"), ("10", "1")]

    def test_an_object_seen_to_the_end_is_not_closed_beyond_it(self, write: Callable) -> None:
        by_frame = {frame: [region(frame, square(3, 3), source="anchor")] for frame in range(FRAMES)}
        assert 'outside="1"' not in write([object_(1)], results(by_frame))
        masks = {frame: [region(frame, ring(3, 3))] for frame in range(FRAMES)}
        frames = [
            int(s.get("frame", "")) for s in ElementTree.fromstring(write([object_(1)], results(masks))).iter("mask")
        ]
        assert max(frames) == FRAMES - 1

    def test_polygons_are_one_track_whose_outline_is_the_mask(self, write: Callable) -> None:
        pytest.importorskip("app.formats.contours")
        by_frame = {frame: [region(frame, ring(frame, 3) | square(19, 12, 3))] for frame in range(2, 6)}
        text = write([object_(1)], results(by_frame), "cvat-polygons")
        ((key, frames),) = shown(text).items()
        assert (key, [frame for frame, _ in frames]) == (("dog", 1, 0), [2, 3, 4, 5])
        for frame, shape in frames:
            flat = [float(value) for pair in shape.get("points").split(";") for value in pair.split(",")]
            drawn = raster.polygon([flat], HEIGHT, WIDTH)
            truth = by_frame[frame][0].mask
            assert (drawn & truth).sum() / (drawn | truth).sum() > 0.85

    def test_a_skeleton_holds_every_point_and_closes_as_a_whole(self, write: Callable) -> None:
        by_frame = {
            3: [only_points(2, ("head", 5.25, 6.5, True), ("left hand", 2, 3, False))],
            4: [only_points(2, ("left hand", 4, 3, True))],
        }
        text = write([object_(2, "puppet", BONES)], results(by_frame))
        ((key, frames),) = shown(text).items()
        assert (key, [frame for frame, _ in frames]) == (("puppet", 2, 0), [3, 4])
        said = [[(p.get("label"), p.get("outside"), p.get("occluded"), p.get("points")) for p in s] for _, s in frames]
        assert said == [
            [("head", "0", "0", "5.25,6.50"), ("left hand", "0", "1", "2.00,3.00"), ('<&">', "1", "0", "5.25,6.50")],
            [("head", "1", "0", "5.25,6.50"), ("left hand", "0", "0", "4.00,3.00"), ('<&">', "1", "0", "5.25,6.50")],
        ]
        closing = ElementTree.fromstring(text).findall("./track/skeleton")[-1]
        assert closing.get("frame") == "5"
        assert _outside(closing)
        labels = {label.findtext("name"): label for label in ElementTree.fromstring(text).iter("label")}
        assert labels["puppet"].findtext("type") == "skeleton"
        assert labels["head"].findtext("parent") == "puppet"
        assert 'data-node-from="3" data-node-to="1"' in (labels["puppet"].findtext("svg") or "")

    def test_points_without_a_skeleton_are_tracks_of_their_own(self, write: Callable) -> None:
        by_frame = {
            2: [only_points(1, ("tail", 3, 4, True), ("nose", 5, 6, True))],
            3: [only_points(1, ("nose", 6, 6, False))],
        }
        tracks = shown(write([object_(1)], results(by_frame)))
        assert [[frame for frame, _ in frames] for frames in tracks.values()] == [[2], [2, 3]]
        assert [frames[0][1].findtext("attribute") for frames in tracks.values()] == ["tail", "nose"]

    def test_a_stride_leaves_the_frames_between_alone(self, write: Callable) -> None:
        by_frame = {frame: [region(frame, ring(3, 3))] for frame in (1, 4)}
        text = write([object_(1)], results(by_frame, range(1, FRAMES, 3)))
        frames = [(s.get("frame"), s.get("outside")) for s in ElementTree.fromstring(text).iter("mask")]
        assert frames == [("1", "0"), ("4", "1"), ("4", "0"), ("7", "1")]
        meta = ElementTree.fromstring(text).find("meta/task")
        assert meta is not None
        said = [meta.findtext(name) for name in ("start_frame", "stop_frame", "frame_filter", "size", "name")]
        assert said == ["1", "10", "step=3", "4", "a <b> & c.mp4"]

    def test_the_same_bytes_every_time_and_a_document_without_results(self, write: Callable) -> None:
        by_frame = {2: [region(2, ring(3, 3)), only_points(2, ("head", 1, 1, True))]}
        both = [object_(1), object_(2, "puppet", BONES)]
        assert write(both, results(by_frame)) == write(both, results(by_frame))
        assert shown(write(both, [])) == {}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[LabelObject], list[FrameResult]]:
    """Objects of every kind that come and go."""
    kinds = draw(st.lists(st.sampled_from(["mask", "box", "skeleton", "both"]), min_size=1, max_size=4))
    ids = draw(st.lists(st.integers(1, 254), min_size=len(kinds), max_size=len(kinds), unique=True))
    names = st.sampled_from(["dog", "cat"])
    objects, seen = [], {}
    for id_, kind in zip(ids, kinds, strict=True):
        objects.append(object_(id_, draw(names), BONES if kind in ("skeleton", "both") else None))
        seen[id_] = draw(st.lists(st.booleans(), min_size=FRAMES, max_size=FRAMES).filter(any))
    found = []
    for frame in range(FRAMES):
        entries = []
        for declared, kind in zip(objects, kinds, strict=True):
            if not seen[declared.id][frame]:
                continue
            x, y = draw(st.integers(0, 15)), draw(st.integers(0, 9))
            where = (
                points(("head", x, y, draw(st.booleans())), ("left hand", 3.25, y, True))
                if kind in ("skeleton", "both")
                else ()
            )
            mask = {"box": square(x, y), "skeleton": None}.get(kind, ring(x, y))
            box = None if mask is None else raster.tight_box(mask)
            entries.append(ObjectResult(declared.id, True, 0.5, mask, box, where, "anchor"))
        found.append(FrameResult(frame, frame * 40, tuple(entries)))
    return objects, found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scene=scenes())
def test_what_is_written_is_read_back(write: Callable, read: Callable, scene: Any) -> None:
    objects, found = scene
    imported = read(write(objects, found))
    assert [(o["id"], o["name"]) for o in imported.objects] == sorted((o.id, o.name) for o in objects)
    skeletons = {o["id"]: o["skeleton"] for o in imported.objects}
    for declared in objects:
        bones = {"points": list(BONES.points), "edges": [list(edge) for edge in BONES.edges]}
        assert skeletons[declared.id] == (bones if declared.skeleton else None)
    said = {(a["frame"], label["object"]): label for a in imported.anchors for label in a["labels"]}
    true = {(result.frame, entry.object): entry for result in found for entry in result.objects}
    for key, entry in true.items():
        label = said[key]
        assert not label.get("absent")
        if entry.mask is not None and "mask" in label:
            assert np.array_equal(rle.decode(label["mask"]), entry.mask)
        elif entry.mask is not None:
            assert tuple(label["box"]) == entry.box
        given_points = [(p["name"], p["x"], p["y"], p["visible"]) for p in label.get("keypoints", [])]
        assert given_points == [(p.name, p.x, p.y, p.visible) for p in entry.keypoints]
    for frame, object_id in said.keys() - true.keys():
        assert said[frame, object_id]["absent"]
    for frame in range(2, FRAMES):  # an object that was followed for two frames and is gone is said to be gone
        for declared in objects:
            if {(frame - 2, declared.id), (frame - 1, declared.id)} <= true.keys() and (frame, declared.id) not in true:
                assert said[frame, declared.id]["absent"]


def track(shapes: str, label: str = "dog", group: int = 0) -> str:
    return f'<track id="0" label="{label}" source="manual" group_id="{group}">{shapes}</track>'


def box(frame: int, x: float = 2, *, outside: int = 0, keyframe: int = 1, **more: object) -> str:
    extra = "".join(f' {name}="{value}"' for name, value in more.items())
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="{x}" ytl="3" xbr="{x + 5}"'
        f' ybr="9"{extra} z_order="0"></box>'
    )


def document(body: str, meta: str = "") -> str:
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    return f"{head}<meta>{meta}</meta>\n{body}</annotations>"


class TestReader:
    def test_keyframes_become_anchors_and_interpolated_shapes_do_not(self, read: Callable) -> None:
        found = read(document(track(box(1) + box(2, 3, keyframe=0) + box(3, 4) + box(7, outside=1))))
        assert found.objects == [{"id": 1, "name": "dog", "skeleton": None}]
        assert found.anchors == [
            {"frame": 1, "labels": [{"object": 1, "box": [2.0, 3.0, 5.0, 6.0]}]},
            {"frame": 3, "labels": [{"object": 1, "box": [4.0, 3.0, 5.0, 6.0]}]},
            {"frame": 7, "labels": [{"object": 1, "absent": True}]},
        ]

    def test_a_single_shape_written_as_a_track_ends_nothing(self, read: Callable) -> None:
        assert [a["frame"] for a in read(document(track(box(4) + box(5, outside=1)))).anchors] == [4]
        stepped = document(track(box(4) + box(7, outside=1)), "<task><frame_filter>step=3</frame_filter></task>")
        assert [a["frame"] for a in read(stepped).anchors] == [4]
        # A box that stood still until a person ended it is another matter.
        assert len(read(document(track(box(4) + box(7, outside=1)))).anchors) == 2

    def test_an_object_in_several_parts(self, read: Callable) -> None:
        polygon = '<polygon frame="1" keyframe="1" outside="0" points="{}"></polygon>'
        halves = track(polygon.format("1,1;5,1;5,5;1,5"), group=9) + track(polygon.format("4,4;9,4;9,9;4,9"), group=9)
        found = read(document(halves))
        assert [o["id"] for o in found.objects] == [9]
        mask = rle.decode(found.anchors[0]["labels"][0]["mask"])
        assert mask.sum() == 16 + 25 - 1

    def test_boxes_of_one_group_that_are_seen_together_are_two_objects(self, read: Callable) -> None:
        found = read(document(track(box(1), "wheel", 4) + track(box(1, 9), "wheel", 4)))
        assert [(o["id"], o["name"]) for o in found.objects] == [(1, "wheel"), (2, "wheel")]

    def test_turned_boxes_and_ellipses_are_outlines(self, read: Callable) -> None:
        found = read(document(track(box(1, rotation=90))))
        mask = raster.polygon(found.anchors[0]["labels"][0]["polygon"], HEIGHT, WIDTH)
        assert mask.sum() == 30
        ellipse = '<ellipse frame="1" keyframe="1" outside="0" cx="8" cy="8" rx="6" ry="3"></ellipse>'
        mask = raster.polygon(read(document(track(ellipse))).anchors[0]["labels"][0]["polygon"], HEIGHT, WIDTH)
        assert abs(mask.sum() - np.pi * 18) < 4

    def test_what_reaches_beyond_the_frame_is_cut_off(self, read: Callable) -> None:
        assert read(document(track(box(1, -3)))).anchors[0]["labels"][0]["box"] == [0.0, 3.0, 2.0, 6.0]
        shape = '<polygon frame="1" keyframe="1" outside="0" points="-4,-4;8,-4;8,8;-4,8"></polygon>'
        label = read(document(track(shape))).anchors[0]["labels"][0]
        assert raster.polygon(label["polygon"], HEIGHT, WIDTH).sum() == 64

    def test_images_are_found_by_name_or_by_number(self, read: Callable) -> None:
        shape = '<box label="dog" occluded="0" xtl="1" ytl="1" xbr="5" ybr="5" z_order="0"></box>'
        body = "".join(
            f'<image id="{i}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shape}</image>'
            for i, name in ((0, "b/two.png"), (1, "one"))
        )
        names = ("a/one.png", "b/two.png", "c/three.png")
        assert [a["frame"] for a in read(document(body), names, 3).anchors] == [0, 1]
        found = read(document(body))
        assert [a["frame"] for a in found.anchors] == [0, 1]
        assert [o["name"] for o in found.objects] == ["dog"]

    def test_a_download_of_cvat_is_a_zip(self, read: Callable, folder: Path) -> None:
        with zipfile.ZipFile(folder / "task.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images/frame_000000.png", b"x")
            archive.writestr("annotations.xml", document(track(box(1))))
        assert cvat.read(ImportInput(folder / "task.zip", video_name="x", **video())).anchors[0]["frame"] == 1
        (folder / "task").mkdir()
        (folder / "task" / "annotations.xml").write_text(document(track(box(2))))
        assert cvat.read(ImportInput(folder / "task", video_name="x", **video())).anchors[0]["frame"] == 2

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (track(box(1) + "\n" + box(99)), "Line 6: frame 99 lies beyond the video, whose last frame is 11"),
            (track(box(1) + box(1)), "Line 5: frame 1 stands twice"),
            (track("<box/>"), "Line 5: <box> lacks `xtl`"),
            (track(box(1).replace(' frame="1"', ' frame="x"')), "`frame` of <box> must be a whole number"),
            (track(box(1).replace('xtl="2"', 'xtl="nan"')), "`xtl` of <box> must be a number"),
            (track('\n<polyline frame="1" points="1,1;2,2"/>'), "Line 6: lines cannot be carried"),
            (track('<mask frame="1" rle="1, x" left="0" top="0" width="1" height="1"/>'), "`rle` must be whole"),
            (track('<mask frame="1" rle="5" left="0" top="0" width="2" height="2"/>'), "Line 5: the run lengths add"),
            (track('<mask frame="1" rle="4" left="0" top="0" width="2" height="2"/>'), "the mask has no pixels"),
            (track('<polygon frame="1" points="1,1;2,2"/>'), "three points or more"),
            (track('<polygon frame="1" points="1,1;2;3,4"/>'), "must be x,y;x,y"),
            (track('<polygon frame="1" points="90,1;99,2;99,4"/>'), "the polygon has no pixels on the frame"),
            (track('<points frame="1" points="90,1"/>'), "lies outside the frame"),
            (track(box(1), label="x" * 101), "Line 5: a label's or a point's name must have 1 to 100 printable"),
            ("<track/>", "Line 5: <track> lacks `label`"),
            ("", "hold no shape"),
            (track(box(1, outside=1)), "hold no shape"),
        ],
    )  # fmt: skip
    def test_faults_name_the_line(self, read: Callable, body: str, says: str) -> None:
        with pytest.raises(InputError, match=says) as caught:
            read(document(body))
        assert caught.value.slug == "bad-annotations"

    def test_faults_of_the_whole_file(self, read: Callable, folder: Path) -> None:
        size = "<task><original_size>\n<width>24</width><height>99</height></original_size></task>"
        with pytest.raises(InputError, match=r"Line 5: .*height of 99 pixels, but the video's is 16"):
            read(document(track(box(1)), size))
        with pytest.raises(InputError, match=r"root element must be <annotations>"):
            read("<opencv_storage/>")
        with pytest.raises(InputError, match=r"Line 2: it declares a document type"):
            read('<?xml version="1.0"?>\n<!DOCTYPE annotations [<!ENTITY a "b">]><annotations/>')
        with pytest.raises(InputError, match="several tasks"):
            read(
                document(
                    track(box(1)).replace("<track", '<track task_id="1"')
                    + track(box(1)).replace("<track", '<track task_id="2"')
                )
            )
        with zipfile.ZipFile(folder / "two.zip", "w") as archive:
            archive.writestr("a.xml", "<a/>")
            archive.writestr("b.xml", "<a/>")
        with pytest.raises(InputError, match=r"found: a\.xml, b\.xml"):
            cvat.read(ImportInput(folder / "two.zip", video_name="x", **video()))
        (folder / "cut.zip").write_bytes((folder / "two.zip").read_bytes()[:60])
        with pytest.raises(InputError, match="zip"):
            cvat.read(ImportInput(folder / "cut.zip", video_name="x", **video()))

    def test_shapes_that_cannot_be_told_apart(self, read: Callable) -> None:
        shape = '<box label="car" occluded="0" xtl="{0}" ytl="1" xbr="{1}" ybr="5"{2}></box>'
        two = shape.format(1, 4, "") + shape.format(6, 9, "")
        one = f'<image id="0" name="a">{two}</image>'
        assert len(read(document(one)).objects) == 2
        with pytest.raises(InputError, match=r"Line 5: several shapes of 'car'.*Group the shapes"):
            read(document(one + f'\n<image id="3" name="b">{shape.format(2, 5, "")}</image>'))
        grouped = [shape.format(x, x + 3, f' group_id="{group}"') for x, group in ((1, 1), (6, 2), (2, 1))]
        body = f'<image id="0" name="a">{grouped[0]}{grouped[1]}</image><image id="3" name="b">{grouped[2]}</image>'
        found = read(document(body))
        assert [[label["object"] for label in a["labels"]] for a in found.anchors] == [[1, 2], [1]]
        with pytest.raises(InputError, match="two 'car' in group 1"):
            read(
                document(
                    f'<image id="0" name="a">{grouped[0]}{grouped[0]}</image>'
                    f'<image id="3" name="b">{grouped[2]}</image>'
                )
            )


VALUES = ["", "-1", "0", "1e400", "nan", "9" * 20, "x", "0, 4", "4", "1,1;2,2", "9,9;9,9;9,9", "&x;", "\x00", "é" * 200]
PIECES = [
    "<",
    "/>",
    '"',
    "<track>",
    "</track>",
    '<image id="1">',
    "<skeleton>",
    "<meta>",
    "</annotations>",
    "<points/>",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(VALUES)), max_size=3),
    cuts=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40), st.sampled_from(PIECES)), max_size=1),
)
def test_a_spoilt_file_is_read_or_refused_with_a_reason(
    write: Callable, folder: Path, values: list[tuple[int, str]], cuts: list[tuple[int, int, str]]
) -> None:
    by_frame = {f: [region(f, ring(f, 3)), only_points(2, ("head", 1, 1, True))] for f in (2, 3)}
    text = write([object_(1), object_(2, "puppet", BONES)], results(by_frame))
    for at, value in values:
        places = list(re.finditer(r'="([^"]*)"', text))
        start, stop = places[at % len(places)].span(1)
        text = text[:start] + value + text[stop:]
    for at, length, piece in cuts:
        text = text[: at % len(text)] + piece + text[at % len(text) + length :]
    (folder / "spoilt.xml").write_text(text)
    refused: InputError | None = None
    try:
        imported = cvat.read(ImportInput(folder / "spoilt.xml", video_name="x", **video()))
    except InputError as error:
        refused = error
    else:
        parse_job(json.dumps({"objects": imported.objects, "anchors": imported.anchors}))
    assert refused is None or (refused.slug, refused.detail[-1]) == ("bad-annotations", ".")


def test_a_long_file_is_read_in_no_time(folder: Path) -> None:
    frames = 20_000
    shapes = "".join(box(frame, outside=frame % 2) for frame in range(frames))
    masks = "".join(
        track(f'<mask frame="{f}" keyframe="1" outside="0" rle="0, 4" left="0" top="0" width="2" height="2"/>', group=3)
        for f in range(0, frames, 4)
    )
    (folder / "long.xml").write_text(document(track(shapes) + masks))
    imported = cvat.read(ImportInput(folder / "long.xml", video_name="x", **video(frames)))
    assert len(imported.anchors) == frames


CLIPS = {
    "29.97": {"fps": Fraction(30000, 1001)},
    "variable": {"fps": Fraction(10), "pts_ms": [0, 40, 55, 300, 305, 900, 910, 950, 1800, 1801, 1900, 2500]},
}


@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize(("start", "step"), [(0, 1), (2, 3)])
def test_frames_are_the_ones_that_cvat_shows(
    tmp_path: Path, clip: RenderedClip, kind: str, start: int, step: int
) -> None:
    path = tmp_path / "clip.mp4"
    encode_video(path, clip.frames(), **CLIPS[kind])
    with open_video(path) as source:
        covered = range(start, source.info.frame_count, step)
        found = [
            FrameResult(frame, source.table.time_ms(frame), (region(frame, clip.mask(frame) == 1),))
            for frame in covered
        ]
        given = ExportInput(
            source.info, source.table, (object_(1),), lambda: iter(found), lambda first: iter(()), video_name="clip"
        )
        FORMATS["cvat"].write_file(given, tmp_path / "out.xml")
        imported = cvat.read(ImportInput(tmp_path / "out.xml", source.info, source.table, "clip"))
        ours = {frame.index: frame.image for frame in source.frames(0)}
    # CVAT's task of that video: every step-th frame as PyAV decodes them, from the start frame on, numbered from 0; in
    # this format a task's frame n has the number start + n * step.
    task = list(every(path, start, step))
    numbers = [
        int(m.get("frame", "")) for m in ElementTree.parse(tmp_path / "out.xml").iter("mask") if m.get("outside") == "0"
    ]
    for frame in numbers:
        n, rest = divmod(frame - start, step)
        assert rest == 0
        assert np.abs(task[n].astype(int) - ours[frame]).mean() < 3
    assert numbers == list(covered)
    assert [a["frame"] for a in imported.anchors if "mask" in a["labels"][0]] == list(covered)


def every(path: Path, start: int, step: int) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start and (number - start) % step == 0:
                yield frame.to_ndarray(format="rgb24")
