from __future__ import annotations

import threading
import time

import redis

from app.records.label_studio import LabelStudioRecords, ProjectRecord, SessionRecord


def records(client: redis.Redis, owner: str = "local") -> LabelStudioRecords:
    return LabelStudioRecords(client, owner)


def session(number: int = 1) -> SessionRecord:
    return SessionRecord(id=f"s_{number}", task="7", job_id="j_1", start=0, end=9, forward=3)


def test_what_one_process_stores_another_reads(redis_client: redis.Redis) -> None:
    here, there = records(redis_client), records(redis_client)
    here.set_project("1", ProjectRecord(label_config="<View/>", options={"preset": "plain"}))
    here.set_media("source", "v_1")
    here.set_content("sha", "v_1")
    here.set_job("digest", "j_1")
    here.save_session(session())
    assert there.project("1") == ProjectRecord(label_config="<View/>", options={"preset": "plain"})
    assert (there.media("source"), there.content("sha"), there.job("digest")) == ({"video_id": "v_1"}, "v_1", "j_1")
    assert there.session("s_1") == session()
    assert there.sessions() == [session()]


def test_another_owner_sees_none_of_it(redis_client: redis.Redis) -> None:
    ours, theirs = records(redis_client), records(redis_client, "other")
    ours.set_project("1", ProjectRecord(label_config="x"))
    ours.set_media("source", "v_1")
    ours.set_content("sha", "v_1")
    ours.set_job("digest", "j_1")
    ours.save_session(session())
    assert theirs.begin_fetch("source", "a", 1000)
    assert ours.begin_fetch("source", "b", 1000)
    assert (theirs.project("1"), theirs.media("source"), theirs.content("sha")) == (None, None, None)
    assert (theirs.job("digest"), theirs.session("s_1"), theirs.sessions()) == (None, None, [])


def test_what_is_forgotten_is_gone(redis_client: redis.Redis) -> None:
    ours = records(redis_client)
    ours.set_media_problem("source", {"slug": "busy", "detail": "x"})
    assert ours.media("source") == {"problem": {"slug": "busy", "detail": "x"}}
    ours.forget_media("source")
    ours.set_job("digest", "j_1")
    ours.forget_job("digest")
    ours.save_session(session())
    ours.drop_session("s_1")
    assert (ours.media("source"), ours.job("digest"), ours.sessions()) == (None, None, [])


def test_sessions_that_faded_are_not_listed(redis_client: redis.Redis) -> None:
    ours = records(redis_client)
    ours.save_session(session(1))
    ours.save_session(session(2))
    for key in redis_client.scan_iter("lp:label-studio:session:local:s_1"):
        redis_client.delete(key)
    assert [found.id for found in ours.sessions()] == ["s_2"]
    assert ours.session("all") is None


def test_one_fetches_and_says_how_far(redis_client: redis.Redis) -> None:
    ours = records(redis_client)
    assert ours.begin_fetch("source", "a", 60_000)
    assert not ours.begin_fetch("source", "b", 60_000)
    assert ours.fetched_bytes("source") == 0
    assert ours.keep_fetch("source", "a", 512, 60_000)
    assert not ours.keep_fetch("source", "b", 1, 60_000)
    assert ours.fetched_bytes("source") == 512
    ours.end_fetch("source", "b")
    assert ours.fetched_bytes("source") == 512
    ours.end_fetch("source", "a")
    assert ours.fetched_bytes("source") is None


def test_one_at_a_time(redis_client: redis.Redis) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with records(redis_client).alone("x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_a_lock_that_ran_out_harms_nobody(redis_client: redis.Redis) -> None:
    with records(redis_client).alone("x", for_s=0.05):
        time.sleep(0.1)
