"""The references that a replica's scores are held against: read, and recorded from a good run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from er.admin.canary_papers import Sets
from er.config import Config, Replica
from er.exam import Scores
from er.fingerprint import weights
from er.journal import Seldom, log
from er.quality import reference
from er.quality.reference import Reference, ReferenceFileError

BY_CHANCE = "order"  # stands in made_with where the order was no better than chance


class References:
    """In STATE/quality/reference. All of it blocks for some milliseconds."""

    def __init__(self, config: Config, state: Path) -> None:
        self._config, self._state = config, state
        self._unsaid = Seldom(3600.0)

    def name(self, replica: Replica) -> str:
        """The model's; where it runs on GPUs too, those on a CPU are by themselves.

        er.toml's usual number format differs between the two.
        """
        beside = self._config.replicas_of(replica.model)
        mixed = replica.cpu and not all(r.cpu for r in beside)
        return f"{replica.model}@cpu" if mixed else replica.model

    def made_with(
        self, replica: Replica, sets: Sets, sample: Mapping[str, Any] | None
    ) -> dict[str, str]:
        """What a run of `replica` is of, in words to compare later ones with."""
        model = self._config.model(replica.model)
        assert model is not None and model.path is not None
        said = {"weights": weights.fingerprint(model.path), "prompt": sets.shipped.digest}
        for key, name in (("vllm_version", "vllm"), ("identity", "engine")):
            if (sample or {}).get(key):
                said[name] = str((sample or {})[key])
        return said

    def of(self, replica: Replica, sets: Sets, made_with: Mapping[str, str]) -> list[Reference]:
        """Those of the same set and weights. One that is damaged is told in the journal."""
        found = []
        names = [(self.name(replica), "recorded"), (replica.model, "transformers")]
        for name, kind in names:
            file = reference.path(self._state, name, kind)  # type: ignore[arg-type]
            try:
                known = reference.read(file)
            except ReferenceFileError as error:
                if self._unsaid.due(str(file)):
                    log("warning", str(error), replica=replica.name)
                continue
            if known is None or not known.fits(sets.canary):
                continue
            if known.made_with.get("weights", made_with["weights"]) == made_with["weights"]:
                found.append(known)
        return found

    def record(
        self,
        replica: Replica,
        sets: Sets,
        scores: Scores,
        *,
        made_with: Mapping[str, str],
        noise: float,
        by_chance: bool,
        now: float,
    ) -> Reference | None:
        """Keep `scores` as its model's reference; None, told in the journal, where it can't."""
        said = {**made_with, "replica": replica.name}
        made = Reference(
            kind="recorded",
            model=self.name(replica),
            at=now,
            set=sets.canary.sha256,
            made_with=said | ({BY_CHANCE: "chance"} if by_chance else {}),
            scores=tuple(tuple(row) for row in scores),
            noise=noise,
        )
        try:
            reference.write(reference.path(self._state, made.model, "recorded"), made)
        except ReferenceFileError as error:
            if self._unsaid.due("write"):
                log("warning", f"no reference is recorded: {error}", replica=replica.name)
            return None
        text = f"replica {replica.name}: its answers are the reference of {made.model} from now on"
        log("info", f"{text} (mean {noise:.2g} between two runs)", replica=replica.name)
        return made
