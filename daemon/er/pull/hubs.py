"""Where models come from: Hugging Face's API and ModelScope's, or a folder with SHA256SUMS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import msgspec

from er.pull import AgainError, Listing, PullError, Remote
from er.pull.plan import Name
from er.pull.web import StatusError, Web, host

HUGGINGFACE = "https://huggingface.co"
MODELSCOPE = "https://www.modelscope.cn"
SUMS = "SHA256SUMS"
HEX = {"sha256": r"[0-9a-f]{64}", "git": r"[0-9a-f]{40}"}
DAMAGED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask."""

    kind: str  # huggingface, modelscope; "" = an address, which says itself what it is
    home: str  # its address, without / at the end
    by: str = ""  # what of the environment chose it
    token_by: str = ""  # the variable that the token is in; "" = none

    def token(self, environment: Mapping[str, str]) -> str:
        """The secret. Never kept in here, so that no repr has it. Raises PullError."""
        found = environment.get(self.token_by, "").strip() if self.token_by else ""
        if not found.isascii() or not found.isprintable():
            raise PullError(f"{self.token_by} is no token: it has characters that none has")
        return found


class _Lfs(msgspec.Struct):
    sha256: str
    size: int


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    blobId: str | None = None  # noqa: N815 - as the API has it
    lfs: _Lfs | None = None


class _Model(msgspec.Struct):
    sha: str
    siblings: list[_Sibling]


class _Entry(msgspec.Struct, rename="pascal"):
    path: str
    type: str = "blob"
    size: int = 0
    sha256: str | None = None


class _Files(msgspec.Struct, rename="pascal"):
    files: list[_Entry] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    success: bool = True
    message: str = ""
    data: _Files | None = None


def hub(source: str, environment: Mapping[str, str]) -> Hub:
    """What --from and the environment say. Raises PullError for what is no address."""
    if source == "huggingface":
        by = "HF_ENDPOINT" if environment.get("HF_ENDPOINT") else ""
        home = _home(environment.get("HF_ENDPOINT") or HUGGINGFACE, by)
        token_by = "HF_TOKEN" if environment.get("HF_TOKEN") else ""
        return Hub(kind=source, home=home, by=by, token_by=token_by)
    if source == "modelscope":
        by = "MODELSCOPE_DOMAIN" if environment.get("MODELSCOPE_DOMAIN") else ""
        said = environment.get("MODELSCOPE_DOMAIN") or MODELSCOPE
        home = _home(said if "://" in said else f"https://{said}", by)
        token_by = "MODELSCOPE_API_TOKEN" if environment.get("MODELSCOPE_API_TOKEN") else ""
        return Hub(kind=source, home=home, by=by, token_by=token_by)
    return Hub(kind="", home=_home(source, "--from"))


def listing(asked: Hub, web: Web, name: Name) -> Listing:
    """All files of one repository at one moment. Raises PullError, AgainError."""
    try:
        if asked.kind == "modelscope":
            return _modelscope(asked, web, name)
        if asked.kind == "huggingface":
            return _huggingface(asked, web, name)
    except StatusError as error:
        raise PullError(_refusal(asked, name, error), environment=True) from None
    try:
        return _huggingface(asked, web, name)
    except StatusError as error:
        if error.status != 404 or error.code:
            raise PullError(_refusal(asked, name, error), environment=True) from None
    except PullError:
        pass  # it answers, but not as a hub does: a page for people, say
    return _folder(asked, web, name)


def _home(said: str, by: str) -> str:
    """An address without anything that could be a secret. Raises PullError."""
    try:
        parts = urlsplit(said.strip())
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good, parts = False, urlsplit("")
    if "@" in parts.netloc:  # not repeated: it is on nobody's screen yet
        raise PullError(f"{by} has a name or a password in its address; write it without")
    if not good or parts.query or parts.fragment:
        more = "huggingface, modelscope or " if by == "--from" else ""
        raise PullError(f"{by} {said[:80]!r} is not as {more}https://HOST/PATH")
    return said.strip().rstrip("/")


# -- Hugging Face ----------------------------------------------------------------------------------


def _huggingface(asked: Hub, web: Web, name: Name) -> Listing:
    revision = quote(name.revision or "main", safe="")
    url = f"{asked.home}/api/models/{name.repo}/revision/{revision}?blobs=true"
    try:
        model = msgspec.json.decode(web.read(url), type=_Model)
    except DAMAGED:
        raise PullError(f"{asked.home} does not answer as Hugging Face's hub does") from None
    if not re.fullmatch(HEX["git"], model.sha):
        raise PullError(f"{asked.home} names no commit for {name.repo}")
    base = f"{asked.home}/{name.repo}/resolve/{model.sha}"
    files = tuple(
        Remote(
            path=one.rfilename,
            size=one.lfs.size if one.lfs else one.size or 0,
            sha256=_sum("sha256", one.lfs.sha256 if one.lfs else ""),
            git="" if one.lfs else _sum("git", one.blobId),
            url=f"{base}/{quote(one.rfilename)}",
        )
        for one in model.siblings
    )
    return Listing(
        repo=name.repo, revision=model.sha, hub="Hugging Face's API", home=asked.home, files=files
    )


