from __future__ import annotations

from fractions import Fraction

import pytest

from app.formats.label_studio_video import Controls
from app.integrations.label_studio.config import video_config
from model.errors import InputError


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


VIDEO = '<Video name="v" value="$clip" frameRate="29.97"/>'


def test_the_tags_of_video_are_found_wherever_they_stand() -> None:
    found = video_config(view("<View><Style/>", VIDEO, "</View>", '<VideoRectangle name="b" toName="v" smart="true"/>'))
    assert (found.tag, found.controls) == ("VideoRectangle", Controls("b", "v", "clip"))
    assert found.rate({}) == Fraction("29.97")
    assert found.media({"id": 1, "data": {"clip": "/data/x.mp4"}}) == "/data/x.mp4"


def test_a_rectangle_goes_before_a_vector_and_tags_of_other_media_do_not_count() -> None:
    vector = '<VideoVectorLabels name="p" toName="v"/>'
    assert video_config(view(VIDEO, vector)).tag == "VideoVectorLabels"
    assert video_config(view(vector, '<VideoRectangle name="b" toName="v"/>', VIDEO)).tag == "VideoRectangle"
    with pytest.raises(InputError, match="no <VideoRectangle"):
        video_config(view(VIDEO, '<VideoRectangle name="b" toName="image"/>'))


@pytest.mark.parametrize(
    ("framerate", "data", "rate"),
    [
        ('framerate="50"', {}, Fraction(50)),
        ('framerate="0.04"', {}, Fraction(25)),
        ('framerate="$fps"', {"fps": 12.5}, Fraction("12.5")),
        ('framerate="$fps"', {"fps": "no"}, Fraction(24)),
        ('framerate="$fps"', {}, Fraction(24)),
        ("", {}, Fraction(24)),
    ],
)
def test_the_rate_is_the_pages(framerate: str, data: dict, rate: Fraction) -> None:
    config = video_config(view(f'<Video name="v" value="$v" {framerate}/><VideoRectangle name="b" toName="v"/>'))
    assert config.rate({"data": data}) == rate


@pytest.mark.parametrize("task", [{}, {"data": None}, {"data": {"clip": 3}}, {"data": {"clip": ""}}, {"data": []}])
def test_a_task_without_its_file_is_named(task: dict) -> None:
    config = video_config(view(VIDEO, '<VideoRectangle name="b" toName="v"/>'))
    with pytest.raises(InputError, match=r"Task 9 has no text in `data\.clip`"):
        config.media({"id": 9, **task})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ("<View/>", "no <Video> tag"),
        (view('<Image name="i"/>'), "no <Video> tag"),
        (view(VIDEO), "no <VideoRectangle"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "entities"),
        ('<!doctype x SYSTEM "file:///etc/passwd"><View/>', "entities"),
        ("<View>" + " " * 1_000_000 + "</View>", "too long"),
        ("\x00", "not XML"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        video_config(text)
    assert error.value.slug == "bad-label-config"
