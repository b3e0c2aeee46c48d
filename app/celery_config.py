"""Celery's configuration, shared by the API (which only sends) and the workers.

Celery carries messages and keeps processes; it is trusted with nothing else. Records in Redis say what is to be done, a
fenced lease says who does it, and the reaper sends lost messages again. The reasons for the less obvious settings:

- A message is acknowledged late, and one whose child was killed is *not* rejected back (that loops for ever on a job
  that kills its child): the lease runs out or the worker reports the death, and the attempt counter decides.
- `visibility_timeout` hands out unacknowledged messages again while their task still runs, and no heartbeat extends it;
  it must be above the time limit, and stands in all three places where something reads it.
- `worker_proc_alive_timeout`: a child that starts for longer than the default 4 s, after one died, is killed for ever.
- `worker_lost_wait`: how long a killed child's task is waited for before it counts as lost; nothing comes late here.
- `worker_disable_prefetch`: a worker takes a message only when a process is free, so no job waits behind a long one.
- Results are the records; Celery's own result backend is off. Messages are JSON, nothing is ever unpickled.
"""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue

from app.connection import broker_url

GPU_QUEUE = "gpu"
CPU_QUEUE = "cpu"
PROPAGATE = "labelprop.propagate"
EXPORT = "labelprop.export"

_DAY_S = 24 * 3600
_VISIBILITY_TIMEOUT_S = 8 * _DAY_S
_TIME_LIMIT_S = 7 * _DAY_S


def celery_config(redis_url: str) -> dict[str, Any]:
    """The settings of a Celery application on that Redis (spelt as redis-py does)."""
    return {
        "broker_url": broker_url(redis_url),
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 30,
        },
        "result_backend": None,
        "result_backend_transport_options": {"visibility_timeout": _VISIBILITY_TIMEOUT_S},
        "visibility_timeout": _VISIBILITY_TIMEOUT_S,
        "task_time_limit": _TIME_LIMIT_S,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        "task_reject_on_worker_lost": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [
            Queue(name, Exchange(name, type="direct"), routing_key=name) for name in (GPU_QUEUE, CPU_QUEUE)
        ],
        "task_default_queue": CPU_QUEUE,
        "task_create_missing_queues": False,
        "task_routes": {PROPAGATE: {"queue": GPU_QUEUE}, EXPORT: {"queue": CPU_QUEUE}},
        "worker_pool": "prefork",
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_proc_alive_timeout": 120.0,
        "worker_lost_wait": 1.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "timezone": "UTC",
        "enable_utc": True,
    }
