"""The schemas of requests: the dialects' structs, with their own words and what bounds them."""

from __future__ import annotations

from typing import Any

import msgspec

from er.dialects.json_body import Shape
from er.openapi.bounds import FIELDS, NEEDS, NULL, SAYS, Schema

# As the vendors write themselves.
VENDORS = {
    "cohere": "Cohere",
    "dashscope": "DashScope",
    "ollama": "Ollama",
    "batches": "Batches",
    "feedback": "Feedback",
    "openai": "OpenAI",
    "pooling": "vLLM",
    "rerank": "Rerank",
    "tei": "TEI",
    "vllm": "vLLM",
}


def _vendor(shape: Shape[Any]) -> str:
    return VENDORS[shape.struct.__module__.rsplit(".", 1)[-1]]


def ref(shape: Shape[Any]) -> Schema:
    """Where the schema of that request stands in the document."""
    return {"$ref": f"#/components/schemas/{_vendor(shape)}.{shape.struct.__name__}"}


def schemas(shape: Shape[Any]) -> dict[str, Schema]:
    """The schemas of a request and of the objects inside it, by their names in the document."""
    vendor = _vendor(shape)
    template = f"#/components/schemas/{vendor}.{{name}}"
    _, parts = msgspec.json.schema_components([shape.struct], ref_template=template)
    found = {}
    for name, part in parts.items():
        whole = f"{vendor}.{name}"
        said = shape.fields if name == shape.struct.__name__ else {}
        needs = NEEDS.get(whole, {})
        properties = {
            field: _field(f"{whole}.{field}", given, said.get(field), needs.get("required", ()))
            for field, given in part["properties"].items()
        }
        found[whole] = {**part, "title": whole, "properties": properties, **needs}
    return found


def _field(whole: str, given: Schema, says: str | None, needed: Any) -> Schema:
    """One field's schema; `given` is what follows from its type."""
    name = whole.rsplit(".", 1)[-1]
    bound = FIELDS.get(whole, FIELDS.get(name))
    schema = dict(given if bound is None else bound)
    schema.pop("default", None)  # null, the same as absent
    known = schema.get("anyOf", [schema])
    if NULL in given.get("anyOf", ()) and NULL not in known and name not in needed:
        schema = {"anyOf": [*known, NULL]}
    schema["description"] = SAYS[whole] if says is None else says
    return schema
