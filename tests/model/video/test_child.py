from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run

import numpy as np
import pytest
from PIL import Image

from model.video import FrameTable, VideoInfo, probe, reader
from model.video import child as child_module


def child(*arguments: str | Path) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "model.video.child", *map(str, arguments)]
    return run(command, capture_output=True, text=True, check=False, timeout=60)


def answer(result: CompletedProcess[str]) -> dict[str, dict[str, str]]:
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_probe_then_still(
    tmp_path: Path, bframes_mp4: Path, number: Callable[[np.ndarray], int], picture: Callable[..., np.ndarray]
) -> None:
    table = tmp_path / "table.npz"
    document = answer(child("probe", bframes_mp4, "--limits", "{}", "--table", table))
    info, expected = probe(bframes_mp4)
    assert VideoInfo.from_json(document["info"]) == info
    np.testing.assert_array_equal(FrameTable.load(table).pts, expected.pts)
    out = tmp_path / "still.jpg"
    assert answer(child("still", bframes_mp4, "--table", table, "--index", "17", "--out", out)) == {"ok": True}
    assert number(np.asarray(Image.open(out))) == 17
    assert sorted(path.name for path in tmp_path.iterdir()) == ["still.jpg", "table.npz"]
    error = answer(child("still", bframes_mp4, "--table", table, "--index", "40", "--out", tmp_path / "n.jpg"))
    assert error["error"]["slug"] == "frame-unreadable"
    assert "0 to 39" in error["error"]["detail"]


def test_refusals_are_answers(tmp_path: Path, bframes_mp4: Path) -> None:
    text = tmp_path / "v.mp4"
    text.write_text("ffconcat version 1.0\nfile other.ts\n")
    table = tmp_path / "t.npz"
    assert answer(child("probe", text, "--table", table))["error"]["slug"] == "not-a-video"
    limits = json.dumps({"max_frames": 10})
    refusal = answer(child("probe", bframes_mp4, "--limits", limits, "--table", table))["error"]
    assert refusal["slug"] == "too-many-frames"
    assert "10 frames" in refusal["detail"]
    assert not table.exists()
    assert answer(child("probe", tmp_path / "none.mp4", "--table", table))["error"]["slug"] == "not-a-video"


def test_too_little_memory_is_an_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reader, "probe", greedy)
    monkeypatch.setattr(child_module, "_lower_limits", lambda *_: None)
    assert child_module.main(["probe", "x.mp4", "--table", "t.npz"]) == 0
    assert json.loads(capsys.readouterr().out)["error"]["slug"] == "frame-too-large"


def test_limits_are_lowered() -> None:
    code = (
        "from model.video.child import _lower_limits\n"
        "_lower_limits(1 << 30, 1)\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    print('refused', flush=True)\n"
        "while True:\n    pass\n"
    )
    result = run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout == "refused\n"
    assert result.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


@pytest.mark.parametrize("arguments", [(), ("probe",), ("still", "x")])
def test_wrong_use_is_a_crash(arguments: tuple[str, ...]) -> None:
    assert child(*arguments).returncode != 0
