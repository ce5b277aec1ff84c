"""The rows of the READMEs' table of clients, each declared beside the tests that prove it.

A library is declared by the Python expressions that its user writes, with whole dotted names,
`http://HOST:2048` for the address and `sk-er-…` for the key; the test makes its client from them:

    VOYAGE = client_rows.Client(
        "Voyage",
        packages=["voyageai"],
        lines=['voyageai.Client(base_url="http://HOST:2048/v1", api_key="sk-er-…")'],
    )

    @VOYAGE.proves("embeddings", "queries")
    def test_voyage_embeddings(er: Gateway) -> None:
        client = VOYAGE.make(0, root(er), er.key)       # the first line, here and now

An application, whose requests are replayed as they were recorded, is declared by its form's fields:

    DIFY = client_rows.Client(
        "Dify, OpenAI-API-compatible",
        recorded="1.9.2",
        fields={"API endpoint URL": "http://HOST:2048/v1", "API Key": "sk-er-…"},
        page="dify",                                    # `er help dify`
    )

    @DIFY.proves("embeddings", "errors")
    def test_dify_embeds(er: Gateway) -> None:
        base = DIFY.field("API endpoint URL", root(er), er.key)

What a test may prove is in `WORDS`. `tests/clients_table` runs these tests and writes the table;
tests/test_clients_table.py fails where the READMEs differ from what is declared. Test files that
declare rows are found by such a line, not indented. They import their SDKs inside the tests and
fixtures: every process of a parallel run imports every file, and the SDKs take seconds each.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

TESTS = Path(__file__).parent
ADDRESS, KEY = "http://HOST:2048", "sk-er-…"
BEGIN = "<!-- clients: written by tests/clients_table -->"
END = "<!-- end of clients -->"
READMES = {"README.md": False, "README.zh-CN.md": True}  # which is Chinese

Function = TypeVar("Function", bound=Callable[..., Any])


class Word(NamedTuple):
    """Something that can be proven: its name and meaning, in both languages."""

    chinese: str
    meaning: str
    meaning_chinese: str


# In the order of the table.
WORDS = {
    "embeddings": Word("embedding", "the right numbers", "数值正确"),
    "queries": Word(
        "查询", "queries get their instruction, documents none", "查询文本带指令，文档不带"
    ),
    "dimensions": Word("维度", "shorter vectors", "截短向量"),
    "types": Word("类型", "int8, binary and the like", "int8、binary 等"),
    "rerank": Word("rerank", "the right score at each index", "每个序号的分数正确"),
    "instruction": Word("指令", "a task sentence of one's own", "自定义任务描述"),
    "long texts": Word("长文本", "cut where the client says so", "按客户端的要求截断"),
    "errors": Word(
        "错误",
        "its own exceptions for a wrong key, an unknown model, too long a text, too many "
        "requests, no replica",
        "key 错误、模型不存在、文本过长、请求过多、没有副本时抛出客户端自己的异常",
    ),
    "retries": Word(
        "重试", "a refusal that passes is not seen by the user", "暂时的拒绝由客户端自行重试"
    ),
}


class Client:
    """One row: a client, how it is set up, what the tests have proven of it."""

    all: dict[str, Client] = {}  # noqa: RUF012 - the registry; filled by importing the test files

    def __init__(
        self,
        name: str,
        *,
        packages: Sequence[str] = (),
        recorded: str = "",
        lines: Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        page: str = "",
        note: tuple[str, str] = ("", ""),
    ) -> None:
        """`packages`: distributions whose version is shown; `recorded`: that of an application;
        `page`: a topic of `er help`; `note`: what else to know, in English and Chinese."""
        assert bool(packages) != bool(recorded), "a library has packages, an application a version"
        assert bool(lines) != bool(fields), "a library has lines, an application fields"
        self.name, self.packages, self.recorded = name, tuple(packages), recorded
        self.lines, self.fields, self.page = tuple(lines), dict(fields or {}), page
        self.note = note
        self.proven: dict[str, set[str]] = {}  # word -> names of its tests
        self.used: set[int | str] = set()  # lines and fields that a test has built from
        twin = Client.all.get(name)
        assert twin is None or twin.lines == self.lines, f"{name} is declared twice"
        Client.all[name] = self

    def proves(self, *words: str) -> Callable[[Function], Function]:
        """A decorator: the test it stands on proves these of WORDS for this client."""
        assert words and set(words) <= set(WORDS), set(words) - set(WORDS)

        def mark(test: Function) -> Function:
            for word in words:
                self.proven.setdefault(word, set()).add(f"{test.__module__}.{test.__name__}")
            return test

        return mark

    def make(
        self,
        line: int,
        address: str,
        key: str,
        given: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Any:
        """The value of a line at this gateway. `given`: names that the line leaves to its user;
        `changes`: keyword arguments of the call in place of the line's own, or besides them."""
        self.used.add(line)
        tree = ast.parse(here(self.lines[line], address, key), mode="eval")
        if changes:
            call = tree.body
            assert isinstance(call, ast.Call)
            kept = [k for k in call.keywords if k.arg not in changes]
            call.keywords = kept + [
                ast.keyword(arg=k, value=ast.Name(id=f"changed_{k}", ctx=ast.Load()))
                for k in changes
            ]
            ast.fix_missing_locations(tree)
        names = {**(given or {}), **{f"changed_{k}": v for k, v in changes.items()}}
        return _value(tree, names)

    def assign(self, line: int, address: str, key: str, patch: pytest.MonkeyPatch) -> None:
        """Do what a line `module.NAME = value` says, until the end of the test."""
        self.used.add(line)
        target, _, value = here(self.lines[line], address, key).partition(" = ")
        owner, _, name = target.rpartition(".")
        module = importlib.import_module(owner)
        patch.setattr(module, name, _value(ast.parse(value, mode="eval"), {}))

    def field(self, label: str, address: str, key: str) -> str:
        """What a user puts into that field of the form, for this gateway."""
        self.used.add(label)
        return here(self.fields[label], address, key)

    def unused(self) -> list[str]:
        """Lines and fields that no test has built from so far."""
        lines = [text for i, text in enumerate(self.lines) if i not in self.used]
        return lines + [label for label in self.fields if label not in self.used]

    def version(self) -> str:
        """What was tested: "voyageai 0.5.0", or an application's version."""
        found = [f"{name} {importlib.metadata.version(name)}" for name in self.packages]
        return ", ".join(found) or self.recorded

    def row(self, chinese: bool) -> str:
        """Its line of the table."""
        words = [word for word in WORDS if word in self.proven]
        shown = [WORDS[w].chinese for w in words] if chinese else words
        setup = [f"`{line}`" for line in self.lines]
        setup += [f"{label}: `{value}`" for label, value in self.fields.items()]
        if self.page:
            setup.append(f"`er help {self.page}`")
        if any(self.note):
            setup.append(self.note[chinese])
        how = "<br>".join(setup).replace("|", "\\|")
        if chinese:
            how = how.replace("HOST", "主机")
        name = self.name.replace(", ", "，") if chinese else self.name
        return f"| {name} | {self.version()} | {('、' if chinese else ', ').join(shown)} | {how} |"


