from __future__ import annotations

import time

import pytest
import redis

from app.records.exports import Exports

JOB = ("local", "j_1", 0, "coco")


@pytest.fixture
def exports(redis_client: redis.Redis) -> Exports:
    return Exports(redis_client, ttl_s=0.15, resend_after_s=0.15, max_attempts=2, forget_s=5)


def test_is_sent_once_and_built_by_one(exports: Exports) -> None:
    first = exports.request(*JOB)
    assert (first.state, first.send) == ("queued", True)
    assert not exports.request(*JOB).send
    lease = exports.claim(*JOB)
    assert lease is not None
    assert exports.claim(*JOB) is None
    assert exports.request(*JOB).state == "building"
    assert exports.done(lease)
    assert exports.claim(*JOB) is None


def test_a_lost_message_is_sent_again(exports: Exports) -> None:
    exports.request(*JOB)
    time.sleep(0.2)
    again = exports.request(*JOB)
    assert (again.state, again.send) == ("queued", True)


def test_a_dead_builder_is_replaced_and_fenced_out(exports: Exports) -> None:
    exports.request(*JOB)
    dead = exports.claim(*JOB)
    assert dead is not None
    time.sleep(0.2)
    assert exports.request(*JOB).send
    assert not exports.renew(dead)
    alive = exports.claim(*JOB)
    assert alive is not None
    assert not exports.done(dead)
    assert exports.renew(alive)


def test_an_export_that_kills_its_builders_fails(exports: Exports) -> None:
    for _ in range(2):
        assert exports.request(*JOB).send
        assert exports.claim(*JOB) is not None
        time.sleep(0.2)
    assert exports.request(*JOB).state == "failed"


def test_a_failure_is_told_and_later_forgotten(redis_client: redis.Redis) -> None:
    exports = Exports(redis_client, resend_after_s=0.05, forget_s=0.15)
    exports.request(*JOB)
    lease = exports.claim(*JOB)
    assert lease is not None
    exports.failed(lease, {"detail": "why"})
    found = exports.request(*JOB)
    assert (found.state, found.send, found.error) == ("failed", False, {"detail": "why"})
    time.sleep(0.25)
    assert exports.request(*JOB).send


def test_a_released_export_counts_no_attempt(exports: Exports) -> None:
    exports.request(*JOB)
    for _ in range(5):
        lease = exports.claim(*JOB)
        assert lease is not None
        assert exports.release(lease)
    assert exports.claim(*JOB) is not None


def test_forget_removes_a_job_s_and_no_other_s(exports: Exports, redis_client: redis.Redis) -> None:
    exports.request(*JOB)
    exports.request("local", "j_1", 1, "davis")
    exports.request("local", "j_2", 0, "coco")
    exports.forget("local", "j_1")
    assert list(redis_client.scan_iter("lp:export:*")) == ["lp:export:local:j_2:0:coco"]
