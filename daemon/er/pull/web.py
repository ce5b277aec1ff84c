"""GETs of a hub: proxies of the environment, a token for one origin alone, failures in words.

Redirects are followed here and not by the library, so that it can be seen what goes where: a hub
sends to other hosts, which have signed addresses and never get the token. Of an address only the
host is ever shown, as its query may be a secret.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from er import __version__
from er.pull import AgainError, PullError

T = TypeVar("T")
CONNECT_S = 15.0
STALL_S = 30.0  # without a byte
REDIRECTS = 8
MOST = 32 << 20  # bytes of a list
WAIT_MOST_S = 300.0  # that another side may have us wait
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # before further tries of a file
ASKED_S = (1.0, 2.0, 5.0)  # before further tries of a list
GAIN = 1 << 20  # bytes that make a failed try count as a beginning
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StatusError(PullError):
    """The other side says no: HTTP status, and the hub's own code ("" without one)."""

    def __init__(self, url: str, status: int, code: str) -> None:
        super().__init__(f"{host(url)} answers HTTP {status}" + (f" ({code})" if code else ""))
        self.status, self.code = status, code


class Web:
    """A client for one hub. Use it as a context; its calls raise PullError and AgainError."""

    def __init__(self, home: str, token: str = "", *, stall_s: float | None = None) -> None:
        """`token` goes to the origin of `home` alone, and not over a network in plain HTTP."""
        self.home = home
        self.bare_token = bool(token) and not _private(home)
        self._token = "" if self.bare_token else token
        stall_s = STALL_S if stall_s is None else stall_s
        timeout = httpx.Timeout(stall_s, connect=min(CONNECT_S, stall_s))
        self._stall_s = stall_s
        try:
            self._client = httpx.Client(timeout=timeout, verify=_trusted(), follow_redirects=False)
        except (ImportError, ValueError) as error:
            raise PullError(
                f"a proxy of the environment can't be used: {error}; "
                "write https_proxy=http://HOST:PORT"
            ) from None

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @contextlib.contextmanager
    def answer(
        self, url: str, heads: Mapping[str, str], method: str = "GET"
    ) -> Iterator[httpx.Response]:
        """What stands at `url`, wherever that leads: 200, 206 or 416, its body not read yet.

        Raises StatusError for other 4xx, AgainError for what may pass.
        """
        with contextlib.ExitStack() as stack:
            try:
                answer = self._followed(stack, url, heads, method)
                yield answer
            except httpx.InvalidURL:
                raise PullError(f"{host(url)} leads to an address that is none") from None
            except httpx.TransportError as error:
                raise self._failed(url, error) from None

    def read(self, url: str) -> bytes:
        """A small body, whole."""
        with self.answer(url, {"accept": "application/json, text/plain, */*"}) as answer:
            data = b""
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > MOST:
                    raise PullError(f"{host(url)} sends a list of over {MOST >> 20} MiB; refused")
            return data

    def _followed(
        self, stack: contextlib.ExitStack, url: str, heads: Mapping[str, str], method: str
    ) -> httpx.Response:
        for _ in range(REDIRECTS):
            sent = {"user-agent": f"er/{__version__}", "accept-encoding": "identity", **heads}
            if self._token and origin(url) == origin(self.home):
                sent["authorization"] = f"Bearer {self._token}"
            answer = stack.enter_context(self._client.stream(method, url, headers=sent))
            if not answer.has_redirect_location:
                return self._good(url, answer)
            there = urljoin(url, answer.headers["location"])
            if urlsplit(there).scheme not in ("https", urlsplit(url).scheme):
                raise PullError(f"{host(url)} leads away from HTTPS, to {host(there)}; refused")
            stack.pop_all().close()
            url = there
        raise PullError(f"{host(self.home)} leads from one address to the next without end")

    def _good(self, url: str, answer: httpx.Response) -> httpx.Response:
        status = answer.status_code
        if status in (200, 206, 416):
            return answer
        # What a signed address of another host refuses the hub may sign anew.
        if status in (408, 425, 429) or status >= 500 or origin(url) != origin(self.home):
            raise AgainError(f"{host(url)} answers HTTP {status}", after_s=_retry_after(answer))
        raise StatusError(url, status, answer.headers.get("x-error-code", ""))

    def _failed(self, url: str, error: httpx.TransportError) -> Exception:
        said = " ".join(str(error).split()) or type(error).__name__
        way = f"{host(url)} by the proxy {by}" if (by := proxy(url)) else host(url)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return PullError(
                f"the certificate of {host(url)} is not trusted here ({said}). Where a proxy of "
                "your company signs anew, give its authority: SSL_CERT_FILE=/path/to/ca.pem",
                environment=True,
            )
        if isinstance(error, httpx.ProxyError) and "407" in said:
            return PullError(
                "the proxy wants a name and a password: http://NAME:PASSWORD@HOST:PORT",
                environment=True,
            )
        if isinstance(error, httpx.ReadTimeout):
            return AgainError(f"nothing came from {way} for {self._stall_s:g} s")
        if isinstance(error, httpx.ConnectTimeout):
            return AgainError(f"no connection to {way}")
        return AgainError(f"{way}: {said}")


def insist(
    once: Callable[[], T],
    note: Callable[[str], None],
    pause: Callable[[float], None],
    pauses_s: tuple[float, ...],
) -> T:
    """Try until it goes. Raises PullError when `pauses_s` are used up, or what `once` raises.

    A try that brought some of a file makes the next failure the first again.
    """
    failed = 0
    while True:
        try:
            return once()
        except AgainError as error:
            failed = 0 if error.gain >= GAIN else failed
            if failed == len(pauses_s):
                told = f"{error}, after {failed + 1} tries"
                raise PullError(told, environment=True) from None
            wait_s = pauses_s[failed]
            if error.after_s is not None:
                if error.after_s > WAIT_MOST_S:
                    told = f"{error}, and wants nothing more for {error.after_s:.0f} s"
                    raise PullError(f"{told}: try again then") from None
                wait_s = max(error.after_s, wait_s)
            failed += 1
            note(f"{error}; trying again in {wait_s:g} s ({failed} of {len(pauses_s)})")
            pause(wait_s)


def host(url: str) -> str:
    """The part of an address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2] or "?"


def origin(url: str) -> tuple[str, str, int | None]:
    """What must be the same for a token to go there."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(scheme)


def proxy(url: str) -> str:
    """The environment's proxy for an address, without name and password; "" for none."""
    parts, known = urlsplit(url), urllib.request.getproxies_environment()
    found = known.get(parts.scheme) or known.get("all")
    if not found or urllib.request.proxy_bypass(parts.netloc):
        return ""
    if "://" not in found:
        found = f"http://{found}"
    return f"{urlsplit(found).scheme}://{host(found)}"


@cache
def _trusted() -> ssl.SSLContext:
    """The public authorities, and what the machine trusts beside: a company's own, say."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _private(home: str) -> bool:
    return urlsplit(home).scheme == "https" or urlsplit(home).hostname in LOOPBACK


def _retry_after(answer: httpx.Response) -> float | None:
    said = answer.headers.get("retry-after", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
