"""POST /v1/feedback through a real gateway of two workers: joined, refused, kept, read again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from er import feedback, keys
from er.admin.satisfaction import Satisfaction
from er.cli.__main__ import main
from er.config import load
from er.feedback.book import Book
from launched import until
from running import Gateway, Reply, gateway

DOCUMENTS = ["one", "two words", "three words here", "four"]
METRICS = "/metrics"
QUIET_S = 1.2  # usage, of which rates are, is counted twice a second


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all that leave it running."""
    with gateway(tmp_path_factory.mktemp("er"), workers=2) as found:
        yield found
        assert not found.mishaps()


class Unix(HTTPConnection):
    """HTTP over the admin's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("er", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


def admin(running: Gateway, path: str) -> tuple[int, Any]:
    """What the admin API answers."""
    link = Unix(running.runtime / "admin.sock")
    link.request("GET", path)
    answer = link.getresponse()
    with contextlib.closing(link):
        return answer.status, json.loads(answer.read())


def key(running: Gateway, name: str, **more: Any) -> tuple[str, str]:
    """A new key: its id and its secret."""
    path = running.state / "er_api_keys.json"
    made = keys.create(path, name=name, now=datetime.now(UTC), **more)
    return made.record.id, made.shown()["secret"]


def ranked(running: Gateway, secret: str, **more: Any) -> tuple[str, list[int]]:
    """A rerank's request id, and the order it answered."""
    headers = more.pop("headers", None)
    body = {"model": "bi", "query": "two", "documents": DOCUMENTS, **more}
    reply = running.ask("POST", "/v1/rerank", body, key=secret, headers=headers)
    assert reply.status == 200, reply
    order = [result["index"] for result in reply.json["results"]]
    return reply.headers["x-request-id"], order


def say(running: Gateway, secret: str, request: str, **more: Any) -> Reply:
    """Feedback, on a connection of its own: any worker gets it."""
    return running.ask("POST", "/v1/feedback", {"request_id": request, **more}, key=secret)


