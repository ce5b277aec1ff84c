"""A report as a list of parts, one list for HTML and Markdown: headings, tables, plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from er.capacity import words as capacity_words
from er.history.hourly import HOUR_S
from er.report.facts import Group, Summary
from er.report.words import Words, milliseconds, percent
from er.usage import NOBODY

COMMENTS = 5


class Heading(NamedTuple):
    """A section begins."""

    text: str


class Sentences(NamedTuple):
    """Lines of text; `strong` ones stand in a list of what matters."""

    lines: Sequence[str]
    strong: bool = False


class Table(NamedTuple):
    """Rows of cells. Columns from `right` on hold figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: int


class Series(NamedTuple):
    """One line or row of bars; None: not known."""

    name: str
    values: Sequence[float | None]


class Plot(NamedTuple):
    """Figures over time: bars that stand on each other, or lines. `labels`: one for each figure."""

    title: str
    kind: str  # bars | lines
    series: Sequence[Series]
    labels: Sequence[str]
    logarithmic: bool = False
    ratio: bool = False  # from 0 to 1


Part = Heading | Sentences | Table | Plot


def parts(found: Summary, words: Words) -> Iterator[Part]:
    """All of it, in order."""
    yield Sentences(list(_short(found, words)), strong=True)
    yield from _traffic(found, words)
    yield from _latency(found, words)
    yield from _quality(found, words)
    yield from _capacity(found, words)
    yield from _keys(found, words)
    yield from _incidents(found, words)
    known, span = _known(found, words)
    sources = [words("sources", known=known, span=span)]
    if found.facts.damaged:
        sources.append(words("damaged", what=", ".join(found.facts.damaged)))
    yield Sentences(sources)


def head(found: Summary, words: Words) -> tuple[str, str]:
    """(the title, the line under it)."""
    facts = found.facts
    span = words(
        "span",
        since=moment(facts.since * HOUR_S),
        until=moment(min(facts.until * HOUR_S, facts.made)),
        made=moment(facts.made),
        version=facts.version,
    )
    return words("title", host=facts.host), span


