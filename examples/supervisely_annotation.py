"""The results of a job as a Supervisely video annotation: masks, boxes and points of every frame, object by object.

    python examples/supervisely_annotation.py JOB_ID --out ann            # writes ann/annotation.json and ann/meta.json
    pip install supervisely                                               # in an environment of its own, then:
    python examples/supervisely_annotation.py JOB_ID --out ann --upload VIDEO_ID    # SERVER_ADDRESS, API_TOKEN are set

It takes the `npz` export and needs httpx, numpy and Pillow. Supervisely counts frames from 0, as we do; a mask is a PNG
of its box, compressed once more, and the place of the box's first pixel.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image


def main() -> None:
    args = _arguments()
    with httpx.Client(base_url=args.url, timeout=60, trust_env=False) as http:
        job = http.get(f"/v1/jobs/{args.job}").raise_for_status().json()
        video = http.get(f"/v1/videos/{job['video_id']}").raise_for_status().json()
        arrays = np.load(io.BytesIO(export(http, args.job, "npz")))
    colours = {object_["name"]: object_["colour"] for object_ in job["objects"]}
    annotation, meta = annotation_of(arrays, video, colours)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "meta.json").write_text(json.dumps(meta))
    (args.out / "annotation.json").write_text(json.dumps(annotation))
    figures = sum(len(frame["figures"]) for frame in annotation["frames"])
    print(f"{len(annotation['frames'])} frames, {len(annotation['objects'])} objects, {figures} figures in {args.out}")
    if args.upload is not None:
        upload(args.upload, annotation, meta)


def export(http: httpx.Client, job_id: str, name: str) -> bytes:
    """An export of a job that has ended; waits while it is built."""
    while True:
        answer = http.get(f"/v1/jobs/{job_id}/exports/{name}").raise_for_status()
        if answer.status_code == 200:
            return answer.content
        time.sleep(float(answer.headers["Retry-After"]))


def annotation_of(arrays: Any, video: dict[str, Any], colours: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Supervisely's annotation of a video and the project's classes, as its JSON has them.

    A class has one shape there, so that each of our objects may become several of Supervisely's: the mask or box under
    its own name, and each keypoint as `<name> <keypoint>`.
    """
    names, points = arrays["object_names"].tolist(), arrays["keypoint_names"].tolist()
    boxes, keypoints = arrays["boxes"], arrays["keypoints"]
    found: dict[tuple[int, str, str], str] = {}
    frames = []
    for n, frame in enumerate(arrays["frames"].tolist()):
        masks = arrays.get(f"masks/{frame}")
        figures = []

        def add(
            m: int, title: str, shape: str, geometry: dict[str, Any], figures: list[dict[str, Any]] = figures
        ) -> None:
            key = found.setdefault((m, title, shape), uuid.uuid4().hex)
            figure = {"key": uuid.uuid4().hex, "objectKey": key, "geometryType": shape, "geometry": geometry}
            figures.append(figure)

        for m, name in enumerate(names):
            if masks is not None and masks[m].any():
                add(m, name, "bitmap", bitmap(masks[m], boxes[n, m]))
            elif not math.isnan(boxes[n, m, 0]):
                x, y, w, h = boxes[n, m].tolist()
                add(
                    m,
                    f"{name} box",
                    "rectangle",
                    exterior([[round(x), round(y)], [round(x + w) - 1, round(y + h) - 1]]),
                )
            for k, point in enumerate(points):
                x, y, visible, _ = keypoints[n, m, k].tolist()
                if visible == 1:
                    add(m, f"{name} {point}", "point", exterior([[int(x), int(y)]]))
        if figures:
            frames.append({"index": frame, "figures": figures})
    classes = {title: (shape, colours.get(names[m], "#808080")) for m, title, shape in found}
    annotation = {
        "size": {"height": video["height"], "width": video["width"]},
        "description": "",
        "key": uuid.uuid4().hex,
        "tags": [],
        "objects": [{"key": key, "classTitle": title, "tags": []} for (_, title, _), key in found.items()],
        "frames": frames,
        "framesCount": video["frame_count"],
    }
    meta = {
        "classes": [{"title": title, "shape": shape, "color": colour} for title, (shape, colour) in classes.items()],
        "tags": [],
        "projectType": "videos",
    }
    return annotation, meta


def bitmap(mask: np.ndarray, box: np.ndarray) -> dict[str, Any]:
    """A mask as Supervisely has it: the part within its box, as a PNG, deflated, in base64."""
    left, top, width, height = (int(value) for value in box)
    file = io.BytesIO()
    Image.fromarray(mask[top : top + height, left : left + width].astype(np.uint8) * 255).save(file, "PNG")
    return {"bitmap": {"data": base64.b64encode(zlib.compress(file.getvalue())).decode(), "origin": [left, top]}}


def exterior(points: list[list[int]]) -> dict[str, Any]:
    """Points of an outline; whole pixels, as Supervisely has them."""
    return {"points": {"exterior": points, "interior": []}}


def upload(video_id: int, annotation: dict[str, Any], meta: dict[str, Any]) -> None:
    """Adds the annotation to a video that is there. This part needs Supervisely's server."""
    import supervisely

    api = supervisely.Api.from_env()
    project_id = api.video.get_info_by_id(video_id).project_id
    classes = supervisely.ProjectMeta.from_json(meta)
    merged = supervisely.ProjectMeta.from_json(api.project.get_meta(project_id)).merge(classes)
    api.project.update_meta(project_id, merged.to_json())
    api.video.annotation.append(video_id, supervisely.VideoAnnotation.from_json(annotation, merged))
    print(f"added to video {video_id} of project {project_id}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", help="the id of a job that has ended")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the two files go")
    parser.add_argument("--upload", type=int, metavar="VIDEO_ID", help="a video on Supervisely's server")
    return parser.parse_args()


if __name__ == "__main__":
    main()
