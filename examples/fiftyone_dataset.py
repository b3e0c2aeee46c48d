"""The results of a job as a FiftyOne data set: a video sample with detections, masks and keypoints on every frame.

    pip install fiftyone httpx numpy          # in an environment of its own
    python examples/fiftyone_dataset.py JOB_ID clip.mp4 --url http://127.0.0.1:8000 --dataset labelprop
    python examples/fiftyone_dataset.py JOB_ID --dry-run          # needs no FiftyOne: prints what would be added

It takes the `npz` export. FiftyOne counts frames from 1 and wants boxes and points as fractions of the frame's size.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np


def main() -> None:
    args = _arguments()
    with httpx.Client(base_url=args.url, timeout=60, trust_env=False) as http:
        job = http.get(f"/v1/jobs/{args.job}").raise_for_status().json()
        video = http.get(f"/v1/videos/{job['video_id']}").raise_for_status().json()
        arrays = np.load(io.BytesIO(export(http, args.job, "npz")))
    frames = frames_of(arrays, video["width"], video["height"])
    if args.dry_run:
        for number, detections, keypoints in frames:
            print(
                json.dumps({"frame_number": number, "detections": detections, "keypoints": keypoints}, default=_short)
            )
        return
    add_to_dataset(args.dataset, args.video, frames)


def export(http: httpx.Client, job_id: str, name: str) -> bytes:
    """An export of a job that has ended; waits while it is built."""
    while True:
        answer = http.get(f"/v1/jobs/{job_id}/exports/{name}").raise_for_status()
        if answer.status_code == 200:
            return answer.content
        time.sleep(float(answer.headers["Retry-After"]))


def frames_of(arrays: Any, width: int, height: int) -> Iterator[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Frame by frame: its number from 1, and what FiftyOne's `Detection` and `Keypoint` take, as plain dictionaries."""
    names, ids = arrays["object_names"].tolist(), arrays["object_ids"].tolist()
    boxes, points, confidence = arrays["boxes"], arrays["keypoints"], arrays["confidence"]
    for n, frame in enumerate(arrays["frames"].tolist()):
        masks = arrays.get(f"masks/{frame}")
        detections, keypoints = [], []
        for m, name in enumerate(names):
            common = {"label": name, "index": ids[m]}
            if not math.isnan(boxes[n, m, 0]):
                x, y, w, h = boxes[n, m].tolist()
                detection = {**common, "confidence": round(float(confidence[n, m]), 3)}
                detection["bounding_box"] = [x / width, y / height, w / width, h / height]
                if masks is not None and masks[m].any():
                    # FiftyOne's masks cover the box alone; a mask's box lies on pixel borders.
                    detection["mask"] = masks[m, int(y) : int(y + h), int(x) : int(x + w)]
                detections.append(detection)
            if not np.isnan(points[n, m]).all():
                placed = [(x / width, y / height) for x, y, _, _ in points[n, m].tolist()]  # NaN: not on this frame
                keypoints.append({**common, "points": placed, "confidence": points[n, m, :, 3].tolist()})
        yield frame + 1, detections, keypoints


def add_to_dataset(name: str, video: str, frames: Iterator[tuple[int, list[dict], list[dict]]]) -> None:
    """Adds one sample. This part needs FiftyOne and its database."""
    import fiftyone

    dataset = (
        fiftyone.load_dataset(name) if name in fiftyone.list_datasets() else fiftyone.Dataset(name, persistent=True)
    )
    sample = fiftyone.Sample(filepath=video)
    for number, detections, keypoints in frames:
        sample.frames[number] = fiftyone.Frame(
            objects=fiftyone.Detections(detections=[fiftyone.Detection(**detection) for detection in detections]),
            points=fiftyone.Keypoints(keypoints=[fiftyone.Keypoint(**keypoint) for keypoint in keypoints]),
        )
    dataset.add_sample(sample)
    print(f"{len(sample.frames)} frames in the data set {name!r}; look at it with `fiftyone app launch {name}`")


def _short(value: Any) -> Any:
    return f"mask of {value.shape[1]} x {value.shape[0]} pixels" if isinstance(value, np.ndarray) else value.item()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", help="the id of a job that has ended")
    parser.add_argument("video", nargs="?", help="the video's file, which FiftyOne plays")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    parser.add_argument("--dataset", default="labelprop", help="the data set (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print instead of adding")
    args = parser.parse_args()
    if args.video is None and not args.dry_run:
        parser.error("name the video's file, or add --dry-run")
    return args


if __name__ == "__main__":
    main()
