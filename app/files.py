"""The names of stored files: which key of the store holds what of a video and of a job.

Every key carries the owner and the id, and for a job the revision.
"""

from __future__ import annotations

from app.storage import Store


class VideoFiles:
    """The keys of one video: `videos/{owner}/{id}/...`.

    Attributes:
        prefix: the folder of everything below.
        media: the uploaded bytes, as they came.
        table: the frame table (`FrameTable.save`).
    """

    def __init__(self, store: Store, owner: str, video_id: str) -> None:
        self.store = store
        self.prefix = f"videos/{owner}/{video_id}"
        self.media = f"{self.prefix}/upload"
        self.table = f"{self.prefix}/table.npz"


class JobFiles:
    """The keys of one revision of a job: `jobs/{owner}/{id}/{revision}/...`.

    Attributes:
        store: the store that holds them.
        job_prefix: the folder of all revisions, to delete a job.
        prefix: the folder of this revision; also what `ResultStore` takes.
        spec: the pinned job (`app.jobspec.JobSpec`).
        video_info: the video's facts (`VideoInfo.to_json`), kept so that exports outlive the video.
        table: a copy of the video's frame table, for the same reason.
        checkpoint: what the next chunk needs to go on.
        scratch: the folder for what only the running job needs; `clear_scratch` removes it.
        exports: the folder of built exports.
    """

    def __init__(self, store: Store, owner: str, job_id: str, revision: int = 0) -> None:
        self.store = store
        self.job_prefix = f"jobs/{owner}/{job_id}"
        self.prefix = f"{self.job_prefix}/{revision}"
        self.spec = f"{self.prefix}/spec.json"
        self.video_info = f"{self.prefix}/video.json"
        self.table = f"{self.prefix}/table.npz"
        self.checkpoint = f"{self.prefix}/checkpoint.npz"
        self.scratch = f"{self.prefix}/scratch"
        self.exports = f"{self.prefix}/exports"

    def export(self, filename: str) -> str:
        """The key of a built export with that file name (from `app.formats.variant_filename`)."""
        return f"{self.exports}/{filename}"

    def clear_scratch(self) -> None:
        """Removes the checkpoint and the scratch folder: a finished job needs neither."""
        self.store.delete_tree(self.checkpoint)
        self.store.delete_tree(self.scratch)
