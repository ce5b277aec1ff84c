"""`er sbom`: what is installed as a CycloneDX 1.6 document: names, versions, licences, hashes."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import orjson

from er import __version__
from er.engine.build import find_python

Environment = Literal["light", "vllm"]
LOCK = re.compile(r"([A-Za-z0-9._-]+)==(\S+)(?: ;[^#\n]*?)?((?: --hash=sha256:[0-9a-f]{64})+)")
LICENCE_MAX = 64  # characters of a name
NAMESPACE = uuid.UUID("6f1d5f0e-6f2e-5d9b-9a3b-1d0f3a6f2c11")  # of our documents' serial numbers


def run(vllm: bool | None) -> int:
    """Print the document; `vllm` None: with vLLM's environment where there is one."""
    try:
        found = document(sys.prefix, vllm_prefix(vllm), datetime.now(UTC))
    except FileNotFoundError as error:
        print(f"er sbom: {error}", file=sys.stderr)
        return 1
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    return 0


def vllm_prefix(wanted: bool | None) -> Path | None:
    """The folder of vLLM's environment; None: without. Raises FileNotFoundError."""
    if wanted is False:
        return None
    prefix = find_python(os.environ).parent.parent
    there = prefix != Path(sys.prefix) and any(sites(prefix))
    if wanted and not there:
        raise FileNotFoundError(
            f"vLLM has no environment of its own in {prefix}; install.sh makes one, or set "
            "ER_VLLM_PYTHON"
        )
    return prefix if there else None


def sites(prefix: Path) -> Iterator[Path]:
    """Where an environment's packages lie."""
    yield from sorted(prefix.glob("lib/python3.*/site-packages"))


def document(light: str, vllm: Path | None, now: datetime) -> dict[str, Any]:
    """CycloneDX's JSON for the environments in these folders."""
    components, edges = [], []
    for environment, prefix in (("light", Path(light)), ("vllm", vllm)):
        if prefix is not None:
            more, refs = _environment(environment, prefix)
            components += more
            edges += refs
    root = f"er@{__version__}"
    named = [component["bom-ref"] for component in components]
    serial = uuid.uuid5(NAMESPACE, "\n".join([root, *named]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {
                "components": [{"type": "application", "name": "er", "version": __version__}]
            },
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "er",
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": named}, *edges],
    }


def _environment(
    environment: str, prefix: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Its components, and what each of them needs of the others."""
    paths = [str(path) for path in sites(prefix)]
    found: dict[str, Distribution] = {}
    for one in distributions(path=paths):
        name = one.metadata["Name"]
        if name and normal(name) != "er":
            found.setdefault(normal(name), one)
    hashes = locked(environment, prefix)
    refs = {name: f"{environment}:{name}@{one.version}" for name, one in found.items()}
    components, edges = [], []
    for name, one in sorted(found.items()):
        component = {
            "type": "library",
            "bom-ref": refs[name],
            "name": name,
            "version": one.version,
            "purl": f"pkg:pypi/{name}@{quote(one.version, safe='.')}",
            "properties": [{"name": "er:environment", "value": environment}],
        }
        if licences := licences_of(one):
            component["licenses"] = licences
        if known := hashes.get((name, one.version)):
            # Any one of these archives was installed: which depends on the machine.
            component["externalReferences"] = [
                {
                    "type": "distribution",
                    "url": component["purl"],
                    "hashes": [{"alg": "SHA-256", "content": content} for content in known],
                }
            ]
        components.append(component)
        needs = sorted({refs[need] for need in _needs(one) if need in refs and need != name})
        edges.append({"ref": refs[name], "dependsOn": needs})
    return components, edges


def licences_of(one: Distribution) -> list[dict[str, Any]]:
    """As the package says it: an expression, else its classifiers, else a name."""
    expression = _field(one, "License-Expression")
    if expression:
        return [{"expression": expression}]
    said = [
        text.split(" :: ")[-1]
        for text in one.metadata.get_all("Classifier") or []
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    name = _field(one, "License").partition("\n")[0]  # where all of it stands there: its title
    if not said and name and len(name) <= LICENCE_MAX:
        said = [name]
    return [{"license": {"name": text}} for text in dict.fromkeys(said)]


def _field(one: Distribution, name: str) -> str:
    return str((one.metadata.get_all(name) or [""])[0]).strip()


def locked(environment: str, prefix: Path) -> Mapping[tuple[str, str], list[str]]:
    """The hashes of the archives that may have been installed, by name and version."""
    here = Path(__file__).parents[3]  # a checkout has them at its top
    folders = [prefix / "share", *([here] if prefix == Path(sys.prefix) else [])]
    found: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"lock.{environment}*.txt")):
            for name, version, hashes in LOCK.findall(path.read_text(encoding="utf-8")):
                contents = hashes.replace(" --hash=sha256:", " ").split()
                known = found.setdefault((normal(name), version), [])
                known += [content for content in contents if content not in known]
    return found


def normal(name: str) -> str:
    """A package's name as all tools write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(one: Distribution) -> Iterator[str]:
    for line in one.requires or []:
        name, _, marker = line.partition(";")
        if "extra" not in marker and (found := re.match(r"[A-Za-z0-9._-]+", name.strip())):
            yield normal(found[0])
