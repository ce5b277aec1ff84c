"""When a key ends and how long a grace lasts, as people write it: "30d", "2027-01-31", "never"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from er.quantities import duration_s

LONGEST_S = 100 * 365 * 86400.0


def expiry(text: str | None, now: datetime) -> datetime | None:
    """A moment from a time span ("30d"), a date or an RFC 3339 moment; None for None and "never".

    A moment without a zone is UTC; a date means its beginning. Raises ValueError with how to
    write one, also for a moment that is already over.
    """
    if text is None or text.strip().lower() in ("", "never"):
        return None
    moment = _span(text, now) or _moment(text)
    if moment is None:
        raise ValueError(
            f'{text!r} is not a time; write a span ("30d", "12h"), a date ("2027-01-31"), a moment '
            '("2027-01-31T18:00:00Z") or "never"'
        )
    if moment <= now:
        raise ValueError(f"{text!r} is already over; write a time in the future")
    return moment


def past(text: str, now: datetime) -> datetime:
    """A moment from how long ago it is ("7d"), a date or an RFC 3339 moment; UTC without a zone.

    Raises ValueError with how to write one.
    """
    try:
        return now - timedelta(seconds=min(duration_s(text), LONGEST_S))
    except ValueError:
        moment = _moment(text)
    if moment is None:
        raise ValueError(
            f'{text!r} is not a time; write how long ago ("7d", "2h"), a date ("2026-11-01") or a '
            'moment ("2026-11-01T18:00:00Z")'
        )
    return moment


def span_s(text: str) -> float:
    """Seconds of a grace; "0" is none. Raises ValueError with how to write one."""
    return 0.0 if text.strip() == "0" else min(duration_s(text), LONGEST_S)


def _span(text: str, now: datetime) -> datetime | None:
    try:
        return now + timedelta(seconds=min(duration_s(text), LONGEST_S))
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
