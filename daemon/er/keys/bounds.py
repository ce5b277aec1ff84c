"""What bounds a key beside its rate and models: how it is written, and what is refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Literal, TypedDict

import msgspec

from er.quantities import Quota, Rate, quota, rate

Scope = Literal["inference", "metrics", "admin-read"]
SCOPES: tuple[Scope, ...] = ("inference", "metrics", "admin-read")
# What every key could do before there were scopes; reading the operator's pages is only given.
DEFAULT_SCOPES: frozenset[str] = frozenset(("inference", "metrics"))
TEAM = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\x00-\x20\x7f])?\Z")
CONCURRENCY_MAX = 65_535
NETWORKS_MAX = 256
WEIGHT_MAX = 100
Network = IPv4Network | IPv6Network


class Fields(TypedDict, total=False):
    """What can be said of a key beside its name and its end; None = no such bound."""

    rate_limit: str | None  # "100/minute", "off"; None = the gateway's default
    models: Sequence[str] | None
    scopes: Sequence[str] | None  # None = DEFAULT_SCOPES
    team: str | None
    concurrency: int | None  # requests at once
    token_limit: str | None  # "1000000/minute"
    quota: str | None  # "50M tokens/month"
    networks: Sequence[str] | None
    weight: int | None  # its share beside other keys; None = 1


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What few keys have; a key without any of it has no Bounds at all."""

    networks: tuple[Network, ...] = ()  # empty = all
    concurrency: int | None = None
    tokens: Rate | None = None
    quota: Quota | None = None


class BoundsError(ValueError):
    """A bound that can't be meant; `field` names it, the text says what to write."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def kept(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as a record keeps them: in one order and one spelling; what is wrong stays."""
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    scopes = found.get("scopes")
    if scopes:
        ordered = sorted(set(scopes), key=lambda s: SCOPES.index(s) if s in SCOPES else -1)
        # Written out or not, the usual ones are the same: no key of theirs needs a newer ER.
        found["scopes"] = None if set(ordered) == DEFAULT_SCOPES else tuple(ordered)
    for field, same in (("token_limit", "off"), ("quota", "off"), ("weight", 1)):
        if found.get(field) == same:
            found[field] = None
    if found.get("networks"):
        found["networks"] = tuple(_spelled(text) for text in dict.fromkeys(found["networks"]))
    return found


def _spelled(text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError:
        return text


def check(
    *,
    scopes: Sequence[str] | None,
    team: str | None,
    concurrency: int | None,
    token_limit: str | None,
    quota: str | None,
    networks: Sequence[str] | None,
    weight: int | None,
) -> None:
    """Raise BoundsError for the first of them that can't be meant."""
    if scopes is not None and (not scopes or not set(scopes) <= set(SCOPES)):
        strange = ", ".join(repr(s[:40]) for s in scopes if s not in SCOPES) or "nothing"
        told = f"scopes: {strange} is none; there are: {', '.join(SCOPES)}"
        raise BoundsError("scopes", told)
    if team is not None and not TEAM.match(team):
        raise BoundsError("team", "team: a name of 1 to 64 visible characters, as in --team search")
    if concurrency is not None and not 1 <= concurrency <= CONCURRENCY_MAX:
        told = f"concurrency: write how many requests at once, 1 to {CONCURRENCY_MAX}"
        raise BoundsError("concurrency", told)
    if weight is not None and not 1 <= weight <= WEIGHT_MAX:
        told = f"weight: write 1 to {WEIGHT_MAX}, how much more than another key it gets when busy"
        raise BoundsError("weight", told)
    if networks is not None and not 0 < len(networks) <= NETWORKS_MAX:
        told = f"networks: name 1 to {NETWORKS_MAX}, or leave them out for all addresses"
        raise BoundsError("networks", told)
    bounds(concurrency=concurrency, token_limit=token_limit, quota=quota, networks=networks)


def bounds(
    *,
    concurrency: int | None,
    token_limit: str | None,
    quota: str | None,
    networks: Sequence[str] | None,
) -> Bounds | None:
    """The same as the checks use it; None where there is no bound. Raises BoundsError."""
    if concurrency is None and token_limit is None and quota is None and networks is None:
        return None
    return Bounds(
        networks=tuple(map(network, networks or ())),
        concurrency=concurrency,
        tokens=None if token_limit is None else _tokens(token_limit),
        quota=None if quota is None else _quota(quota),
    )


def _tokens(text: str) -> Rate:
    try:
        found = rate(text)
    except ValueError:
        found = None
    if found is None:
        told = f'token_limit: {text[:40]!r}: write tokens and a time, as "1000000/minute"'
        raise BoundsError("token_limit", told)
    return found


def _quota(text: str) -> Quota:
    try:
        return quota(text)
    except ValueError as error:
        raise BoundsError("quota", f"quota: {text[:40]!r}: {error}") from None


def network(text: str) -> Network:
    """The network that is written so. Raises BoundsError."""
    try:
        return ip_network(text.strip())
    except ValueError:
        pass
    try:
        meant = ip_network(text.strip(), strict=False)
    except ValueError:
        told = f'networks: {text[:60]!r} is none; write "10.0.0.0/8", "192.0.2.7" or "fd00::/8"'
    else:
        told = f"networks: {text[:60]!r} names a host within a network; write {str(meant)!r}"
    raise BoundsError("networks", told)


def inside(address: str, networks: Sequence[Network]) -> bool:
    """Whether a client's address, as the gateway writes it, is of one of these networks."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in networks)