def er_feedback(running: Gateway, *words: str) -> tuple[int, str, str]:
    """`er feedback` as an operator calls it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, running.environment()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(["feedback", *words])
    return code, out.getvalue(), err.getvalue()


def test_clicks_are_joined_to_the_order_of_the_answer(running: Gateway) -> None:
    """Right after the answer and from any worker; each document gets the rank it was shown at."""
    _, secret = key(running, "ranks")
    for place in range(len(DOCUMENTS)):
        request, order = ranked(running, secret)
        reply = say(running, secret, request, document=order[place], comment="that one")
        assert reply.status == 200, reply
        assert reply.json == {
            "object": "feedback",
            "request_id": request,
            "model": "bi",
            "document": order[place],
            "rank": place + 1,
            "rating": None,
            "replaced": False,
        }
    status, found = admin(running, "/feedback?since=1h")
    assert status == 200
    mine = next(row for row in found["keys"] if row["name"] == "ranks")
    assert (mine["clicks"], mine["feedbacks"]) == (4, 4)
    assert mine["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-4)
    assert found["recent"][0]["kind"] == "click" and found["recent"][0]["comment"] == "that one"


def test_a_rating_of_an_embedding_and_words_for_it(running: Gateway) -> None:
    """Plain requests are noted twice a second; feedback that comes sooner waits for it."""
    _, secret = key(running, "rates")
    requests = [running.embed("hello", key=secret).headers["x-request-id"] for _ in range(4)]
    ratings = (("up", 1.0), ("down", 0.0), (0.25, 0.25), (1, 1.0))
    for request, (rating, meant) in zip(requests, ratings, strict=True):
        reply = say(running, secret, request, rating=rating)
        assert (reply.status, reply.json["rating"], reply.json["model"]) == (200, meant, "embed")
        assert reply.json["rank"] is None


def test_repeated_feedback_replaces(running: Gateway) -> None:
    """Whichever worker takes it, the last counts, once; up to twenty times."""
    key_id, secret = key(running, "again")
    request, order = ranked(running, secret)
    for i in range(20):
        reply = say(running, secret, request, rating=i / 20, document=order[1])
        assert (reply.status, reply.json["replaced"]) == (200, i > 0)
    reply = say(running, secret, request, rating=0.0)
    assert (reply.status, reply.code) == (429, "feedback_limit_exceeded")
    assert "20 times" in reply.message
    code, out, _ = er_feedback(running, "--json", "--key", "again")
    (mine,) = json.loads(out)["keys"]
    assert code == 0 and mine["key"] == key_id
    assert (mine["feedbacks"], mine["clicks"], mine["mean_rating"]) == (1, 1, 0.95)
    text = running.ask("GET", METRICS).body.decode()
    assert 'er_feedback_total{kind="click",model="bi"}' in text


def test_many_at_once_are_all_kept(running: Gateway) -> None:
    _, secret = key(running, "crowd")
    asked = [ranked(running, secret) for _ in range(24)]
    said: list[int] = []

    def send(request: str, order: list[int]) -> None:
        said.append(say(running, secret, request, document=order[0]).status)

    senders = [threading.Thread(target=send, args=one) for one in asked]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert said == [200] * 24
    _, out, _ = er_feedback(running, "--json", "--key", "crowd")
    assert json.loads(out)["keys"][0]["clicks"] == 24


def test_others_and_unknown_requests_look_the_same(running: Gateway) -> None:
    """Nothing tells a stranger whether a request was; nor does a key that names it first."""
    _, mine = key(running, "mine")
    _, stranger = key(running, "stranger")
    request, order = ranked(running, mine)
    theirs = say(running, stranger, request, document=order[0])
    unknown = say(running, stranger, "req-" + "0" * 24, document=0)
    assert theirs.status == unknown.status == 404
    assert theirs.code == unknown.code == "request_not_found"
    assert "are remembered" in theirs.message
    assert theirs.message.replace(request, "ID") == unknown.message.replace("req-" + "0" * 24, "ID")
    # The stranger's own request of the same id is joined to the stranger's.
    same, _ = ranked(running, stranger, headers={"x-request-id": request})
    assert same == request
    assert say(running, stranger, request, rating=1).status == 200
    found = say(running, mine, request, document=order[0]).json
    assert (found["rank"], found["replaced"]) == (1, False)


WRONG = {
    "nothing": ({}, "request_id is missing"),
    "no id": ({"request_id": "a b"}, "must be the x-request-id"),
    "half a letter as id": ({"request_id": "\ud800"}, "surrogate"),
    "neither": ({"request_id": "r", "comment": "hm"}, "send rating, document, or both"),
    "stars": ({"request_id": "r", "rating": 4}, "Of five stars send (n - 1) / 4"),
    "below": ({"request_id": "r", "rating": -0.1}, "a number from 0 (bad) to 1 (good)"),
    "a word": ({"request_id": "r", "rating": "great"}, '"up" or "down"'),
    "yes": ({"request_id": "r", "rating": True}, "rating is true or false"),
    "text": ({"request_id": "r", "document": "3"}, "document is a text"),
    "long": ({"request_id": "r", "rating": 1, "comment": "x" * 2001}, "has 2001 characters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_say_what_to_send(running: Gateway, name: str) -> None:
    body, told = WRONG[name]
    reply = running.ask("POST", "/v1/feedback", json.dumps(body).encode())
    assert reply.status == 400 and told in reply.message, reply


def test_documents_that_the_answer_did_not_have(running: Gateway) -> None:
    _, secret = key(running, "beyond")
    request, order = ranked(running, secret, top_n=2)
    for document in (4, -1, 1 << 40):
        reply = say(running, secret, request, document=document)
        assert reply.status == 400 and "4 documents" in reply.message, reply
    reply = say(running, secret, request, document=({*range(4)} - {*order}).pop())
    assert reply.status == 400 and "not among the 2 of 4" in reply.message
    embedded = running.embed("hello", key=secret).headers["x-request-id"]
    reply = say(running, secret, embedded, document=0)
    assert reply.status == 400 and "ranked no documents" in reply.message
    assert say(running, secret, request, document=order[1]).json["rank"] == 2


def test_refusals_before_that(running: Gateway) -> None:
    """No key, no such scope, too large, another method; failed requests take none."""
    body = {"request_id": "req-1", "rating": 1}
    assert running.ask("POST", "/v1/feedback", body, key=None).status == 401
    _, metrics = key(running, "scraper", scopes=["metrics"])
    reply = running.ask("POST", "/v1/feedback", body, key=metrics)
    assert (reply.status, reply.code) == (403, "scope_not_permitted")
    reply = running.ask("POST", "/v1/feedback", {**body, "comment": "x" * 70_000})
    assert reply.status == 413 and "64 KiB" in reply.message
    reply = running.ask("GET", "/v1/feedback")
    assert reply.status == 405 and reply.headers["allow"] == "POST"
    reply = running.ask("OPTIONS", "/feedback/")
    assert reply.headers["allow"] == "POST, OPTIONS"
    failed = running.ask("POST", "/v1/embeddings", {"model": "embed", "input": []})
    assert say(running, running.key, failed.headers["x-request-id"], rating=0).status == 404


def test_comments_are_in_no_log_and_no_metric(running: Gateway) -> None:
    """The audit says who spoke of which request, and nothing of what was said."""
    key_id, secret = key(running, "private")
    request, order = ranked(running, secret)
    secretly = "zebra-comment"
    reply = say(running, secret, request, document=order[0], rating=0, comment=secretly)
    until(lambda: any(one.get("TARGET") == request for one in running.audit()))
    (record,) = [one for one in running.audit() if one.get("TARGET") == request]
    assert (record["ACTION"], record["KEY_ID"], record["MODEL"]) == ("feedback", key_id, "bi")
    assert record["REQUEST_ID"] == reply.headers["x-request-id"]
    assert secretly not in running.text()
    assert secretly not in running.ask("GET", METRICS).body.decode()


def test_er_feedback_says_it_in_words_and_lines(running: Gateway) -> None:
    _, secret = key(running, "shown")
    request, order = ranked(running, secret)
    say(running, secret, request, document=order[2], comment="\x1b[31mred\n2nd, line")
    code, out, _ = er_feedback(running, "--key", "shown", "--model", "bi", "--since", "1h")
    assert code == 0 and "click, rank 3" in out and "0.333" in out
    assert "\x1b" not in out and "red 2nd, line" in out
    code, out, _ = er_feedback(running, "--key", "shown", "--csv")
    head, line = out.split("\n", 1)
    assert head.startswith("at,answered,id,key,model,documents,document,rank,rating,comment,name")
    assert request in line and line.rstrip().endswith("shown")
    assert er_feedback(running, "--since", "someday")[0] == 64
    assert "no feedback" in er_feedback(running, "--key", "nobody")[1]
    assert admin(running, "/feedback?since=someday")[0] == 400


def test_a_full_disk_is_told_and_keeps_nothing(running: Gateway) -> None:
    """Here a folder that can't be written stands for it: 503, and again as soon as it can be."""
    _, secret = key(running, "disk")
    request, order = ranked(running, secret)
    where = feedback.folder(running.state)
    (where / "lock").rename(where / "lock.away")
    (where / "lock").mkdir()
    reply = say(running, secret, request, document=order[0])
    assert (reply.status, reply.code) == (503, "storage_full"), reply
    assert "can't store feedback" in reply.message and reply.headers["retry-after"] == "60"
    (where / "lock").rmdir()
    reply = say(running, secret, request, document=order[0])
    assert (reply.status, reply.json["replaced"]) == (200, False)
    running.wait_for("feedback can't be stored")