def moment(at: float) -> str:
    """As people write it, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _known(found: Summary, words: Words) -> tuple[str, str]:
    facts = found.facts
    span_s = min(facts.until * HOUR_S, facts.made) - facts.since * HOUR_S
    return words.span(min(found.known_s, span_s)), words.span(span_s)


def _short(found: Summary, words: Words) -> Iterator[str]:
    total = found.total
    if found.success is None:
        yield words("short_none")
    else:
        yield words(
            "short_traffic",
            **{name: f"{n:,}" for name, n in total._asdict().items()},
            success=percent(found.success),
        )
    if found.worst is not None:
        at, p99 = found.worst
        yield words(
            "short_latency",
            p50=milliseconds(found.quantiles["p50"]),
            p99=milliseconds(found.quantiles["p99"]),
            step=words.step(found.step_h),
            at=moment(at * HOUR_S),
            worst=milliseconds(p99),
        )
    count = len(found.incidents) + found.more_incidents
    yield words("short_incidents", count=count) if count else words("short_calm")
    for used in found.used:
        share = percent(used.peak_texts / used.row.texts_per_s)
        yield words("short_capacity", share=share, model=used.model)


def _labels(found: Summary) -> list[str]:
    form = "%m-%d %H:00" if found.step_h < 24 else "%Y-%m-%d"
    return [f"{datetime.fromtimestamp(s.begins * HOUR_S, UTC):{form}}" for s in found.steps]


def _traffic(found: Summary, words: Words) -> Iterator[Part]:
    yield Heading(words("traffic"))
    step, labels = words.step(found.step_h), _labels(found)
    answered = Series(words("answered"), [float(s.sums.requests) for s in found.steps])
    refused = Series(words("refused"), [float(s.sums.refused) for s in found.steps])
    yield Plot(words("traffic_plot", step=step), "bars", (answered, refused), labels)
    tokens = Series(words("tokens"), [float(s.sums.tokens) for s in found.steps])
    yield Plot(words("tokens_plot", step=step), "bars", (tokens,), labels)
    if found.peaks:
        peaks = {name: found.peaks.get(name, 0.0) for name in ("requests", "texts", "tokens")}
        shown = {name: f"{n:,.1f}" for name, n in peaks.items()}
        most = f"{found.peaks.get('in_flight', 0):,.0f}"
        yield Sentences([words("peak", **shown, in_flight=most)])


def _latency(found: Summary, words: Words) -> Iterator[Part]:
    yield Heading(words("latency"))
    if not found.timed:
        yield Sentences([words("latency_none")])
        return
    series = [Series(name, [s.quantiles[name] for s in found.steps]) for name in found.quantiles]
    title = words("latency_plot", step=words.step(found.step_h))
    yield Plot(title, "lines", series, _labels(found), logarithmic=True)
    known, span = _known(found, words)
    yield Sentences([words("latency_known", timed=f"{found.timed:,.0f}", known=known, span=span)])


def _quality(found: Summary, words: Words) -> Iterator[Part]:
    yield Heading(words("quality"))
    facts = found.facts
    if facts.unasked:
        yield Sentences([words("quality_unasked", why=facts.unasked)])
        return
    if facts.quality is None:
        yield Sentences([words("quality_absent")])
    else:
        yield from _canary(facts.quality, words)
    feedback = facts.feedback
    if feedback is None or not feedback.get("total"):
        yield Sentences([words("feedback_absent" if feedback is None else "feedback_none")])
        return
    head = [words(name) for name in ("model", "feedbacks", "click_rate", "satisfaction", "mrr")]
    rows = [
        [
            str(row.get("model")),
            f"{int(row.get('feedbacks') or 0):,}",
            percent(row.get("click_rate")),
            percent(row.get("satisfaction")),
            _figure(row.get("mrr")),
        ]
        for row in feedback.get("models") or []
    ]
    yield Table(words("feedback"), head, rows, 1)
    said = [row for row in feedback.get("recent") or [] if row.get("comment")][:COMMENTS]
    if said:
        lines = [f"{moment(row['at'])}  {row.get('model')}: {row['comment']}" for row in said]
        yield Sentences([words("comments") + ":", *lines])


def _canary(quality: Any, words: Words) -> Iterator[Part]:
    replicas = quality.get("replicas") or []
    judged = quality.get("set") or {}
    queries, pairs = judged.get("queries", 0), judged.get("pairs", 0)
    yield Sentences([words("quality_set", queries=queries, pairs=pairs)])
    head = [words(name) for name in ("replica", "model", "state", "ndcg", "drift", "why")]
    rows = []
    for one in replicas:
        last = one.get("last") or {}
        drift = (last.get("drift") or {}).get("mean")
        rows.append(
            [
                str(one.get("name")),
                str(one.get("model")),
                words.state(str(one.get("state"))),
                _figure(last.get("ndcg10")),
                "-" if drift is None else f"{drift:.2g}",
                str(one.get("reason") or ""),
            ]
        )
    if rows:
        yield Table("", head, rows, 6)
    checked = [one for one in replicas if len(one.get("history") or []) > 1]
    for one in checked[:4]:
        series = Series("nDCG@10", [row[1] for row in one["history"]])
        labels = [moment(row[0])[5:] for row in one["history"]]
        title = words("ndcg_plot", replica=str(one.get("name")))
        yield Plot(title, "lines", [series], labels, ratio=True)
    if not any(one.get("last") for one in replicas):
        yield Sentences([words("quality_never")])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _capacity(found: Summary, words: Words) -> Iterator[Part]:
    yield Heading(words("capacity"))
    measured = found.facts.capacity
    if measured is None:
        why = found.facts.unmeasured
        yield Sentences([words("capacity_bad", why=why) if why else words("capacity_none")])
        return
    minutes = f"{measured.seconds / 60:.1f}"
    lines = [words("capacity_at", at=moment(measured.at), minutes=minutes)]
    language = words.language
    for model in measured.models:
        for row in model.rows:
            if row.rate > 0:
                carries = capacity_words.carries(row, language)
                lines.append(words("capacity_row", model=model.model, carries=carries))
        lines += [
            words("first", advice=capacity_words.advice(one, language)) for one in model.advice[:1]
        ]
    for used in found.used:
        texts = used.row.texts_per_s
        shares = {"share": used.peak_texts / texts, "mean": used.mean_texts / texts}
        lines.append(
            words(
                "capacity_used",
                model=used.model,
                peak=f"{used.peak_texts:,.1f}",
                **{name: percent(share) for name, share in shares.items()},
                measured=f"{used.row.inputs} x {used.row.mean_tokens:,.0f}",
                own=f"{used.mean_inputs:,.1f} x {used.mean_tokens or 0:,.0f}",
            )
        )
    if measured.interrupted or measured.stopped:
        lines.append(words("interrupted") + (f" {measured.stopped}" if measured.stopped else ""))
    yield Sentences(lines)


def _keys(found: Summary, words: Words) -> Iterator[Part]:
    for plural, single, groups in (
        ("keys", "key", found.keys),
        ("teams", "team", found.teams),
        ("models", "model", found.models),
    ):
        if groups:
            yield Heading(words(plural))
            figures = [words(name) for name in ("requests", "refused", "texts", "tokens", "share")]
            rows = [_group_row(group, found, words) for group in groups]
            yield Table("", [words(single), *figures], rows, 1)
            if plural == "keys" and found.rest:
                yield Sentences([words("rest", n=found.rest)])


def _group_row(group: Group, found: Summary, words: Words) -> list[str]:
    name = words("nobody") if group.name == NOBODY else group.name
    share = group.sums.tokens / found.total.tokens if found.total.tokens else None
    return [name, *(f"{n:,}" for n in group.sums), percent(share)]


def _incidents(found: Summary, words: Words) -> Iterator[Part]:
    yield Heading(words("incidents"))
    rows = []
    for one in found.incidents:
        long = words("still" if one.kind == "out" else "unknown")
        if one.seconds is not None:
            long = words.span(one.seconds)
        rows.append([moment(one.at), words(one.kind, name=one.name), long, one.text])
    if rows:
        yield Table("", [words(name) for name in ("when", "what", "long", "why")], rows, 4)
    else:
        yield Sentences([words("none")])
    if found.more_incidents:
        yield Sentences([words("more", n=found.more_incidents)])
    up = [f"{name} {percent(up / known)}" for name, up, known in found.availability if known]
    if up:
        yield Sentences([f"{words('up')} {', '.join(up)}"])
    if found.refusals:
        total = sum(n for _, n in found.refusals)
        causes = [[code, f"{n:,.0f}", percent(n / total)] for code, n in found.refusals]
        yield Table(words("refusals"), [words(n) for n in ("cause", "count", "share")], causes, 1)
        yield Sentences([words("refusals_known")])