def here(text: str, address: str, key: str) -> str:
    """A text of the table with this gateway's address and key in it."""
    return text.replace(ADDRESS, address).replace(KEY, key)


def _value(tree: ast.Expression, names: dict[str, Any]) -> Any:
    """What the expression comes to; whatever its dotted names begin with is imported."""
    space = dict(names)
    for node in ast.walk(tree):
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"[\w.]+", dotted) and dotted.partition(".")[0] not in names:
            space[dotted.partition(".")[0]] = _import(dotted)
    return eval(compile(tree, "<line of the table>", "eval"), space)


def _import(dotted: str) -> Any:
    """The first module of a dotted name, with those below it imported."""
    path, *rest = dotted.split(".")
    first = found = importlib.import_module(path)
    for part in rest:
        path = f"{path}.{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)
    return first


def files() -> list[Path]:
    """The test files that declare rows: `NAME = Client(...)`, or `ROWS`, a list of them."""
    mine = re.compile(r"^\w+ = (?:client_rows\.)?Client\(|^ROWS = ", re.MULTILINE)
    found = sorted(TESTS.glob("test_*.py"))
    return [path for path in found if mine.search(path.read_text(encoding="utf-8"))]


def declared() -> list[Client]:
    """All rows, in the order of the table: libraries, then applications, by name."""
    for path in files():
        importlib.import_module(path.stem)
    return sorted(Client.all.values(), key=lambda c: (bool(c.fields), c.name.lower()))


def table(chinese: bool) -> str:
    """What stands between BEGIN and END in that README, without them."""
    rows = declared()
    proven = [word for word in WORDS if any(word in row.proven for row in rows)]
    if chinese:
        legend = "；".join(f"{WORDS[w].chinese}：{WORDS[w].meaning_chinese}" for w in proven)
        head = ["| 客户端 | 测试版本 | 已验证 | 如何配置 |"]
    else:
        legend = "; ".join(f"*{word}*: {WORDS[word].meaning}" for word in proven)
        head = ["| client | tested | what works | how to configure |"]
    body = [*head, "| --- | --- | --- | --- |", *(row.row(chinese) for row in rows)]
    return "\n".join([legend + ("。" if chinese else "."), "", *body])


def with_table(text: str, chinese: bool) -> str:
    """A README's text with the table as it is declared. Raises ValueError without the markers."""
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END + "\n")
    if not (begin and end):
        raise ValueError(f"{BEGIN} and {END} are not both there")
    return f"{before}{begin}{table(chinese)}\n{end}{after}"
