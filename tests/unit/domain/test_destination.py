"""Addresses of storage destinations, and the layout below them."""

from __future__ import annotations

import pytest

from taskloom.domain.destination import (
    NOWHERE,
    SERVER,
    Place,
    lies_in_folder_of,
    normal_destination,
    parse_place,
    place_below,
    task_folder,
)
from taskloom.domain.errors import BadInput

TASK = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("uri", "place", "root"),
    [
        ("/shared/runs", Place("file", key="/shared/runs"), "file:///"),
        ("file:///shared/my%20runs", Place("file", key="/shared/my runs"), "file:///"),
        ("s3://bucket", Place("s3", "bucket"), "s3://bucket"),
        ("s3://bucket/a/b/", Place("s3", "bucket", "a/b"), "s3://bucket"),
        ("s3://host:9000/bucket/a", Place("s3", "bucket", "a", host="host:9000"), "s3://host:9000/bucket"),
        ("gs://bucket/a", Place("gs", "bucket", "a"), "gs://bucket"),
        (
            "azure://me.blob.core.windows.net/runs/a",
            Place("azure", "runs", "a", host="me.blob.core.windows.net", account="me"),
            "azure://me.blob.core.windows.net/runs",
        ),
        (
            "azure://127.0.0.1:10000/me/runs/a",
            Place("azure", "runs", "a", host="127.0.0.1:10000", account="me"),
            "azure://127.0.0.1:10000/me/runs",
        ),
    ],
)
def test_an_address_is_taken_apart(uri: str, place: Place, root: str):
    assert (parse_place(uri), parse_place(uri).root) == (place, root)
    assert parse_place(place.uri) == place


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "hdfs://a/b",
        "s3://",
        "s3:///key",
        "s3://host:9000",
        "s3://bucket/../x",
        "azure://me.blob.core.windows.net",
    ],
)
def test_what_is_no_destination_is_refused_with_what_was_expected(uri: str):
    with pytest.raises(BadInput, match=r"destination"):
        parse_place(uri)


def test_secrets_do_not_belong_into_an_address_and_are_not_repeated():
    with pytest.raises(BadInput) as told:
        parse_place("s3://key:hidden@host:9000/bucket")
    assert "hidden" not in str(told.value)


def test_what_users_say_becomes_one_text():
    said = [None, "", True, False, "s3://bucket/a/", "taskloom:"]
    assert [normal_destination(one) for one in said] == ["", "", SERVER, NOWHERE, "s3://bucket/a", SERVER]


def test_names_of_all_kinds_stay_inside_the_folder_of_their_task():
    for destination in ("/runs", "s3://bucket/runs"):
        home = task_folder(destination, "vision/cats & dögs", "../a/b", TASK)
        assert home.key.rpartition("/")[2].endswith(f".{TASK}")
        for kind, file in (("artifacts/..", "../x"), ("artifacts/.", "."), ("metrics/a//b", ""), ("models", "\0")):
            place = parse_place(place_below(home, kind, file))
            inside = place.key.removeprefix(f"{home.key}/")
            assert place.key.startswith(f"{home.key}/")
            assert not {"", ".", ".."} & set(inside.split("/"))
            assert lies_in_folder_of(place.uri, TASK)


def test_names_that_are_too_long_are_cut_and_still_told_apart():
    home = task_folder("s3://bucket", "project", "name", TASK)
    first, second = (place_below(home, "models", f"{'ü' * 300}{n}.safetensors") for n in range(2))
    assert first != second
    assert first.endswith(".safetensors") and len(first.rpartition("/")[2]) <= 128


def test_only_the_folder_of_that_very_task_is_its_own():
    assert lies_in_folder_of(f"s3://bucket/runs/name.{TASK}/models/a", TASK)
    for uri in (f"s3://bucket/runs/name.{TASK}", "s3://bucket/models/a", f"s3://bucket/x{TASK}/a", "https://x/y"):
        assert not lies_in_folder_of(uri, TASK)
    assert not lies_in_folder_of("s3://bucket/runs/name./a", "")
