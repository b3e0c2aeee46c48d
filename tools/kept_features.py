"""What kept features save: the time that decoding and encoding take in a first and in a second run, as a job does them.

    python tools/kept_features.py --frames 100

Renders a clip, goes through it twice as `labelprop propagate` does (decoding, encoding in threads, features kept in a
folder of their own), without matching anything, then once backwards, and compares: the clock's time, the processors'
time, and a digest of the sums over the bits of every frame's features. All runs stand in one process, so that load from
outside falls on each of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from app.settings import settings
from model.catalogue import find_model
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept import KeptFeatures
from model.lookahead import encode_ahead
from model.rendered import render_clip, write_clip
from model.video import VideoSource, open_video, read_backward, read_forward
from worker.models import WarmModels, prepare_process


def main() -> None:
    """Measures, and prints a table."""
    args = _parser().parse_args()
    model = find_model(args.model, settings().home)
    extractor = WarmModels(settings().home, args.device).get(model.name, model.sha256)
    with tempfile.TemporaryDirectory(prefix="labelprop-kept-") as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(render_clip(width=args.width, height=args.height, frame_count=args.frames), clip)
        with open_video(clip) as source:
            grid = Grid.fit(args.width, args.height, 480)
            extractor(next(source.frames(0, 1)).image, grid)  # loading is not what is timed
            prepare_process(args.threads)
            kept = KeptFeatures(
                Path(folder) / "features",
                1 << 40,
                video_sha256=source.content_sha256(),
                table=source.table,
                model_sha256=model.sha256,
            )
            runs = {name: _run(name, source, kept, extractor, grid) for name in ("first", "second", "back")}
        size = sum(path.stat().st_size for path in Path(folder).glob("features/*/*"))
    print(f"{args.width} x {args.height}, {args.frames} frames, {extractor.device}, {extractor.dtype}")
    print(f"{size / (1 << 20):.1f} MiB kept, {size / args.frames / (1 << 20):.2f} MiB a frame")
    first = runs["first"]
    for name, (wall, spent, digest) in runs.items():
        per = 1000 / args.frames
        shares = f"{100 * wall / first[0]:5.1f} % {100 * spent / first[1]:5.1f} %"
        print(f"{name:<7} {wall * per:7.2f} ms a frame, {spent * per:7.2f} ms of processors  {shares}  {digest[:12]}")


def _run(
    name: str, source: VideoSource, kept: KeptFeatures, extractor: FeatureExtractor, grid: Grid
) -> tuple[float, float, str]:
    """One way through all frames: seconds by the clock, of processors, and a digest of the features."""
    count = source.table.frame_count
    digests: dict[int, torch.Tensor] = {}
    start, spent = time.perf_counter(), time.process_time()
    looking = looking_spent = 0.0
    with kept.passage(extractor, grid, range(count)) as passage:
        read = read_backward if name == "back" else read_forward
        for frame, features in encode_ahead(extractor, grid, read(source, 0, count, later=passage.holds), kept=passage):
            before, before_spent = time.perf_counter(), time.thread_time()
            digests[frame.index] = features.view(torch.int16 if features.element_size() == 2 else torch.int32).sum()
            looking += time.perf_counter() - before
            looking_spent += time.thread_time() - before_spent
    wall = time.perf_counter() - start - looking
    values = [int(digests[index]) for index in range(count)]
    return wall, time.process_time() - spent - looking_spent, f"{hash(tuple(values)) & (1 << 64) - 1:016x}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--width", type=int, default=854, help="of the rendered clip (default: 854)")
    parser.add_argument("--height", type=int, default=480, help="of the rendered clip (default: 480)")
    parser.add_argument("--model", default="uvc-r18", help="name of a model (default: uvc-r18)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 chooses (default: 0)")
    return parser


if __name__ == "__main__":
    main()
