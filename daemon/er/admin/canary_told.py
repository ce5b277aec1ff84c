"""What the canary knows, as GET /quality answers it and as metrics."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from er import metrics
from er.admin.canary import Canary, Outcome, State, Subject
from er.admin.canary_book import Figures
from er.admin.canary_papers import Papers
from er.config import Config

STATES: tuple[State, ...] = get_args(State)
WHOLE = "all"  # languages together, as a label


def state_of(canary: Canary, subject: Subject) -> tuple[State, str]:
    """(state, reason) of one replica now."""
    row = subject.row
    if subject.running:
        return "running", row.reason
    if row.out:
        return row.state, row.reason
    due = canary.why_due(subject)
    if due and not canary.up(subject):
        return "waiting", f"due ({due}); it does not answer yet"
    if row.state == "never":
        if not due and not canary.every_s:
            return "off", '[quality] every = "off"; now: er quality run'
        return ("waiting", subject.trouble or "about to be asked") if due else ("never", "")
    return row.state, row.reason or subject.trouble


def answer(config: Config, canary: Canary, papers: Papers) -> dict[str, Any]:
    """The answer to GET /quality."""
    rows = []
    for name, subject in canary.subjects.items():
        row = subject.row
        model = config.model(subject.replica.model)
        state, reason = state_of(canary, subject)
        counts = row.last is not None and bool(canary.every_s)
        rows.append(
            {
                "name": name,
                "model": subject.replica.model,
                "task": model.task if model else "embed",
                "state": state,
                "since": row.since,
                "reason": reason,
                "out": row.out,
                "act": config.quality.act,
                "due": canary.why_due(subject),
                "trouble": subject.trouble,
                "next": canary.next(subject) if counts else None,
                "last": msgspec.to_builtins(row.last),
                "history": [list(point) for point in row.history],
            }
        )
    every_s = config.quality.every_s or None
    return {"set": papers.answer(), "every_s": every_s, "replicas": rows}


class Gauges:
    """Keeps the metrics; series come with a replica's first run."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._shown: dict[str, State] = {}
        for subject in canary.subjects.values():
            self._figures(subject)

    def ended(self, subject: Subject, outcome: Outcome) -> None:
        """After a run."""
        replica = subject.replica
        metrics.quality_runs.labels(replica.name, replica.model, outcome).inc()
        self._figures(subject)

    def tick(self) -> None:
        """Bring states up to now; what is as it was costs nothing."""
        for name, subject in self._canary.subjects.items():
            state, _ = state_of(self._canary, subject)
            if self._shown.get(name) == state:
                continue
            self._shown[name] = state
            for each in STATES:
                labels = (name, subject.replica.model, each)
                metrics.quality_state.labels(*labels).set(1 if each == state else 0)

    def _figures(self, subject: Subject) -> None:
        last, replica = subject.row.last, subject.replica
        if last is None:
            return
        whole = Figures(ndcg10=last.ndcg10, mrr=last.mrr, recall3=last.recall3)
        for language, found in {WHOLE: whole, **last.by_language}.items():
            labels = (replica.name, replica.model, language)
            metrics.quality_ndcg.labels(*labels).set(found.ndcg10)
            metrics.quality_mrr.labels(*labels).set(found.mrr)
            metrics.quality_recall.labels(*labels).set(found.recall3)
        named = (replica.name, replica.model)
        metrics.quality_last_run.labels(*named).set(last.at)
        if last.drift is not None:
            metrics.quality_drift.labels(*named).set(last.drift.mean)
            metrics.quality_drift_tolerance.labels(*named).set(last.drift.tolerance)
