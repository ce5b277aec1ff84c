"""The console's Config and Logs pages on the real machine: a change applied, a failed request."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import Installed
from machine import GATEWAY, eventually, post
from terminal import Console
from terminal import console as opened

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("uncached"),
]
MODEL = "Qwen3-Embedding-0.6B"
ALIAS = "from-the-console"


@pytest.fixture
def console(er: Installed) -> Iterator[Console]:
    """er-console as root, with everything in order."""
    with opened(er.machine) as found:
        found.expect(r"OK")
        yield found


def test_a_change_of_er_toml_is_applied_from_the_console(er: Installed, console: Console) -> None:
    """Edited, looked at by itself, asked, done; clients see it and no replica restarts."""
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    pids = {u: er.machine.show(u, "MainPID") for u in ("er-vllm@embedding", "er-vllm@reranker")}
    try:
        console.press("7")
        console.expect(r"nothing to do, systemd matches er\.toml", 60)
        named = f'name = "{MODEL}"'
        path.write_text(kept.replace(named, f'{named}\naliases = ["{ALIAS}"]', 1))
        console.expect(r"er apply would do \d+ steps", 60)
        console.press("d")
        console.expect(rf'\+ aliases = \["{ALIAS}"\]')
        console.press("A")
        console.expect(r"None of them stops or restarts anything")
        console.press("y")
        console.expect(r"er apply is done", 120)
        console.expect(r"nothing to do, systemd matches er\.toml", 60)
        body = {"model": ALIAS, "input": "x"}
        eventually(lambda: post("/v1/embeddings", body, er.key)[0] == 200, 20, console.screen)
        assert pids == {u: er.machine.show(u, "MainPID") for u in pids}
        assert ALIAS in (er.machine.root / "var/lib/er/applied.toml").read_text()
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=300)


def test_from_a_failed_request_to_its_lines(er: Installed, console: Console) -> None:
    """The audit, only what failed, enter: by the real journal's fields and namespaces."""
    name = "whole-console-1"
    headers = {"authorization": f"Bearer {er.key}", "x-request-id": name}
    headers["content-type"] = "application/json"
    body = b'{"model": "no-such-model", "input": "x"}'
    request = urllib.request.Request(GATEWAY + "/v1/embeddings", body, headers)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=30)
    console.press("5")
    console.expect("following")
    console.press("h")
    console.expect(r"404 model_not_found", 30)
    console.press("L")
    console.expect(r"only refused and failed requests")
    console.expect(r"404 model_not_found", 30)
    console.press("Enter")
    console.expect(rf"request {re.escape(name)}: \d+ line", 30)
    console.press("Enter")
    console.expect(r"REQUEST_ID", 30)
