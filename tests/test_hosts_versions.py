"""A rolling upgrade: hosts of this version and of a later one side by side, and no request lost.

The later one is this tree with another version and with fields in what it tells that this one does
not know, as a version that only adds to the forms has.
"""

from __future__ import annotations

import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import er
from running import Reply
from several import Host, hosts
from test_members_gateways import rows
from test_several_hosts import right, until

LATER = "9.9.9"


def later(folder: Path) -> Path:
    """The tree of the later version."""
    here = Path(er.__file__).parent
    shutil.copytree(here, folder / "er", ignore=shutil.ignore_patterns("__pycache__"))
    form = "    form: int = FORM\n"
    for name, old, new in (
        ("__init__.py", f'"{er.__version__}"', f'"{LATER}"'),
        ("members/announced.py", form, form + "    of_later: str = 'x'\n"),
        ("hosts.py", form, form + "    of_later: str = 'x'\n"),
        ("keys/entry.py", '"form": str(FORM)', '"of_later": b"x", "form": str(FORM)'),
    ):
        file = folder / "er" / name
        text = file.read_text()
        assert old in text, (name, old)
        file.write_text(text.replace(old, new))
    return folder


class Traffic:
    """Asks one host without a pause until it is told to stop; keeps what was not right."""

    def __init__(self, host: Host, count: int = 3) -> None:
        self._host, self._over = host, threading.Event()
        self.asked, self.wrong = 0, list[object]()
        self._threads = [threading.Thread(target=self._work, args=(i,)) for i in range(count)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert self.asked > 50 and self.wrong == [], (self.asked, self.wrong[:3])

    def _work(self, number: int) -> None:
        link = self._host.connection(60.0)
        while not self._over.is_set():
            text = f"{number} {self.asked}"
            self.asked += 1
            reply: Reply | Exception
            try:
                reply = self._host.embed([text], connection=link)
                right(reply, [text])
            except Exception as error:
                self.wrong.append(error)
                link.close()
                link = self._host.connection(60.0)
        link.close()


def upgraded(host: Host, tree: Path, other: Host, monkeypatch: Any) -> None:
    """Drain it, stop it in order, start it as the later version, and have it used again."""
    assert host.admin("POST", f"/hosts/{host.name}/drain") == 200
    host.stop(signal.SIGTERM)
    known = host.environment() | {"PYTHONPATH": str(tree)}
    monkeypatch.setattr(host, "environment", lambda: known)
    host.start()
    assert other.admin("POST", f"/hosts/{host.name}/undrain") == 200
    host.until_up("e0", f"e0@{other.name}")
    other.until_up(f"e0@{host.name}")


def test_one_after_the_other(tmp_path: Path, monkeypatch: Any) -> None:
    tree = later(tmp_path / "later")
    (tmp_path / "hosts").mkdir()
    with hosts(tmp_path / "hosts", (1, 1)) as found:
        one, two = found
        with Traffic(one):
            upgraded(two, tree, one, monkeypatch)
            # Both versions: each uses the other's replica, keys and drains hold on both.
            until(lambda: {r["version"] for r in rows(one).values()} == {er.__version__, LATER})
            for host, other in ((one, two), (two, one)):
                key = host.create_key(f"of {host.name}")
                until(lambda o=other, k=key: o.ask("GET", "/v1/models", key=k).status == 200)  # type: ignore[misc]
            two.engines[0].kill()
            right(two.embed(["by the older one"]), ["by the older one"])
            two.engines[0].start()
            two.until_up("e0")
            one.until_up("e0@gpu2")
        one.engines[0].kill()
        right(one.embed(["by the later one"]), ["by the later one"])
        one.engines[0].start()
        one.until_up("e0")
        with Traffic(two):
            upgraded(one, tree, two, monkeypatch)
        assert {r["version"] for r in rows(two).values()} == {LATER}
        assert one.mishaps() == two.mishaps() == []
