"""One table's values by type; each complaint lands on the key's own line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from er import quantities
from er.config.structs import Gateway
from er.quantities import Rate

WORKERS_MAX = 64
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*A-Z\"\\]+\Z", re.ASCII)
USUAL_PORTS = {"http": ":80", "https": ":443"}  # which browsers leave out
VERSION = re.compile(r"\d+\.\d+(\.\d+)?[a-z0-9.+]*\Z", re.ASCII)  # of vLLM, as its package has it
GPU_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+\Z")


class Fields:
    """Reads one table; `say(name, index, key, message)` takes what is wrong with it."""

    def __init__(
        self,
        say: Callable[[str, int, str, str], None],
        table: dict[str, Any],
        name: str,
        index: int,
    ) -> None:
        self.say, self.table, self.name, self.index = say, table, name, index

    def wrong(self, key: str, message: str) -> None:
        self.say(self.name, self.index, key, f"{key} {message}")

    def take(self, key: str, required: bool = False) -> Any:
        value = self.table.get(key)
        if value is None and required:
            self.wrong(key, f"is missing from this [[{self.name}]]")
        return value

    def text(self, key: str, default: str | None = None, required: bool = False) -> str | None:
        value = self.take(key, required)
        if value is None:
            return default
        if not isinstance(value, str) or (required and not value.strip()):
            self.wrong(key, f'must be text, as in {key} = "…"')
            return default
        return value if self._whole(key, value) else default

    def _whole(self, key: str, *values: str) -> bool:
        """No NUL in them: neither a path nor a program's argument can hold one."""
        if any("\0" in value for value in values):
            self.wrong(key, "has a NUL character in it; leave it out")
            return False
        return True

    def path(self, key: str, default: Path | None) -> Path | None:
        value = self.text(key)
        if value is None:
            return default
        if not Path(value).is_absolute():
            self.wrong(key, f"is {value!r}; it must be an absolute path, as in /etc/er/tls/…")
            return default
        return Path(value)

    def engine(self, key: str) -> str | None:
        """A version of vLLM, or an environment that has one: an absolute path."""
        value = self.text(key)
        if value is None or VERSION.match(value):
            return value
        folder = Path(value)
        if not folder.is_absolute() or not value.isprintable():
            told = 'write a version ("0.25.1") or the absolute path of an environment'
            self.wrong(key, f"is {value!r}; {told}")
        elif folder.parent.name == "bin":
            self.wrong(key, f"names a program; name its environment: {folder.parent.parent}")
        else:
            return str(folder)
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.wrong(key, f'must be a list of texts, as in {key} = ["…"]')
            return ()
        return tuple(value) if self._whole(key, *value) else ()

    def choice(
        self, key: str, known: tuple[str, ...], default: str | None, required: bool = False
    ) -> str | None:
        value = self.take(key, required)
        if value is None:
            return default
        if value not in known:
            self.wrong(key, f"is {value!r}; it must be one of: {', '.join(known)}")
            return default
        return str(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            self.wrong(key, "must be true or false")
            return default
        return value

    def integer(
        self, key: str, default: int | None, low: int, high: int, required: bool = False
    ) -> int | None:
        value = self.take(key, required)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(key, f"is {value!r}; it must be a whole number from {low} to {high}")
            return default
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self.take(key)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            self.wrong(key, f"is {value!r}; it must be a number from {low} to {high}")
            return None
        return float(value)

    def _quantity(self, key: str, read: Any, default: Any) -> Any:
        value = self.take(key)
        if value is None:
            return default
        try:
            return read(value)
        except ValueError as error:
            self.wrong(key, f"is {value!r}; {error}")
            return default

    def duration(self, key: str, default: float, low: float, high: float) -> float:
        value = float(self._quantity(key, quantities.duration_s, default))
        if not low <= value <= high:
            given, least, most = (quantities.written_time(one) for one in (value, low, high))
            self.wrong(key, f"is {given}; it must be from {least} to {most}")
            return default
        return value

    def duration_or_off(self, key: str, high: float) -> float:
        """A time; "off", the default, is 0."""
        return 0.0 if self.table.get(key) == "off" else self.duration(key, 0.0, 0.0, high)

    def size(self, key: str, default: int | None, low: int) -> int | None:
        value = self._quantity(key, quantities.size_bytes, default)
        if value is not None and value < low:
            self.wrong(key, f"must be at least {quantities.written_size(low)}")
        return None if value is None else int(value)

    def size_or_off(self, key: str, default: int, low: int) -> int:
        """A size; 0 turns off what it is of."""
        # 0 is a number or a text: nobody should have to think about a unit for nothing.
        if self.table.get(key) in (0, "0") and self.table.get(key) is not False:
            return 0
        return self.size(key, default, low) or 0

    def rate(self, key: str) -> Rate | None:
        value = self._quantity(key, quantities.rate, Gateway().rate_limit)
        assert value is None or isinstance(value, Rate)
        return value

    def workers(self) -> int | Literal["auto"]:
        if self.table.get("workers", "auto") == "auto":
            return "auto"
        return self.integer("workers", 1, 1, WORKERS_MAX) or 1

    def addresses(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        values = self.texts(key) if key in self.table else default
        if not values:
            self.wrong(key, 'must name at least one address, as in ["0.0.0.0:2048"]')
        for value in values:
            self._address(key, value)
        return values

    def address_or_off(self, key: str, default: str) -> str:
        value = self.text(key, default) or ""
        return value if not value or self._address(key, value) else default

    def _address(self, key: str, value: str) -> bool:
        host, _, port = value.rpartition(":")
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            self.wrong(key, f"has {value!r}; write ADDRESS:PORT, as in 0.0.0.0:2048 or [::]:2048")
            return False
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            self.wrong(key, f"has {value!r}; a port is a number from 1 to 65535")
            return False
        return True

    def origins(self, key: str) -> tuple[str, ...]:
        values = self.texts(key)
        for value in values:
            usual = USUAL_PORTS.get(value.partition(":")[0], " ")
            if value != "*" and not ORIGIN.match(value):
                what = (
                    'write SCHEME://HOST[:PORT] in small letters, without a path, or ["*"] for all'
                )
                self.wrong(key, f"has {value!r}; {what}")
            elif value.endswith(usual):
                self.wrong(key, f"has {value!r}; browsers leave {usual} out, so leave it out here")
        if "*" in values and len(values) > 1:
            self.wrong(key, 'has "*", which is all origins, beside others; leave one out')
        return values

    def networks(self, key: str) -> tuple[str, ...]:
        """Addresses and networks of IP, each as it is written best."""
        found = []
        for value in self.texts(key):
            try:
                network = ipaddress.ip_network(value, strict=False)
            except ValueError:
                self.wrong(key, f"has {value!r}; write an address or a network, as 10.0.0.0/8")
                continue
            if "/" in value and network.network_address != ipaddress.ip_interface(value).ip:
                self.wrong(key, f"has {value!r}; that network is written {network}")
            elif not network.prefixlen:
                self.wrong(key, f"has {value!r}, which is everyone; name the proxies alone")
            found.append(value)
        return tuple(found)

    def url(self, key: str, scheme: str = "http") -> str | None:
        value = self.text(key)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            good = parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets or a port that are none
            good = False
        if not good or parts.path not in ("", "/") or parts.query or parts.fragment:
            self.wrong(key, f"is {value!r}; write http://HOST:PORT, without a path")
            return None
        if "@" in parts.netloc:
            self.wrong(key, "has a user or password in it; vLLM asks for none, leave it out")
            return None
        return value.rstrip("/")

    def gpu(self, key: str, required: bool) -> tuple[int | str, ...]:
        value = self.take(key, required)
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value]
        if values == ["cpu"]:
            return ("cpu",)
        for v in values:
            index = isinstance(v, int) and not isinstance(v, bool) and v >= 0
            if not index and not (isinstance(v, str) and GPU_UUID.match(v)):
                self.wrong(key, f'has {v!r}; write an index, a UUID ("GPU-…", "MIG-…") or "cpu"')
                return ()
        if not values or len(set(values)) != len(values):
            self.wrong(key, "must name each GPU once, and at least one")
        return tuple(values)

    def environment(self, key: str) -> dict[str, str]:
        value = self.take(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            self.wrong(key, 'must be a table of texts, as in { KEY = "value" }')
            return {}
        for name in value:
            if not name or "=" in name:
                self.wrong(key, f"has {name!r}; a variable's name is not empty and has no =")
                return {}
        return value if self._whole(key, *value, *value.values()) else {}
