from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from model.errors import MediaError
from model.training.finding import Item, Kind, find, stills


def _put(path: Path, data: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _found(*paths: Path) -> list[Item]:
    items, skipped = find(paths)
    assert skipped == []
    return items


def _summary(*paths: Path) -> list[tuple[str, str, str]]:
    return [(item.kind.value, item.name, item.source) for item in _found(*paths)]


def test_a_folder_of_any_depth(tmp_path: Path) -> None:
    for name in ("b.mp4", "deep/er/zoo__a.MKV", "photo.jpg", "notes.txt", "deep/photo_1.png", "clips.zip"):
        _put(tmp_path / "home" / name)
    assert _summary(tmp_path / "home") == [
        ("video", "b.mp4", "home"),
        ("zip", "clips.zip", "home"),
        ("video", "deep/er/zoo__a.MKV", "zoo"),
        ("still", "deep/photo_1.png", "deep"),
        ("still", "photo.jpg", "home"),
    ]


def test_numbered_images_are_one_clip_for_each_folder(tmp_path: Path) -> None:
    for name in (
        "dog/00000.jpg",
        "dog/00005.jpg",
        "bear/1.png",
        "bear/2.png",
        "mixed/1.jpg",
        "mixed/a.jpg",
        "one/7.jpg",
    ):
        _put(tmp_path / "480p" / name)
    assert _summary(tmp_path / "480p") == [
        ("frames", "bear", "480p"),
        ("frames", "dog", "480p"),
        ("still", "mixed/1.jpg", "mixed"),
        ("still", "mixed/a.jpg", "mixed"),
        ("still", "one/7.jpg", "one"),
    ]
    assert _summary(tmp_path / "480p" / "dog") == [("frames", "dog", "dog")]


def test_frames_can_be_taken_as_photographs(tmp_path: Path) -> None:
    _put(tmp_path / "dog" / "2.jpg", b"two")
    _put(tmp_path / "dog" / "1.jpg", b"one")
    (item,) = _found(tmp_path / "dog")
    assert [(still.kind, still.name, still.source, still.blobs[0].read()) for still in stills(item)] == [
        (Kind.STILL, "dog/1.jpg", "dog", b"one"),
        (Kind.STILL, "dog/2.jpg", "dog", b"two"),
    ]


def test_members_of_a_tar_are_read_by_their_place_in_it(tmp_path: Path) -> None:
    pack = _tar(tmp_path / "pack-1.tar", [("sub/b.mp4", b"bbb"), ("lsp__1.webp", b"photo"), ("README", b"words")])
    items = _found(pack)
    assert [(item.kind, item.name, item.source) for item in items] == [
        (Kind.STILL, "lsp__1.webp", "lsp"),
        (Kind.VIDEO, "sub/b.mp4", "sub"),
    ]
    assert [item.blobs[0].read() for item in items] == [b"photo", b"bbb"]
    assert [item.blobs[0].count() for item in items] == [5, 3]


def test_the_source_of_what_lies_at_the_top_is_the_folder_or_pack(tmp_path: Path) -> None:
    _put(tmp_path / "home" / "a.mp4")
    pack = _tar(tmp_path / "pack.tar", [("a.mp4", b"a"), ("__b.mp4", b"b")])
    assert [source for _, _, source in _summary(tmp_path / "home", pack)] == ["home", "pack", "pack"]
    assert _summary(tmp_path / "home" / "a.mp4") == [("video", "a.mp4", "home")]


def test_the_order_depends_on_names_alone(tmp_path: Path) -> None:
    members = [("c.mp4", b"c"), ("a.mp4", b"a"), ("b.jpg", b"b")]
    one = _tar(tmp_path / "one.tar", members)
    other = _tar(tmp_path / "other.tar", members[::-1])
    assert [i.name for i in _found(one)] == [i.name for i in _found(other)] == ["a.mp4", "b.jpg", "c.mp4"]


def test_a_tar_in_a_folder_is_opened_and_a_broken_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    _tar(tmp_path / "home" / "good.tar", [("a.mp4", b"a")])
    _put(tmp_path / "home" / "bad.tar", b"no tar" * 200)
    items, skipped = find([tmp_path / "home"])
    assert [(item.name, item.source) for item in items] == [("a.mp4", "good")]
    assert [entry.name for entry in skipped] == ["bad.tar"]
    assert "tar -cf" in skipped[0].reason


def test_of_two_members_of_one_name_the_later_counts(tmp_path: Path) -> None:
    (item,) = _found(_tar(tmp_path / "pack.tar", [("a.mp4", b"old"), ("a.mp4", b"new")]))
    assert item.blobs[0].read() == b"new"


def test_hostile_names_are_only_shown(tmp_path: Path) -> None:
    names = ["../../up.mp4", "/abs.mp4", "colour\x1b[31m.mp4"]
    pack = _tar(tmp_path / "pack.tar", [(name, name.encode()) for name in names])
    items = _found(pack)
    assert sorted(item.blobs[0].read().decode() for item in items) == sorted(names)
    assert all(item.blobs[0].path == pack for item in items)
    assert all(item.name.isprintable() and item.source.isprintable() for item in items)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.tar"]


def test_links_and_devices_in_a_tar_are_left_alone(tmp_path: Path) -> None:
    secret = _put(tmp_path / "secret.mp4", b"secret")
    path = tmp_path / "pack.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("soft.mp4", tarfile.SYMTYPE),
            ("hard.mp4", tarfile.LNKTYPE),
            ("pipe.mp4", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        info = tarfile.TarInfo("real.mp4")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"real"))
    assert [item.name for item in _found(path)] == ["real.mp4"]


