"""Reading media in a process of its own, which its caller can kill: `python -m model.video.child`.

    probe PATH [--limits JSON] [--fps RATIO] --table OUT.npz
    still PATH --table TABLE.npz --index N --out OUT.jpg [--quality 90] [--limits JSON]

One line of JSON goes to standard output: `{"info": {...}}` after `probe`, `{"ok": true}` after `still`, or
`{"error": {"slug", "detail"}}` where the input cannot be used; the exit status is 0 in all of these. Any other status
is a crash or a resource limit. The process lowers its own limits before it touches the file; how long it may take is
its caller's to decide.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from model.errors import InputError, MediaError

DEFAULT_MEMORY_BYTES = 6 * 1024**3
DEFAULT_CPU_SECONDS = 600
_MAX_OUTPUT_BYTES = 1 * 1024**3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    _lower_limits(options.memory_bytes, options.cpu_seconds)
    try:
        answer = options.run(options)
    except InputError as error:
        answer = _error(error)
    except MemoryError:
        answer = _error(
            MediaError("Reading it takes more memory than allowed. Scale the video down.", slug="frame-too-large")
        )
    except FileNotFoundError as error:
        answer = _error(MediaError(str(error)))
    print(json.dumps(answer), flush=True)
    return 0


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    from model.video.reader import probe

    info, table = probe(options.path, limits=_limits(options.limits), fps=options.fps)
    temporary = options.table.with_name(options.table.name + ".part")
    table.save(temporary)
    os.replace(temporary, options.table)
    return {"info": info.to_json()}


def _still(options: argparse.Namespace) -> dict[str, Any]:
    from PIL import Image

    from model.video.reader import open_video
    from model.video.table import FrameTable

    with open_video(options.path, table=FrameTable.load(options.table), limits=_limits(options.limits)) as source:
        try:
            image = source.frame(options.index).image
        except IndexError:
            raise MediaError(
                f"There is no frame {options.index}. The video has frames 0 to {source.info.frame_count - 1}.",
                slug="frame-unreadable",
            ) from None
    temporary = options.out.with_name(options.out.name + ".part")
    Image.fromarray(image).save(temporary, format="JPEG", quality=options.quality)
    os.replace(temporary, options.out)
    return {"ok": True}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.video.child", description="Read media in a process of its own."
    )
    commands = parser.add_subparsers(required=True)
    probing = commands.add_parser("probe", help="check a video and write its frame table")
    probing.add_argument("--table", type=Path, required=True, help="where to write the frame table")
    probing.add_argument("--fps", type=Fraction, default=None, help="rate of a zip of images")
    probing.set_defaults(run=_probe)
    still = commands.add_parser("still", help="write one frame as a JPEG")
    still.add_argument("--table", type=Path, required=True, help="the frame table")
    still.add_argument("--index", type=int, required=True, help="which frame")
    still.add_argument("--out", type=Path, required=True, help="where to write the JPEG")
    still.add_argument("--quality", type=int, default=90)
    still.set_defaults(run=_still)
    for command in (probing, still):
        command.add_argument("path", type=Path)
        command.add_argument("--limits", default="{}", help="fields of model.video.Limits as a JSON object")
        command.add_argument("--memory-bytes", type=int, default=DEFAULT_MEMORY_BYTES)
        command.add_argument("--cpu-seconds", type=int, default=DEFAULT_CPU_SECONDS)
    return parser


def _limits(document: str) -> Any:
    from model.video.limits import Limits

    return Limits(**json.loads(document))


def _lower_limits(memory_bytes: int, cpu_seconds: int) -> None:
    for kind, value in (
        # macOS has this limit but refuses to set it.
        *([] if sys.platform == "darwin" else [(resource.RLIMIT_AS, memory_bytes)]),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, _MAX_OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _error(error: InputError) -> dict[str, Any]:
    return {"error": {"slug": error.slug, "detail": error.detail}}


if __name__ == "__main__":
    sys.exit(main())