def test_rates_of_the_last_day_are_metrics(running: Gateway) -> None:
    """As the admin process shows them; without news it reads nothing."""
    _, secret = key(running, "gauges")
    request, order = ranked(running, secret)
    say(running, secret, request, document=order[0], rating="up")
    from er import metrics

    with mock.patch.dict(os.environ, running.environment()):
        one = Satisfaction(load(running.config))
        one.tick(1000.0, time.time())
        assert 0 < metrics.feedback_mrr.labels("bi")._value.get() <= 1
        assert metrics.feedback_good.labels("bi")._value.get() >= 0
        with mock.patch.object(Book, "read", side_effect=AssertionError):
            one.tick(1001.0, time.time())
        one.tick(9000.0, time.time() + 2 * 86400)
        value = metrics.feedback_mrr.labels("bi")._value.get()
        assert value != value  # the last day had none


def test_known_after_restarts_reloads_and_kills(tmp_path: Path) -> None:
    """Over a kill -9 of a worker and of all, and a stop: requests are known, feedback is there."""
    with gateway(tmp_path, workers=2) as running:
        _, secret = key(running, "lasting")
        first, order = ranked(running, secret)
        second, _ = ranked(running, secret)
        assert say(running, secret, first, document=order[0]).status == 200
        time.sleep(QUIET_S)
        for pid in running.children("er.worker"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(running.children("er.worker")) == 2)
        until(lambda: running.ask("GET", "/livez", key=None).status == 200)
        assert say(running, secret, first, document=order[1]).json["replaced"] is True
        assert running.process is not None
        old = set(running.children("er.worker"))
        running.process.send_signal(signal.SIGHUP)
        until(lambda: old.isdisjoint(running.children("er.worker")))
        third, _ = ranked(running, secret)
        assert say(running, secret, third, rating=1).json["model"] == "bi"
        assert say(running, secret, first, document=order[1]).json["replaced"] is True
        time.sleep(QUIET_S)
        running.kill()
        running.start()
        assert say(running, secret, second, document=order[3]).json["rank"] == 4
        assert running.stop() == 0
        code, out, _ = er_feedback(running, "--json")
        found = json.loads(out)
        assert code == 0 and found["total"] == 3
        (row,) = [row for row in found["models"] if row["feedbacks"]]
        assert (row["clicks"], row["requests"]) == (2, 3)
        assert row["mrr"] == pytest.approx((1 / 2 + 1 / 4) / 2, abs=1e-4)
