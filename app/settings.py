"""Every setting of the service, in one object read once from the environment.

A field `lease_ttl_s` is set by `LABELPROP_LEASE_TTL_S`; Redis is set by `REDIS_URL` (or `LABELPROP_REDIS_URL`). Nothing
else in the project reads the environment for its configuration.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from model.video import Limits

_PREFIX = "LABELPROP_"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class Settings(BaseSettings):
    """The service's settings, with the values it runs on when nothing is set.

    Attributes:
        home: the directory that holds everything this installation stores.
        redis_url: the Redis that keeps the records; None means that `labelprop serve` starts a private one.
        host: the address that the API listens on.
        port: its TCP port; 0 takes a free one.
        max_upload_bytes: the largest video that is accepted, in bytes.
        max_pixels: the largest frame, in pixels.
        max_frames: the most frames of one video.
        max_seconds: the longest video, in seconds.
        probe_timeout_s: how long the check of an upload may take before its process is killed.
        lease_ttl_s: how long a worker may be silent before its job is given to another.
        heartbeat_s: how often a worker says that it lives, and sweeps for jobs to rescue.
        resend_after_s: how long a queued job may go unclaimed before the reaper looks whether its message was lost.
        stall_timeout_s: how long a running job may finish no frame before its process is ended and it is tried again.
        max_attempts: how many attempts in a row may end without a new checkpoint before a job is given up.
        shutdown_grace_s: how long stopping processes may take to let go of their work before they are killed.
        chunk_frames: how many frame positions one file of results, and so one checkpoint, covers (pinned per job).
        device: `auto`, `cpu`, `cuda` or `cuda:N`: where the model runs.
        threads: how many threads the model uses on the CPU; 0 shares the cores between encoding and matching.
        kept_features_bytes: how much disk the features of frames may take that are kept for further runs over the same
            video, in bytes; 0 keeps none.
        kept_features_dir: where those lie; None puts them into `features` in `home`. Where several machines share a
            home, a disk of each machine's own is better.
        label_studio_url: where Label Studio is reached from here, to fetch the media of its tasks.
        label_studio_token: an access token of it, of either kind; it is sent to that address and to no other.
        label_studio_user: name for HTTP Basic authentication of the backend for Label Studio; None asks for none.
        label_studio_password: and the password.
        label_studio_media_hosts: hosts, separated by commas, that media may be fetched from although their addresses
            are not public, as `minio` or `minio:9000`; Label Studio's own is always one of them.
        label_studio_wait_s: how long a request for predictions waits for its job before it says how far that is.
        label_studio_max_sessions: how many jobs of interactive tracking may be at work at the same time.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, populate_by_name=True, extra="ignore")

    home: Annotated[Path, AfterValidator(_absolute)] = Field(default=Path("~/.labelprop"), validate_default=True)
    redis_url: str | None = Field(default=None, validation_alias=AliasChoices("LABELPROP_REDIS_URL", "REDIS_URL"))
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)

    max_upload_bytes: int = Field(default=8 << 30, gt=0)
    max_pixels: int = Field(default=4096 * 2304, gt=0)
    max_frames: int = Field(default=200_000, gt=0)
    max_seconds: float = Field(default=4 * 3600.0, gt=0)
    probe_timeout_s: float = Field(default=120.0, gt=0)

    lease_ttl_s: float = Field(default=15.0, gt=0)
    heartbeat_s: float = Field(default=3.0, gt=0)
    resend_after_s: float = Field(default=10.0, gt=0)
    stall_timeout_s: float = Field(default=600.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    shutdown_grace_s: float = Field(default=10.0, gt=0)

    chunk_frames: int = Field(default=16, ge=1)
    device: str = "auto"
    threads: int = Field(default=0, ge=0)
    kept_features_bytes: int = Field(default=4 << 30, ge=0)
    kept_features_dir: Annotated[Path, AfterValidator(_absolute)] | None = None

    label_studio_url: str | None = None
    label_studio_token: str | None = Field(default=None, repr=False)
    label_studio_user: str | None = None
    label_studio_password: str | None = Field(default=None, repr=False)
    label_studio_media_hosts: str = ""
    label_studio_wait_s: float = Field(default=10.0, ge=0, le=90)
    label_studio_max_sessions: int = Field(default=4, ge=1)

    @property
    def store_dir(self) -> Path:
        """Where the local store keeps videos, results and exports."""
        return self.home / "store"

    @property
    def features_dir(self) -> Path:
        """Where the features of frames are kept: a cache, of which any part may be deleted at any time."""
        return self.kept_features_dir or self.home / "features"

    @property
    def limits(self) -> Limits:
        """The caps on media, as the reader takes them."""
        from model.video import Limits

        return Limits(
            max_bytes=self.max_upload_bytes,
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_seconds=self.max_seconds,
        )

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, so that a child process reads the very same ones."""
        variables = {
            _PREFIX + name.upper(): str(value)
            for name, value in self.model_dump(exclude={"redis_url"}).items()
            if value is not None
        }
        if self.redis_url is not None:
            variables[_PREFIX + "REDIS_URL"] = self.redis_url
        return variables


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, read from the environment at the first call."""
    return Settings()