def test_what_is_hidden_is_left_alone(tmp_path: Path) -> None:
    for name in ("._a.mp4", ".cache/b.mp4", "__MACOSX/c.mp4", "d.mp4"):
        _put(tmp_path / "home" / name)
    assert [item.name for item in _found(tmp_path / "home")] == ["d.mp4"]


def test_linked_files_are_followed_and_pipes_are_not_opened(tmp_path: Path) -> None:
    real = _put(tmp_path / "real.mp4")
    home = tmp_path / "home"
    home.mkdir()
    (home / "linked.mp4").symlink_to(real)
    (home / "loop").symlink_to(home)
    (home / "gone.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(home / "pipe.mp4")
    assert [item.name for item in _found(home)] == ["linked.mp4"]


def test_a_file_that_is_named_is_tried_whatever_it_is_called(tmp_path: Path) -> None:
    renamed = _tar(tmp_path / "pack", [("a.mp4", b"a")])
    assert _summary(renamed) == [("video", "a.mp4", "pack")]
    assert [kind for kind, _, _ in _summary(_put(tmp_path / "clip.data"))] == ["video"]


@pytest.mark.parametrize(
    ("path", "said"), [("gone", "There is no file"), ("empty", "holds nothing"), ("x.tar", "tar -cf")]
)
def test_a_path_of_no_use_is_an_error_that_says_what_to_do(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    _tar(tmp_path / "x.tar", [("a.mp4", b"a")], "w:gz")
    with pytest.raises(MediaError, match=said) as caught:
        find([tmp_path / path])
    assert path in caught.value.detail


def test_a_tar_that_ends_in_the_middle_of_a_member_is_refused(tmp_path: Path) -> None:
    pack = _tar(tmp_path / "pack.tar", [("a.mp4", bytes(5000))])
    pack.write_bytes(pack.read_bytes()[:3000])
    with pytest.raises(MediaError, match="tar -cf"):
        find([pack])


def test_no_path_at_all_is_an_error() -> None:
    with pytest.raises(MediaError, match="nothing to train on"):
        find([])


def test_paths_that_overlap_give_each_clip_once(tmp_path: Path) -> None:
    _put(tmp_path / "day" / "a.mp4")
    _put(tmp_path / "b.mp4")
    assert sorted(item.name for item in _found(tmp_path, tmp_path / "day", tmp_path / "b.mp4")) == [
        "b.mp4",
        "day/a.mp4",
    ]


def test_a_broken_tar_beside_good_paths_is_named(tmp_path: Path) -> None:
    broken = _tar(tmp_path / "broken.tar", [("a.mp4", b"x" * 2000)])
    broken.write_bytes(broken.read_bytes()[:1024])
    good = _put(tmp_path / "good.mp4")
    items, skipped = find([broken, good])
    assert [item.name for item in items] == ["good.mp4"]
    assert [entry.name for entry in skipped] == ["broken.tar"]
