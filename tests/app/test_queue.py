from __future__ import annotations

import base64
import json

import pytest
import redis

from app.celery_config import EXPORT, PROPAGATE, celery_config
from app.queue import Queue, waiting_jobs


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return Queue(redis_url)


def test_messages_go_by_name_to_their_queue(queue: Queue, redis_client: redis.Redis) -> None:
    queue.propagate("local", "j_1")
    queue.export("local", "j_2", "coco")
    for name, task, args in (("gpu", PROPAGATE, ["local", "j_1"]), ("cpu", EXPORT, ["local", "j_2", "coco"])):
        (text,) = redis_client.lrange(name, 0, -1)
        message = json.loads(text)
        assert message["headers"]["task"] == task
        assert json.loads(base64.b64decode(message["body"]))[0] == args


def test_waiting_jobs_are_those_whose_message_lies_in_the_queue(queue: Queue, redis_client: redis.Redis) -> None:
    assert waiting_jobs(redis_client) == set()
    queue.propagate("local", "j_1")
    queue.propagate("other", "j_1")
    queue.propagate("local", "j_1")
    queue.export("local", "j_9", "coco")
    assert waiting_jobs(redis_client) == {("local", "j_1"), ("other", "j_1")}


def test_the_measured_traps_are_avoided() -> None:
    config = celery_config("redis://x/0")
    visibility = config["visibility_timeout"]
    assert visibility > config["task_time_limit"]
    assert config["broker_transport_options"]["visibility_timeout"] == visibility
    assert config["result_backend_transport_options"]["visibility_timeout"] == visibility
    assert config["worker_proc_alive_timeout"] >= 120
    assert config["task_acks_late"]
    assert not config["task_reject_on_worker_lost"]
    assert config["accept_content"] == ["json"]