# -- ModelScope ------------------------------------------------------------------------------------


def _modelscope(asked: Hub, web: Web, name: Name) -> Listing:
    """Its list names no commit, so a file may change beside it: each has a checksum there."""
    revision = name.revision or "master"
    base = f"{asked.home}/api/v1/models/{name.repo}/repo"
    safe = quote(revision, safe="")
    try:
        data = web.read(f"{base}/files?Revision={safe}&Recursive=true")
        answer = msgspec.json.decode(data, type=_Answer)
    except DAMAGED:
        raise PullError(f"{asked.home} does not answer as ModelScope's hub does") from None
    if not answer.success or answer.data is None or answer.data.files is None:
        said = " ".join(answer.message.split())[:200] or "no files"
        raise PullError(f"{asked.home} has no {name.repo} at {revision}: {said}")
    files = tuple(
        Remote(
            path=one.path,
            size=one.size,
            sha256=_sum("sha256", one.sha256),
            url=f"{base}?Revision={safe}&FilePath={quote(one.path, safe='')}",
        )
        for one in answer.data.files
        if one.type != "tree"
    )
    return Listing(
        repo=name.repo, revision=revision, hub="ModelScope's API", home=asked.home, files=files
    )


# -- a folder --------------------------------------------------------------------------------------


def _folder(asked: Hub, web: Web, name: Name) -> Listing:
    """A folder of a web server: the model's own, or one that holds OWNER/NAME."""
    for base in (f"{asked.home}/{name.repo}", asked.home):
        try:
            data = web.read(f"{base}/{SUMS}")
            break
        except StatusError as error:
            if error.status != 404:
                raise PullError(_refusal(asked, name, error), environment=True) from None
    else:
        raise PullError(
            f"{asked.home} has neither Hugging Face's API with {name.repo} nor a file {SUMS}, here "
            f"or in {name.repo}/; er help models says how to make a folder for it"
        )
    if name.revision:
        raise PullError(f"a folder with {SUMS} has no revisions: leave @{name.revision} away")
    files = tuple(_sized(web, base, path, digest) for path, digest in _sums(data, base))
    return Listing(
        repo=name.repo, revision="", hub=f"a folder with {SUMS}", home=asked.home, files=files
    )


def _sums(data: bytes, base: str) -> list[tuple[str, str]]:
    """(path, sum) of each line, as sha256sum writes them."""
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        parts = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)
        if parts is None:
            raise PullError(f"{base}/{SUMS} is not as sha256sum writes it: {line[:80]!r}")
        found.append((parts[2], parts[1].lower()))
    return found


def _sized(web: Web, base: str, path: str, digest: str) -> Remote:
    url = f"{base}/{quote(path)}"
    try:
        with web.answer(url, {}, "HEAD") as answer:
            size = answer.headers.get("content-length", "")
    except StatusError as error:
        raise PullError(f"{base} lists {path} but has none of it: {error}") from None
    if not re.fullmatch(r"\d{1,19}", size):
        raise AgainError(f"{host(url)} does not say how large {path} is")
    return Remote(path=path, size=int(size), sha256=digest, url=url)


# -- words -----------------------------------------------------------------------------------------


def _sum(kind: str, said: str | None) -> str:
    found = (said or "").lower()
    return found if re.fullmatch(HEX[kind], found) else ""


def _refusal(asked: Hub, name: Name, error: StatusError) -> str:
    """What a hub's no means, and what to do."""
    what = f"{name.repo}@{name.revision}" if name.revision else name.repo
    variable = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}.get(asked.kind)
    had = bool(asked.token_by)
    if error.code == "RevisionNotFound":
        return f"{asked.home} has {name.repo}, but no {name.revision or 'main'} of it"
    if error.code == "GatedRepo":
        cure = "with that token's account" if had else f"and put a token of yours into {variable}"
        return f"{what} is gated: accept its terms on {asked.home}/{name.repo} {cure}"
    if error.status in (401, 403, 404) and variable is None:
        more = (
            ""
            if error.status == 404
            else (
                "; no token is ever sent to an address of --from: for a hub that wants one set "
                "HF_ENDPOINT to it, HF_TOKEN, and take --from huggingface"
            )
        )
        return f"{asked.home} gives no {what} (HTTP {error.status}){more}"
    if error.status in (401, 403) or error.code == "RepoNotFound":
        rest = (
            f"its account may not read it, or {variable} is none (any more)"
            if had
            else f"or it is private: put a token into {variable}"
        )
        return f"{asked.home} shows no {what} (HTTP {error.status}): no such repository, {rest}"
    if error.status == 404:
        return f"{asked.home} has no {what}; look for its name there, it must be OWNER/NAME"
    return f"{what}: {error}"
