"""Steady traffic while something is done to the machine; each answer is checked, none is lost."""

from __future__ import annotations

import base64
import threading
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from machine import GATEWAY


class Load:
    """Clients that send embeddings of known texts in a loop; `with Load(...) as load: ...`"""

    def __init__(self, key: str, model: str, rows: list[dict[str, Any]], clients: int = 4) -> None:
        self.key, self.model, self.rows = key, model, rows
        self.sent = self.right = 0
        self.bad: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._loop, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _loop(self, number: int) -> None:
        with httpx.Client(base_url=GATEWAY, timeout=60) as client:
            while not self._stop.is_set():
                row = self.rows[number % len(self.rows)]
                number += 1
                body = {"model": self.model, "input": row["text"], "encoding_format": "base64"}
                try:
                    answer = client.post(
                        "/v1/embeddings",
                        json=body,
                        headers={"authorization": f"Bearer {self.key}"},
                    )
                    problem = self._problem(answer, row)
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                with self._lock:
                    self.sent += 1
                    if problem is None:
                        self.right += 1
                    else:
                        self.bad.append(problem)

    @staticmethod
    def _problem(answer: httpx.Response, row: dict[str, Any]) -> str | None:
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:200]}"
        text = answer.json()["data"][0]["embedding"]
        got = np.frombuffer(base64.b64decode(text), "<f4")
        if np.abs(got - row["embedding"]).max() > 1e-5:
            return f"the answer of another text for {row['name']}"
        return None
