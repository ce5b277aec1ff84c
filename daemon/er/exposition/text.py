"""The two text formats, and which of them a scraper wants.

Prometheus' text format 0.0.4 and OpenMetrics 1.0 differ in how a counter's family is called, in the
type `info`, in units, exemplars and the last line. Specifications:
https://prometheus.io/docs/instrumenting/exposition_formats and
https://prometheus.io/docs/specs/om/open_metrics_spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNITS = ("seconds", "bytes", "ratio", "celsius", "watts")
VERSIONS = ("", "0.0.1", "1.0.0")  # of OpenMetrics; they are one for what is written here


class Exemplar(NamedTuple):
    """One request that fell into a bucket; `at` in Unix seconds."""

    request_id: str
    value: float
    at: float


Exemplars = Mapping[tuple[str, frozenset[tuple[str, str]]], Exemplar]  # by sample: name, labels


def wants_openmetrics(accept: str) -> bool:
    """Whether a request with this Accept is answered in OpenMetrics: where it is liked no less."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        values = dict(word.split("=", 1) for word in parameters if "=" in word)
        if kind == "application/openmetrics-text" and values.get("version", "") not in VERSIONS:
            continue
        if kind in best:
            best[kind] = max(best[kind], _quality(values.get("q", "1")))
    return best["application/openmetrics-text"] > 0.0 and (
        best["application/openmetrics-text"] >= best["text/plain"]
    )


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def written(families: Iterable[Metric], exemplars: Exemplars, openmetrics: bool) -> bytes:
    """The text of all of them; exemplars stand in OpenMetrics alone. What is NaN has no row."""
    lines: list[str] = []
    for family in families:
        rows = list(_samples(family, exemplars if openmetrics else {}))
        if rows:
            lines += _head(family, openmetrics)
            lines += rows
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _head(family: Metric, openmetrics: bool) -> Iterator[str]:
    name, kind = family.name, family.type
    if not openmetrics:
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    yield f"# HELP {name} {_escaped(family.documentation)}"
    yield f"# TYPE {name} {kind}"
    unit = name.rpartition("_")[2]
    if openmetrics and unit in UNITS:
        yield f"# UNIT {name} {unit}"


def _samples(family: Metric, exemplars: Exemplars) -> Iterator[str]:
    for sample in family.samples:
        if sample.value != sample.value:  # of a day without feedback: a file forgets no series
            continue
        labels = _labels(sample.labels)
        line = f"{sample.name}{labels} {number(sample.value)}"
        if exemplars:
            one = exemplars.get((sample.name, frozenset(sample.labels.items())))
            if one is not None:
                value = number(one.value)
                line += f" # {_labels({'request_id': one.request_id})} {value} {one.at:.3f}"
        yield line


def number(value: float) -> str:
    """As both formats write it."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))
    return f"{{{inner}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
