"""For schemathesis: a client's address for each request, and what a body may be refused for.

Each excuse is about something that no schema of one body can say: er.toml, the model's files, two
fields together. What is refused with other words fails the run.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from typing import Any

import requests
import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

EXCUSED = re.compile(
    r"holds token ids\. They|prompt goes before texts"  # er.toml's token_ids refuses them
    r"|special tokens included; the limit"  # the model's, or what max_tokens leaves
    r"|the limit of this model"
    r"|dimensions? .*\d+|output_dimension"  # more than the model has
    r"|is asked at /v1/"  # a model of the other task
    r"|send one text in|as many as in"  # pairs
    r"|has no field text|none of the rank_fields"  # objects, told by rank_fields what counts
    r"|instruction in chat_template_kwargs must be"
    r"|is a number with a fraction"  # 5.0, which JSON Schema calls whole
    r"|there is nothing left to cancel"
    r"|completion_window is .* at most 30d"
    r"|no model here classifies|no model here is of the kind"
    r"|the request ranked (no|only)"  # of another request, whose id it names
)

ADDRESSES = (str(ipaddress.IPv4Address("10.0.0.0") + n) for n in itertools.count(1))


def _forwarded(_adapter: Any, request: requests.PreparedRequest, **_: Any) -> None:
    """Say that another client asked: many wrong keys from one are answered later and later."""
    request.headers["X-Forwarded-For"] = next(ADDRESSES)


requests.adapters.HTTPAdapter.add_headers = _forwarded  # type: ignore[assignment]


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether the failure counts."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code not in (400, 424):
        return True
    return EXCUSED.search(response.content.decode()) is None
