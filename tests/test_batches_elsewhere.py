"""Files, batches and feedback of several hosts: whichever is asked, who has them answers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from er.batches import Store
from er.config import Batches
from er.feedback.book import Book
from er.feedback.memory import Memory
from er.gateway.batches import Shelf
from er.gateway.beyond import Beyond
from er.gateway.feedback import Desk
from er.gateway.for_others import ForOthers
from er.gateway.listed import merged, passed_on
from er.hosts import Hosts
from er.job import Refusal
from er.journal import Audit
from er.questions import Question
from er.upstream.connection import Reply
from launched import until
from several import Host, Several, end_at_once, hosts
from test_batches import ENDED, body, numbered, request, sdk


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with hosts(tmp_path_factory.mktemp("pair"), (1, 1)) as both:
        for host in both:
            until(lambda host=host: len(known(host)) == 1, 60)
        yield both


def known(host: Host) -> list[str]:
    """The others that it can ask."""
    try:
        return list(json.loads((host.runtime / "hosts.json").read_text())["hosts"])
    except OSError:
        return []


def ended(client: openai.OpenAI, batch: str) -> Any:
    until(lambda: client.batches.retrieve(batch).status in ENDED, 60)
    return client.batches.retrieve(batch)


def test_what_one_host_took_the_other_works_with(pair: Several) -> None:
    """Uploaded here; made, looked at, fetched and deleted there. Both ways round."""
    for here, there in (pair, pair[::-1]):
        one, two = sdk(here), sdk(there)
        data = numbered(30)
        file = one.files.create(file=("in.jsonl", data), purpose="batch")
        assert two.files.retrieve(file.id).to_dict() == one.files.retrieve(file.id).to_dict()
        assert two.files.content(file.id).content == data
        batch = two.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        done = ended(two, batch.id)
        assert done.status == "completed" and done.request_counts.completed == 30
        assert one.batches.retrieve(batch.id).to_dict() == done.to_dict()
        output = str(done.output_file_id)
        lines = two.files.content(output).content
        assert lines == one.files.content(output).content
        assert {json.loads(line)["custom_id"] for line in lines.splitlines()} == {
            str(i) for i in range(30)
        }
        with pytest.raises(openai.BadRequestError, match="nothing left to cancel"):
            two.batches.cancel(batch.id)
        assert two.files.delete(file.id).deleted
        for client in (one, two):
            with pytest.raises(openai.NotFoundError, match="there is no file"):
                client.files.retrieve(file.id)


def test_a_large_file_comes_in_pieces(pair: Several) -> None:
    data = numbered(1) * 100_000
    assert len(data) > 2 * (4 << 20)
    file = sdk(pair[0]).files.create(file=("in.jsonl", data), purpose="batch")
    assert sdk(pair[1]).files.content(file.id).content == data
    sdk(pair[1]).files.delete(file.id)


def test_lists_have_what_all_hosts_have(pair: Several) -> None:
    one, two = map(sdk, pair)
    made = [
        (one, two)[i % 2].files.create(file=(f"{i}", numbered(1)), purpose="batch").id
        for i in range(5)
    ]
    newest = made[::-1]
    for client in (one, two):
        found = [f.id for f in client.files.list()]
        assert [name for name in found if name in made] == newest
        assert [f.id for f in client.files.list(limit=2).data] == newest[:2]
        page = client.files.list(limit=2, after=newest[1])
        assert [f.id for f in page.data] == newest[2:4] and page.has_more
    for name in made:
        two.files.delete(name)


def test_each_key_has_its_own(pair: Several) -> None:
    """Another key, and callers on the local socket, see nothing of it from there either."""
    file = sdk(pair[0]).files.create(file=("in", numbered(1)), purpose="batch")
    other = pair[0].create_key("other")
    until(lambda: pair[1].ask("GET", "/v1/models", key=other).status == 200, 60)
    with pytest.raises(openai.NotFoundError):
        sdk(pair[1], other).files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        sdk(pair[1], other).files.content(file.id)
    assert list(sdk(pair[1], other).files.list()) == []
    wish = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "1h"}
    reply = pair[1].ask("POST", "/v1/batches", wish, key=other)
    assert (reply.status, reply.code) == (404, "not_found")
    sdk(pair[0]).files.delete(file.id)


def test_cancelled_by_way_of_another_host(pair: Several) -> None:
    """And its file is not deleted while the batch reads it."""
    one, two = pair
    for host in pair:
        host.engines[0].fault("slow", ms=300)
    try:
        data = b"".join(request(str(i), {**body(i), "input": "slow " * 20}) for i in range(4000))
        file = sdk(one).files.create(file=("in", data), purpose="batch")
        batch = sdk(two).batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        until(lambda: sdk(two).batches.retrieve(batch.id).status == "in_progress", 60)
        with pytest.raises(openai.BadRequestError, match="still reads this file"):
            sdk(two).files.delete(file.id)
        assert sdk(two).batches.cancel(batch.id).status == "cancelling"
    finally:
        for host in pair:
            host.engines[0].fault("none")
    assert ended(sdk(two), batch.id).status == "cancelled"


def test_a_rate_is_counted_once(pair: Several) -> None:
    """By the host that is asked: an upload, what is refused, and each batch that is made."""
    one, two = pair
    file = sdk(one).files.create(file=("in", numbered(1)), purpose="batch")
    wish = {"endpoint": "/v1/embeddings", "completion_window": "1h"}
    key = one.create_key("bounded", rate_limit="12/hour")
    until(lambda: two.ask("GET", "/v1/models", key=key).status == 200, 60)
    other = sdk(one, key).files.create(file=("in", numbered(1)), purpose="batch")
    for _ in range(3):
        reply = two.ask("POST", "/v1/batches", {**wish, "input_file_id": file.id}, key=key)
        assert reply.status == 404, "another key's"
    made = [
        two.ask("POST", "/v1/batches", {**wish, "input_file_id": other.id}, key=key).status
        for _ in range(15)
    ]
    assert (made.count(200), made.count(429)) == (12 - 1 - 3, 7)


def test_feedback_is_taken_wherever_the_request_was_answered(pair: Several) -> None:
    """By the host that answered; a document that it did not have is refused by its words."""
    one, two = pair
    answered = one.embed(["a text"])
    name = answered.headers["x-request-id"]
    told = two.ask("POST", "/v1/feedback", {"request_id": name, "rating": "up"})
    assert told.status == 200, told
    assert (told.json["request_id"], told.json["replaced"]) == (name, False)
    again = two.ask("POST", "/v1/feedback", {"request_id": name, "rating": "down"})
    assert again.json["replaced"]
    wrong = two.ask("POST", "/v1/feedback", {"request_id": name, "document": 1})
    assert wrong.status == 400 and "ranked no documents" in wrong.json["error"]["message"]
    none = two.ask("POST", "/v1/feedback", {"request_id": "req-nobody", "rating": 1})
    assert (none.status, none.code) == (404, "request_not_found")
    assert '"ACTION":"feedback"' in two.text().replace(" ", "")


def test_a_host_that_is_away_may_have_it(pair: Several) -> None:
    """A content ends amid it; 503 that names it, not 404; a list says so; and it mends itself."""
    one, two = pair
    data = numbered(1) * 400_000
    file = sdk(two).files.create(file=("in", data), purpose="batch")
    link = one.connection(60)
    path = f"/v1/files/{file.id}/content"
    link.request("GET", path, headers={"authorization": f"Bearer {one.key}"})
    answer = link.getresponse()
    assert answer.length == len(data) and answer.read(100_000) == data[:100_000]
    end_at_once(two)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    link.close()
    assert one.ask("HEAD", path).status == 503
    for reply in (
        one.ask("GET", f"/v1/files/{file.id}"),
        one.ask("GET", f"/v1/files/{file.id}/content"),
        one.ask("DELETE", f"/v1/files/{file.id}"),
        one.ask(
            "POST",
            "/v1/batches",
            {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "1h"},
        ),
    ):
        assert (reply.status, reply.code) == (503, "host_away"), reply
        assert "gpu2" in reply.json["error"]["message"] and reply.headers["retry-after"] == "5"
    assert one.ask("GET", "/v1/files").json["hosts_missing"] == ["gpu2"]
    two.start()
    until(lambda: one.ask("GET", f"/v1/files/{file.id}").status == 200, 60)
    assert "hosts_missing" not in one.ask("GET", "/v1/files").json
    assert not [m for host in pair for m in host.mishaps()]


GONE = b'{"error":{"kind":"file_not_found","message":"there is no file x"}}'


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, GONE, (404, "file_not_found")),  # all say so
        (404, b"<html>no such page", (503, "host_away")),  # who says that is nobody who would know
        (302, GONE, (503, "host_away")),
        (500, b"", (503, "host_away")),
        (503, GONE.replace(b"file_not_found", b"storage_full"), (503, "storage_full")),
    ],
)
async def test_what_another_host_may_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    told: tuple[int, str],
) -> None:
    """Only who says that it does not have a thing is believed not to have it."""
    known = {"form": 1, "secret": ["s"], "hosts": {"gpu2": {"address": "h:1"}}}
    (tmp_path / "hosts.json").write_text(json.dumps(known))
    beyond = Beyond(Hosts(tmp_path / "hosts.json"))

    async def replied(*_: object) -> Reply:
        return Reply(status, "", body)

    monkeypatch.setattr(beyond, "_reply", replied)
    missing = Refusal(404, "file_not_found", "there is no file x")
    asked = Question(method="GET", kind="files", id="x", owner="o")
    with pytest.raises(Refusal) as refused:
        await beyond.who_has(asked, "file x", missing)
    assert (refused.value.status, refused.value.code) == told


QUESTIONS = [
    (b"no json", 400),
    (b"{}", 400),
    ({"owner": "../../etc"}, 404),
    ({"owner": "local"}, 404),
    ({"id": "../file-0"}, 404),
    ({"id": "", "method": "POST"}, 404),  # an upload
    ({"what": "content", "start": -1}, 404),
    ({"kind": "keys"}, 404),
    ({}, 404),
    ({"kind": "batches", "id": "", "method": "POST", "body": "bm8="}, 400),
]


@pytest.mark.parametrize(("said", "status"), QUESTIONS)
async def test_what_is_asked_wrongly(
    tmp_path: Path, said: bytes | dict[str, Any], status: int
) -> None:
    """Nothing outside a key's own folder is looked at, whoever asks."""
    store = Store(tmp_path / "batches", quota=1 << 20, keep_s=60.0)
    desk = Desk(Memory(tmp_path / "feedback", 0, []), Book(tmp_path / "feedback"), Audit())
    others = ForOthers(Shelf(store, Batches()), store, desk)
    asked = {"method": "GET", "kind": "files", "id": "file-" + "0" * 24, "owner": "abc"}
    text = said if isinstance(said, bytes) else json.dumps(asked | said).encode()
    found, body = await others.answer(text)
    assert (found, bool(json.loads(body)["error"]["message"])) == (status, True)


