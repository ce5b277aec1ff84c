"""`er models`: brings a model's files from a hub, and tells whether they are still what came."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from er import model_files
from er.cli.models_shown import Shown
from er.cli.screen import clean
from er.config import ConfigError, edited_path, load
from er.pull import PullError
from er.pull.hubs import Hub, hub
from er.pull.manifest import read, verify
from er.pull.place import PART
from er.pull.plan import named, total
from er.pull.web import Web, host, proxy
from er.pull.whole import Begun, pull
from er.quantities import bytes_text

PLACE = Path("/mnt/workspace/model")  # OWNER/NAME beneath it, where er.toml does not say
FULL = (errno.ENOSPC, errno.EDQUOT)
# By sudo; SSL_CERT_FILE is a company's own authority.
DROPPED = (
    "HF_ENDPOINT,HF_TOKEN,MODELSCOPE_DOMAIN,MODELSCOPE_API_TOKEN,https_proxy,http_proxy,no_proxy,"
    "SSL_CERT_FILE"
)
# With one of these sudo was told to keep them.
KEPT = (
    *("HF_ENDPOINT", "HF_TOKEN", "MODELSCOPE_API_TOKEN"),
    *("https_proxy", "http_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY"),
)


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    action: str
    name: str = ""
    source: str = "huggingface"
    to: Path | None = None
    folder: Path | None = None


def run(wish: Wish) -> int:
    """Do it. Returns 0 done or already there, 1 not done and said why, 64 wrong use."""
    try:
        if wish.action == "verify":
            assert wish.folder is not None
            return _verify(wish.folder)
        return _pull(wish)
    except PullError as error:
        return _fail(str(error))


def _fail(text: str, code: int = 1) -> int:
    print(f"er models: {clean(text)}", file=sys.stderr)
    return code


# -- pull ------------------------------------------------------------------------------------------


def _pull(wish: Wish) -> int:
    path = None if wish.to else _configured(wish.name.partition("@")[0])
    try:
        name, asked = named(wish.name, path or ""), hub(wish.source, os.environ)
    except PullError as error:
        return _fail(str(error), 64)
    # A link to a folder stays a link: what it leads to is what is made.
    target = Path(os.path.realpath(wish.to or path or PLACE / name.owner / name.name))
    shown = Shown(sys.stderr)
    web = Web(asked.home, asked.token(os.environ))
    print(f"{name.repo} from {asked.home}{_by(asked)} into {target}", flush=True)
    for line in _on_the_way(asked, web, os.environ):
        print(line, flush=True)
    try:
        with web:
            pulled = pull(name, asked, web, target, shown, lambda begun: _begin(begun, shown))
    except PullError as error:
        shown.clear()
        hint = _hint(asked, os.environ) if error.environment else ""
        return _fail(f"{error}{_left(target, shown)}{hint}")
    except KeyboardInterrupt:
        shown.clear()
        return _fail(f"stopped{_left(target, shown)}")
    except OSError as error:
        shown.clear()
        return _fail(_refused(target, error, shown))
    shown.clear()
    if not pulled.fresh:
        verify = shlex.join(["er", "models", "verify", str(target)])
        print(f"{target} has it already, whole by its sizes; by sums: {verify}")
        return 0
    size = sum(one.size for one in pulled.manifest.files)
    count = len(pulled.manifest.files)
    print(f"{target}: {count} files, {bytes_text(size)}, each with the checksum that the hub names")
    _read(target)
    return 0


def _configured(name: str) -> str | None:
    """Where er.toml says that a model of this name lies. Raises PullError."""
    try:
        edited_path().stat()
        models = load(edited_path()).models
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PullError(f"{edited_path()}: {error.strerror}; use sudo, or --to DIR") from None
    except ConfigError as error:
        raise PullError(
            f"{error.findings[0]}; where the model is to lie can't be read there: --to DIR"
        ) from None
    last = name.rpartition("/")[2]
    found = next((m for wanted in (name, last) for m in models if m.name == wanted), None)
    return None if found is None or found.path is None else str(found.path)


def _by(asked: Hub) -> str:
    return f" ({asked.by})" if asked.by not in ("", "--from") else ""


def _on_the_way(asked: Hub, web: Web, environment: Mapping[str, str]) -> list[str]:
    """What of the environment takes part."""
    told = []
    if found := proxy(asked.home):
        told.append(f"by the proxy {found}")
    elif proxy(asked.home.replace(host(asked.home), "other.invalid", 1)):
        told.append(f"{host(asked.home)} without the proxy, as no_proxy says")
    if web.bare_token:
        told.append(f"{asked.token_by} is not sent, as {asked.home} is plain HTTP")
    elif asked.token_by:
        told.append(f"{asked.token_by} goes to {host(asked.home)} alone")
    return told


def _begin(begun: Begun, shown: Shown) -> None:
    shown.begin(begun.size, begun.there)
    revision = f", revision {begun.listing.revision[:12]}" if begun.listing.revision else ""
    there = f", {bytes_text(begun.there)} of them are there" if begun.there else ""
    print(
        f"{begun.listing.hub}{revision}: {len(begun.files)} files, "
        f"{bytes_text(total(begun.files))}{there}; {bytes_text(begun.free)} are free",
        flush=True,
    )


def _left(target: Path, shown: Shown) -> str:
    """What stays for the next try."""
    part = target.parent / f"{target.name}{PART}"
    if not shown.begun or not part.is_dir():
        return ""
    return f". What has come stays in {part}; the same command goes on from there"


def _hint(asked: Hub, environment: Mapping[str, str]) -> str:
    """What else may be tried, and what sudo may have taken away."""
    other = {"huggingface": "--from modelscope", "modelscope": "--from huggingface"}
    told = f". Another hub: {other[asked.kind]}" if asked.kind else ""
    if any(environment.get(name) for name in KEPT) or not environment.get("SUDO_USER"):
        return told
    line = shlex.join(["sudo", f"--preserve-env={DROPPED}", "er", *sys.argv[1:]])
    return f"{told}. sudo drops proxies, addresses and tokens of hubs; if you have set any: {line}"


def _refused(target: Path, error: OSError, shown: Shown) -> str:
    where = error.filename or target
    if error.errno in FULL:
        # The first that is there: it may have been a folder above it that could not be made.
        parent = next(one for one in target.parents if one.exists())
        disk = os.statvfs(parent)
        free = bytes_text(disk.f_bavail * disk.f_frsize)
        told = f"the disk of {parent} is full ({free} free): make room there"
        return told + _left(target, shown)
    if error.errno in (errno.EACCES, errno.EPERM):
        told = f"{where}: {error.strerror}; use sudo, or a folder of yours: --to DIR"
        return told + _left(target, shown)
    return f"{where}: {error.strerror or error}{_left(target, shown)}"


def _read(target: Path) -> None:
    """Say at once what the gateway would say of the files."""
    try:
        files = model_files.read(target)
        why = model_files.lacking(files, target)
    except model_files.ModelFilesError as error:
        why = str(error)
    if why:
        print(f"er models: note: ER can't serve it as it is: {clean(why)}", file=sys.stderr)


# -- verify ----------------------------------------------------------------------------------------


def _verify(folder: Path) -> int:
    try:
        manifest = read(folder)
        if manifest is None:
            return _fail(
                f"{folder} has no er-model.json: er models pull has not made it, and nobody has "
                "noted what its files' checksums are"
            )
        bad = 0
        for one in verify(folder, manifest, whole=True):
            bad += one.bad
            print(f"{'x' if one.bad else '!'} {clean(one.path)} {one.what}", flush=True)
    except OSError as error:
        return _fail(f"{error.filename or folder}: {error.strerror or error}")
    what = f"{manifest.repo} {manifest.revision[:12]}".strip()
    if bad:
        return _fail(f"{folder} is not {what} as it was pulled: move it away and pull it again")
    size = bytes_text(sum(one.size for one in manifest.files))
    print(f"{folder} is {clean(what)}: {len(manifest.files)} files, {size}, every checksum right")
    return 0
