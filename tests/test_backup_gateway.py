"""`er backup` of a real gateway that runs, `er restore` on a fresh machine, a gateway there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from er import keys
from er.cli.__main__ import main
from launched import until
from running import Gateway, gateway
from test_batches import begin, ended, numbered, results, sdk

QUIET_S = 1.2  # two flushes of a busy worker


def said(running: Gateway, *words: str) -> tuple[int, str, str]:
    """`er` as an operator calls it: its exit status and what it says."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, running.environment()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def told(running: Gateway, *words: str) -> Any:
    """What a command says for programs."""
    code, out, err = said(running, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def figures(running: Gateway) -> tuple[Any, Any, Any]:
    """Usage, feedback and keys, without the moment at which they were asked for."""
    usage, feedback = told(running, "usage", "--by", "key,model"), told(running, "feedback")
    return usage["rows"], feedback["keys"], told(running, "keys", "list")["keys"]


def requests(running: Gateway, model: str = "embed") -> int:
    """How many the model has answered, by `er usage`."""
    return sum(row["requests"] for row in told(running, "usage", "--model", model)["rows"])


def test_a_running_gateway_is_taken_up_on_a_fresh_machine(tmp_path: Path) -> None:
    """Keys open the door there, usage, feedback, batches are as before; then the way back."""
    file = tmp_path / "er.backup"
    with gateway(tmp_path / "old", workers=2) as old:
        old.wait_for("answers right")
        now = datetime.now(UTC)
        web = keys.create(old.state / "er_api_keys.json", name="web", now=now, team="search")
        for n in range(3):
            reply = old.embed(f"text {n}", key=web.secret, headers={"x-request-id": f"one-{n}"})
            assert reply.status == 200, reply
        batch = ended(sdk(old, web.secret), begin(sdk(old, web.secret), numbered(5)))
        until(lambda: requests(old) == 8)
        given = {"request_id": "one-1", "rating": 0.5}
        assert old.ask("POST", "/v1/feedback", given, key=web.secret).status == 200
        time.sleep(QUIET_S)
        code, out, err = said(old, "backup", str(file))
        assert (code, err) == (0, "") and "keys, usage, feedback" in out and "0600" in out
        assert file.stat().st_mode & 0o777 == 0o600
        before = figures(old)

        assert old.embed("more", key=web.secret).status == 200  # it goes on, and is not in it
        until(lambda: requests(old) == 9)
        code, _, err = said(old, "restore", str(file), "--yes")
        assert code == 1 and "sudo systemctl stop er.target" in err
        assert requests(old) == 9 and not list(tmp_path.rglob("before-restore*"))
        assert old.stop() == 0

        new = Gateway(tmp_path / "new", old.engines)
        new.state.mkdir()
        new.config.unlink(missing_ok=True)
        code, out, err = said(new, "restore", str(file), "--yes")
        assert code == 0, err
        assert out.count("Nothing of that is in") == 2 and "er restore --undo" in out
        assert new.config.read_text() == old.config.read_text()
        assert figures(new) == before

        new.port = old.port  # as that er.toml has it
        with mock.patch.object(new, "write_config"):
            new.start()
        try:
            new.wait_for("answers right")
            assert new.secrets() == []  # there were keys, so none was made
            assert new.embed("there", key=web.secret).status == 200
            assert new.ask("POST", "/v1/embeddings", {}, key="sk-er-none").status == 401
            until(lambda: requests(new) == 9)
            (rated,) = [k for k in told(new, "feedback")["keys"] if k["feedbacks"]]
            assert (rated["ratings"], rated["mean_rating"]) == (1, 0.5)
            again = sdk(new, web.secret).batches.retrieve(batch.id)
            assert again.status == "completed"
            assert len(results(sdk(new, web.secret), again.output_file_id)) == 5
        finally:
            new.kill()
        assert new.mishaps() == []

        # Back to an empty machine, and forth.
        assert said(new, "restore", "--undo", "--yes")[0] == 0
        assert not new.config.exists() and not keys.read(new.state / "er_api_keys.json")
        assert said(new, "restore", "--undo", "--yes")[0] == 0
        assert requests(new) == 9


def test_backups_amid_traffic_are_each_of_one_moment(tmp_path: Path) -> None:
    """Every one can be read, none knows more than was sent or less than the one before it."""
    with gateway(tmp_path / "old", workers=2) as old:
        old.wait_for("answers right")
        over, sent = threading.Event(), []
        ranked = {"model": "bi", "query": "q", "documents": ["one", "two"]}

        def send() -> None:
            while not over.is_set():
                given = {"request_id": f"n-{len(sent)}", "document": 1}
                head = {"x-request-id": given["request_id"]}
                sent.append(old.ask("POST", "/v1/rerank", ranked, headers=head).status)
                sent.append(old.ask("POST", "/v1/feedback", given).status)

        sender = threading.Thread(target=send)
        sender.start()
        most = []
        for n in range(6):
            time.sleep(0.4)
            code, _, err = said(old, "backup", str(tmp_path / f"{n}.backup"))
            assert code == 0, err
            most.append(len(sent) // 2 + 1)  # with one that is under way
        over.set()
        sender.join()
        assert set(sent) == {200}
    found = []
    for n, bound in enumerate(most):
        new = Gateway(tmp_path / f"new{n}")
        new.state.mkdir()
        assert said(new, "restore", str(tmp_path / f"{n}.backup"), "--yes")[0] == 0
        clicks = sum(key["clicks"] for key in told(new, "feedback")["keys"])
        assert requests(new, "bi") <= bound and clicks <= bound
        assert all(
            line.endswith(b"}\n")
            for path in (new.state / "feedback").glob("*.jsonl")
            for line in path.read_bytes().splitlines(keepends=True)
        )
        found.append((requests(new, "bi"), clicks))
    for figures_ in zip(*found, strict=True):
        assert list(figures_) == sorted(figures_) and figures_[-1] > figures_[0], found
