"""The names of all keys in Redis, in one place.

Members of the global sets are `owner/id`, so that the reaper serves every owner.
"""

from __future__ import annotations

PREFIX = "lp:"

#: counts up; gives every record its place in lists
SEQUENCE = PREFIX + "sequence"
#: counts up; gives every lease its fencing token
FENCE = PREFIX + "fence"
#: sorted set: running jobs by the moment their lease runs out, in milliseconds of Redis's clock
LEASES = PREFIX + "leases"
#: sorted set: queued jobs by the moment their message was last sent, in milliseconds of Redis's clock
QUEUED = PREFIX + "queued"
#: set: names of workers that gave a sign of life
WORKERS = PREFIX + "workers"
#: held by the worker whose turn it is to sweep
REAPER_LOCK = PREFIX + "reaper"


def video(owner: str, video_id: str) -> str:
    """String: the video's JSON document."""
    return f"{PREFIX}video:{owner}:{video_id}"


def videos(owner: str) -> str:
    """Sorted set: the owner's video ids by sequence number."""
    return f"{PREFIX}videos:{owner}"


def video_jobs(owner: str, video_id: str) -> str:
    """Set: ids of the queued and running jobs on a video."""
    return f"{PREFIX}video-jobs:{owner}:{video_id}"


def job(owner: str, job_id: str) -> str:
    """Hash: the job's document and its changing fields."""
    return f"{PREFIX}job:{owner}:{job_id}"


def jobs(owner: str) -> str:
    """Sorted set: the owner's job ids by sequence number; with `:{status}` appended, those of one status."""
    return f"{PREFIX}jobs:{owner}"


def export(owner: str, job_id: str, revision: int, name: str) -> str:
    """Hash: the building of one export."""
    return f"{PREFIX}export:{owner}:{job_id}:{revision}:{name}"


def worker(node: str) -> str:
    """String: what a worker says about itself."""
    return f"{PREFIX}worker:{node}"


def draining(node: str) -> str:
    """String: there while a worker is shutting down and wants its job let go."""
    return f"{PREFIX}draining:{node}"


def label_studio(owner: str, kind: str, name: str) -> str:
    """What the backend for Label Studio remembers: `project`, `media`, `fetching`, `content`, `job` or `session`."""
    return f"{PREFIX}label-studio:{kind}:{owner}:{name}"
