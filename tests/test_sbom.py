"""What is installed and why: `er sbom`, the table of dependencies, the hashes in the lock files."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from er.cli import sbom
from er.cli.__main__ import main

TOP = Path(__file__).parent.parent
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TEXT = {"type": "string", "minLength": 1}
LICENCE = {
    "oneOf": [
        {
            "type": "object",
            "required": ["license"],
            "additionalProperties": False,
            "properties": {
                "license": {
                    "type": "object",
                    "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
                    "properties": {"id": {"enum": ["Apache-2.0"]}, "name": TEXT},
                    "additionalProperties": False,
                }
            },
        },
        {
            "type": "object",
            "required": ["expression"],
            "additionalProperties": False,
            "properties": {"expression": TEXT},
        },
    ]
}
REFERENCE = {
    "type": "object",
    "required": ["url", "type"],
    "additionalProperties": False,
    "properties": {
        "url": TEXT,
        "type": {"const": "distribution"},
        "hashes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["alg", "content"],
                "additionalProperties": False,
                "properties": {
                    "alg": {"const": "SHA-256"},
                    "content": {"type": "string", "pattern": "^[a-f0-9]{64}$"},
                },
            },
        },
    },
}
COMPONENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "name"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library"]},
        "bom-ref": TEXT,
        "name": {"type": "string"},
        "version": {"type": "string", "maxLength": 1024},
        "purl": {"type": "string", "pattern": r"^pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.%]+$"},
        "licenses": {"type": "array", "items": LICENCE},
        "externalReferences": {"type": "array", "items": REFERENCE},
        "properties": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "maxProperties": 2},
        },
    },
}
# What CycloneDX 1.6 requires of the parts that are used, and that there are no others.
SCHEMA = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {
            "type": "string",
            "pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        },
        "version": {"type": "integer", "minimum": 1},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
                "tools": {
                    "type": "object",
                    "properties": {"components": {"type": "array", "items": COMPONENT}},
                },
                "component": COMPONENT,
            },
        },
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "object",
                "required": ["ref"],
                "additionalProperties": False,
                "properties": {
                    "ref": TEXT,
                    "dependsOn": {"type": "array", "items": TEXT, "uniqueItems": True},
                },
            },
        },
    },
}


def environment(prefix: Path, **packages: str) -> Path:
    """A made-up environment: packages by name, with the text of their metadata."""
    for name, about in packages.items():
        folder = prefix / f"lib/python3.11/site-packages/{name}-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\n{about}\n")
    return prefix


def test_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it fits the schema; every direct dependency has a licence and the lock's hashes."""
    assert main(["sbom", "--no-vllm"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    found = {component["name"]: component for component in document["components"]}
    refs = [component["bom-ref"] for component in document["components"]]
    assert len(set(refs)) == len(refs) and "er" not in found
    for name in direct():
        assert found[name]["licenses"], name
        (reference,) = found[name]["externalReferences"]
        lock = (TOP / "lock.light.txt").read_text()
        assert all(one["content"] in lock for one in reference["hashes"]) and reference["hashes"]
    known = {*refs, document["metadata"]["component"]["bom-ref"]}
    for edge in document["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known
    edges = {edge["ref"]: edge["dependsOn"] for edge in document["dependencies"]}
    httpx = next(ref for ref in refs if ref.startswith("light:httpx@"))
    assert any(ref.startswith("light:httpcore@") for ref in edges[httpx])


def test_both_environments(tmp_path: Path) -> None:
    """Licences in each form that packages have; another version of a package is another part."""
    light = environment(
        tmp_path / "light",
        Torch_x="Version: 2.13.0+cu130\nLicense-Expression: BSD-3-Clause AND MIT",
        plain="Version: 1\nLicense: MIT\nRequires-Dist: torch-x>=1 ; extra == 'gpu'",
    )
    (light / "share").mkdir()
    (light / "share/lock.light.txt").write_text(f"plain==1 --hash=sha256:{'a' * 64}\n")
    other = environment(
        tmp_path / "vllm",
        plain="Version: 2\nClassifier: License :: OSI Approved :: MIT License\n"
        "Requires-Dist: long (>=1); python_version > '3'\nRequires-Dist: absent",
        long=f"Version: 1\nLicense: {'x' * 99}",
    )
    document = sbom.document(str(light), other, NOW)
    jsonschema.validate(document, SCHEMA)
    parts = {part["bom-ref"]: part for part in document["components"]}
    assert set(parts) == {
        *("light:plain@1", "light:torch-x@2.13.0+cu130"),
        *("vllm:plain@2", "vllm:long@1"),
    }
    torch = parts["light:torch-x@2.13.0+cu130"]
    assert torch["purl"] == "pkg:pypi/torch-x@2.13.0%2Bcu130"
    assert torch["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert parts["light:plain@1"]["externalReferences"][0]["hashes"][0]["content"] == "a" * 64
    assert parts["vllm:plain@2"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert "licenses" not in parts["vllm:long@1"]
    edges = {edge["ref"]: edge["dependsOn"] for edge in document["dependencies"]}
    assert edges["vllm:plain@2"] == ["vllm:long@1"] and edges["light:plain@1"] == []
    assert sbom.document(str(light), other, NOW) == document
    assert sbom.document(str(light), None, NOW)["serialNumber"] != document["serialNumber"]


def test_vllm_is_asked_for_and_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ER_VLLM_PYTHON", str(tmp_path / "bin/python"))
    assert main(["sbom", "--vllm"]) == 1
    assert "install.sh makes one" in capsys.readouterr().err
    environment(tmp_path, vllm="Version: 0.32.0\nLicense: Apache-2.0")
    assert main(["sbom"]) == 0
    assert '"vllm:vllm@0.32.0"' in capsys.readouterr().out


def direct() -> list[str]:
    """The direct dependencies, as pyproject.toml has them."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in project["dependencies"]]
    return [sbom.normal(name[0]) for name in names if name]


def test_each_direct_dependency_has_its_reason() -> None:
    """The table of `er help dependencies` is pyproject's list, no more and no less."""
    page = (TOP / "daemon/er/help/dependencies.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9]+[a-z0-9-]*) \| (.+) \|$", page, re.M)[1:]
    assert [name for name, _ in rows] == sorted(direct())
    assert all(len(reason) > 10 for _, reason in rows)


@pytest.mark.parametrize("name", ["lock.light.txt", "lock.vllm.txt", "lock.vllm-cpu.txt"])
def test_all_that_is_locked_has_hashes(name: str) -> None:
    """But for the packages of several builds a version, which the file's head names."""
    text = (TOP / name).read_text()
    said = re.search(
        r"^# Without a hash, as several builds of one version exist: (.*)\.$", text, re.M
    )
    without = set(said[1].split(", ")) if said else set()
    assert without <= {"torch", "torchaudio", "torchcodec", "torchvision"}
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    bare = {line.split("==")[0] for line in lines if not sbom.LOCK.match(line)}
    assert bare == without and (name != "lock.light.txt" or not without) and len(lines) > 50