def test_pages_of_several_hosts() -> None:
    assert passed_on("api_key=secret&limit=3&after=x%26y&other=1") == "limit=3&after=x%26y"

    def page(*names: str, more: bool = False) -> dict[str, Any]:
        return {"data": [{"id": name} for name in names], "has_more": more}

    tree = merged([page("d", "b"), page("c", "b", "a")], "files", "limit=3", ["x"])
    assert [one["id"] for one in tree["data"]] == ["d", "c", "b"]
    assert tree["has_more"] and tree["hosts_missing"] == ["x"]
    tree = merged([page("a", "c"), page("b")], "batches", "order=asc", [])
    assert (tree["first_id"], tree["last_id"], tree["has_more"]) == ("a", "c", False)
    assert merged([page(), page()], "files", "", [])["first_id"] is None


def test_a_batch_goes_on_when_its_host_is_gone(tmp_path: Path) -> None:
    """With [batches] shared: a minute later, with what was done; its own has none of it then."""
    with hosts(tmp_path, (1, 1), batches={"shared": "64MiB"}) as pair:
        one, two = pair
        pair.known()
        for host in pair:
            host.engines[0].fault("slow", ms=400)
        batch, file = begin(one, 600)
        until(lambda: counts(one, batch).completed >= 40, 60)
        done = counts(one, batch).completed
        time.sleep(3)  # until that is in the shared state
        end_at_once(one)
        assert two.ask("GET", f"/v1/batches/{batch}").status == 503
        until(lambda: two.ask("GET", f"/v1/batches/{batch}").status == 200, 120)
        assert counts(two, batch).completed >= done
        for host in pair:
            host.engines[0].fresh()
        one.start()
        ended_ = ended(sdk(two), batch)
        assert ended_.status == "completed" and ended_.request_counts.completed == 600
        lines = sdk(one).files.content(str(ended_.output_file_id)).content.splitlines()
        assert sorted(int(json.loads(line)["custom_id"]) for line in lines) == list(range(600))
        assert sdk(one).files.content(file).content == sdk(two).files.content(file).content
        until(
            lambda: (
                not (one.state / "batches/open").exists()
                or not any((one.state / "batches/open").iterdir())
            ),
            30,
        )
        assert not [m for host in pair for m in host.mishaps()]


def begin(host: Host, lines: int) -> tuple[str, str]:
    client = sdk(host)
    file = client.files.create(file=("in.jsonl", numbered(lines)), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
    )
    return batch.id, file.id


def counts(host: Host, batch: str) -> Any:
    return sdk(host).batches.retrieve(batch).request_counts
