"""One file: resumed where it was, never mixed of two versions, kept when its checksum is right."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from er.pull import AgainError, ChangedError, PullError, Remote, Watcher
from er.pull.place import Place
from er.pull.web import PAUSES_S, Web, host, insist

WRONG_MOST = 2  # a resumed file may be mixed, a whole one broken by what is between
NUMBER = re.compile(r"\d{1,19}")  # int() refuses very long ones in its own way
RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def fetch(
    file: Remote, web: Web, place: Place, watcher: Watcher, pause: Callable[[float], None]
) -> None:
    """Have it in the place, checked. Raises PullError, ChangedError, OSError."""
    if place.done(file):
        return
    for left in reversed(range(WRONG_MOST)):
        insist(lambda: _once(file, web, place, watcher), watcher.note, pause, PAUSES_S)
        found = place.check(file)
        if not found:
            return
        _anew(file, place, watcher)
        if left:
            watcher.note(f"{file.path} came with another checksum; fetching it anew")
    raise ChangedError(
        f"{file.path} has not the checksum that {host(file.url)} names: wanted "
        f"{file.sha256 or file.git}, got {found}"
    )


def _anew(file: Remote, place: Place, watcher: Watcher) -> None:
    watcher.moved(file.path, -place.have(file))
    place.drop(file)


def _once(file: Remote, web: Web, place: Place, watcher: Watcher) -> None:
    """What is missing of it, in one connection. Raises AgainError where some still is."""
    if place.have(file) > file.size:
        _anew(file, place, watcher)
    have = place.have(file)
    if have == file.size:
        if not have:
            place.begin(file, 0, "").close()
        return
    heads = {}
    if have:
        heads["range"] = f"bytes={have}-"
        if (tag := place.tag(file)) and not tag.startswith("W/"):
            heads["if-range"] = tag
    came = 0
    try:
        with web.answer(file.url, heads) as answer:
            start = _start(file, have, place.tag(file), answer)
            if start is None:
                _anew(file, place, watcher)
                raise AgainError(f"{file.path} can't be resumed at {host(file.url)}")
            if start < have:
                watcher.moved(file.path, start - have)
            with place.begin(file, start, answer.headers.get("etag", "")) as out:
                for (
                    piece
                ) in answer.iter_raw():  # in sizes of one's own it drops the last of a cut one
                    if start + came + len(piece) > file.size:
                        raise ChangedError(f"{file.path} is larger than the list says")
                    out.write(piece)
                    came += len(piece)
                    watcher.moved(file.path, len(piece))
        if start + came < file.size:
            raise AgainError(f"{host(file.url)} ended {file.path} too early")
    except AgainError as error:
        error.gain = came
        raise


def _start(file: Remote, have: int, tag: str, answer: httpx.Response) -> int | None:
    """From which byte on an answer has the file: 0 or `have`; None where it is of no use.

    Raises ChangedError where it is of a file of another size.
    """
    if answer.headers.get("content-encoding", "identity") != "identity":
        told = f"{host(file.url)} sends {file.path} compressed, which nobody asked for"
        raise PullError(f"{told}; is there a proxy that does so?")
    if answer.status_code == 200:
        length = answer.headers.get("content-length", "")
        if NUMBER.fullmatch(length) and int(length) != file.size:
            told = f"{file.path} has {length} bytes at {host(file.url)}, {file.size} in the list"
            raise ChangedError(told)
        return 0
    found = RANGE.fullmatch(answer.headers.get("content-range", ""))
    if answer.status_code != 206 or found is None or int(found[1]) != have:
        return None
    if found[3] not in ("*", str(file.size)):
        return None
    now = answer.headers.get("etag", "")
    return None if tag and now and now != tag else have
