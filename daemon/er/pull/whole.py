"""A pull from its beginning to its end: list, compare, room, files, folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from er.pull import ChangedError, Listing, PullError, Remote, Watcher
from er.pull.fetch import fetch
from er.pull.hubs import Hub, listing
from er.pull.manifest import Manifest, differing, standing, verify
from er.pull.place import MARGIN, Place
from er.pull.plan import Name, needed, total
from er.pull.web import ASKED_S, Web, insist
from er.quantities import bytes_text

LISTS = 2  # a file that changed on the hub is in the next one


class Pulled(msgspec.Struct, frozen=True):
    """What came of it; `fresh`: it was not there before."""

    manifest: Manifest
    fresh: bool


class Begun(msgspec.Struct, frozen=True):
    """What is known before the first byte of a file comes. Sizes in bytes."""

    listing: Listing
    files: tuple[Remote, ...]
    size: int
    there: int
    free: int


def pull(
    name: Name,
    hub: Hub,
    web: Web,
    target: Path,
    watcher: Watcher,
    begun: Callable[[Begun], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Pulled:
    """Have the model at `target`. Raises PullError, OSError; then the target is as it was."""
    for left in reversed(range(LISTS)):
        listed = insist(partial(listing, hub, web, name), watcher.note, pause, ASKED_S)
        files = needed(listed)
        if (found := _already(target, listed, files)) is not None:
            return Pulled(found, fresh=False)
        place = Place(target)
        try:
            with place.locked():
                if (found := _already(target, listed, files)) is not None:
                    return Pulled(found, fresh=False)
                _all(place, listed, files, web, watcher, begun, pause)
                return Pulled(place.publish(listed, now()), fresh=True)
        except ChangedError as error:
            if not left:
                told = "the hub is being changed, or what is between changes it"
                raise PullError(f"{error}; {told}: try later, or another hub (--from)") from None
            watcher.note(f"{error}; reading the list anew")
    raise AssertionError


def _all(
    place: Place,
    listed: Listing,
    files: Sequence[Remote],
    web: Web,
    watcher: Watcher,
    begun: Callable[[Begun], None],
    pause: Callable[[float], None],
) -> None:
    place.plan(files, listed.home)
    there = sum(map(place.there, files))
    size, free = total(files), place.free()
    if size - there + MARGIN > free:
        raise PullError(
            f"{bytes_text(size - there)} are still to come and {bytes_text(MARGIN)} must stay "
            f"free, but the disk of {place.target.parent} has {bytes_text(free)}: make room "
            "there, or take a folder on another disk: --to DIR"
        )
    begun(Begun(listed, tuple(files), size, there, free))
    for file in files:
        fetch(file, web, place, watcher, pause)


def _already(target: Path, listed: Listing, files: Sequence[Remote]) -> Manifest | None:
    """The manifest, where all of it is there; None where nothing is. Raises PullError, OSError."""
    manifest = standing(target)
    if manifest is None:
        return None
    if other := differing(manifest, files):
        raise PullError(
            f"{target} has {_called(manifest)}, other files than {_called(listed)}: "
            f"{', '.join(other[:3])}{', …' if other[3:] else ''}. Other weights under an old name "
            "change every vector, so nothing is written over it: take another folder (--to DIR) "
            "and name it as another model in er.toml"
        )
    bad = [one for one in verify(target, manifest, whole=False) if one.bad]
    if bad:
        raise PullError(
            f"{target} is not whole: {bad[0].path} {bad[0].what}. Move it away and pull it again; "
            f"er models verify {shlex.quote(str(target))} tells more"
        )
    return manifest


def _called(one: Listing | Manifest) -> str:
    return f"{one.repo}@{one.revision[:12]}".rstrip("@")
