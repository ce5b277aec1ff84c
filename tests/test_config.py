"""A bad er.toml, of every kind: each finding on its line, with what to write; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from er import config
from er.config import ConfigError
from er.config.reader import SIDES
from er.dialects.texts import ENDINGS

GOOD = """\
[gateway]
workers = 2
[[model]]
name = "m"
task = "embed"
path = "/m"
[[model]]
name = "s"
task = "score"
via = "m"
[[replica]]
name = "r"
model = "m"
gpu = 0
port = 8000
"""
TLS = GOOD + "[gateway.tls]\n"
PLAIN = """\
[gateway]
listen = ["0.0.0.0:2048"]
[[model]]
name = "m"
task = "embed"
path = "/m"
[[replica]]
name = "r"
model = "m"
gpu = 0
port = 8000
"""
REMOTE = PLAIN.replace("gpu = 0\nport = 8000", 'url = "http://h:8000"')


def findings(text: str) -> list[tuple[int, str]]:
    """(line, message) of each finding of a file with that text."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, Path("er.toml"))
    for finding in caught.value.findings:
        assert str(finding) == f"er.toml:{finding.line}: error: {finding.message}"
    return [(finding.line, finding.message) for finding in caught.value.findings]


def test_the_good_one_is_good() -> None:
    assert len(config.parse(GOOD, Path("er.toml")).models) == 2


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        (2, "workers = 0", "workers is 0; it must be a whole number from 1 to 64"),
        (2, "workers = true", "workers is True; it must be a whole number"),
        (2, 'workers = "many"', "workers is 'many'; it must be a whole number"),
        (2, 'listen = "0.0.0.0:2048"', "listen must be a list of texts"),
        (2, "listen = []", "listen must name at least one address"),
        (2, 'listen = ["localhost:2048"]', "write ADDRESS:PORT, as in 0.0.0.0:2048"),
        (2, 'listen = ["0.0.0.0:0"]', "a port is a number from 1 to 65535"),
        (2, "max_concurrency = 0.5", "it must be a whole number from 1 to"),
        (2, 'rate_limit = "100"', 'write a rate as "100/minute"'),
        (2, "rate_limit = 100", 'write a rate as "100/minute"'),
        (2, "rate_wait = 2", 'write a time as "600s"'),
        (2, "leave_time = 5", 'write a time as "600s"'),
        (2, 'leave_time = "6m"', "leave_time is 6m; it must be from 0s to 5m"),
        (2, 'rate_wait = "2m"', "rate_wait is 2m; it must be from 0s to 1m"),
        (2, "timeout = 600", 'write a time as "600s"'),
        (2, 'timeout = "0s"', "timeout is 0s; it must be from 100ms to 1d"),
        (2, 'stop_timeout = "0s"', "stop_timeout is 0s; it must be from 1s to 1d"),
        (2, 'max_body = "32"', 'write a size as "32MiB"'),
        (2, 'max_body = "1B"', "max_body must be at least 1KiB"),
        (2, 'cors = "*"', "cors must be a list of texts"),
        (2, 'trusted_proxies = "10.0.0.7"', "trusted_proxies must be a list of texts"),
        (2, 'trusted_proxies = ["proxy"]', "'proxy'; write an address or a network, as 10"),
        (2, 'trusted_proxies = ["10.0.0.7/8"]', "that network is written 10.0.0.0/8"),
        (2, 'trusted_proxies = ["::/0"]', "which is everyone; name the proxies alone"),
        (2, "proxy_protocol = 1", "proxy_protocol must be true or false"),
        (2, "proxy_protocol = true", "proxy_protocol is taken from trusted_proxies only"),
        (2, 'cors = ["app.example"]', "cors has 'app.example'; write SCHEME://HOST[:PORT]"),
        (2, 'cors = ["https://a/"]', "in small letters, without a path"),
        (2, 'cors = ["https://*.a"]', "cors has 'https://*.a'; write SCHEME://HOST"),
        (2, 'cors = ["https://A"]', "in small letters"),
        (2, 'cors = ["https://a:443"]', "browsers leave :443 out"),
        (2, 'cors = ["*", "https://a"]', 'cors has "*", which is all origins, beside others'),
        (2, "max_inputs = 0", "max_inputs is 0; it must be a whole number from 1 to 16384"),
        (2, "max_documents = 1e3", "max_documents is 1000.0; it must be a whole number"),
        (2, "max_request_tokens = 4096", "it must be a whole number from 8192 to"),
        (2, 'max_rerank_tokens = "1M"', "max_rerank_tokens is '1M'; it must be a whole number"),
        (2, 'first_key_in_log = "yes"', "must be true or false"),
        (2, 'metrics = "9464"', "write ADDRESS:PORT"),
        (2, "worker = 2", "unknown key 'worker'; did you mean workers?"),
        (2, "shade = 2", "unknown key 'shade'; known here: cors, docs, first_key_in_log"),
        (4, "name = 5", "name must be text"),
        (5, 'task = "rerank"', "task is 'rerank'; it must be one of: embed, score"),
        (6, 'path = "models/m"', "path 'models/m' must be absolute"),
        (6, 'path = "/m"\naliases = "x"', "aliases must be a list of texts"),
        (6, 'path = "/m"\nmax_tokens = "8k"', "max_tokens is '8k'; it must be a whole number"),
        (6, 'path = "/m"\ntoken_ids = "yes"', "must be one of: refuse, cl100k, model"),
        (6, 'path = "/m"\nkind = "passage"', "must be one of: document, query"),
        (9, 'task = "score"\nkind = "query"', 'kind is for task = "embed"'),
        (8, 'name = "m"', "'m' already names another model"),
        (6, 'path = "/m"\naliases = ["m"]', "'m' already names this model"),
        (4, 'name = "m:query"', "'m:query' can't end in :query, by which clients say what"),
        (6, 'path = "/m"\naliases = ["x", "y:document"]', "can't end in :document"),
        (6, 'path = "/m"\nhold = true', "hold is True; it must be one of: off, bulk, all"),
        (6, 'path = "/m"\naliases = [" x"]', "' x' is empty, or has a blank at an end"),
        (6, 'path = "/m"\naliases = [""]', "'' is empty, or has a blank at an end"),
        (10, 'via = "nothing"', "via must name an embed model; there are: m"),
        (12, 'name = "Big One"', "a replica's name has only a-z, 0-9 and -"),
        (13, 'model = "x"', "no model 'x'; models: m, s"),
        (13, 'model = "s"', "s goes via m; no replica"),
        (14, 'gpu = "gpu0"', 'write an index, a UUID ("GPU-…", "MIG-…") or "cpu"'),
        (14, "gpu = -1", "gpu has -1; write an index"),
        (14, "gpu = [0, 0]", "gpu must name each GPU once"),
        (15, "port = 70000", "port is 70000; it must be a whole number from 1 to 65535"),
        (15, "port = 2048", "port 2048 is taken by the gateway"),
        (15, 'port = 8000\nkv_cache = "1"', 'write a size as "32MiB"'),
        (15, "port = 8000\ngpu_memory_utilization = 90", "it must be a number from 0.01 to 1.0"),
        (15, 'port = 8000\nargs = ["--port=1"]', "--port=1 is set by er-vllm itself"),
        (15, "port = 8000\nenv = { A = 1 }", "env must be a table of texts"),
        (15, 'port = 8000\nurl = "https://h/v1"', "write http://HOST:PORT, without a path"),
        (15, 'port = 8000\nvllm = "latest"', 'write a version ("0.25.1") or the absolute path'),
        (15, 'port = 8000\nvllm = "/srv/v/bin/python"', "name its environment: /srv/v"),
        (15, 'port = 8000\nvllm = "/srv/a\\nb"', "or the absolute path of an environment"),
        (15, 'port = 8000\nurl = "http://h:1"', "port means nothing beside url"),
    ],
)
def test_a_wrong_value_is_told_on_its_line(line: int, wrong: str, said: str) -> None:
    """The line of the key itself; of a second line in `wrong` the one after."""
    lines = GOOD.splitlines()
    lines[line - 1] = wrong
    found = findings("\n".join(lines))
    at = line + ("\n" in wrong and "port means" not in said)
    assert any(n == at and said in message for n, message in found), found


def test_the_endings_that_no_name_may_have_are_the_dialects() -> None:
    assert tuple(ENDINGS) == SIDES


@pytest.mark.parametrize(
    ("left_out", "at", "said"),
    [
        (4, 3, "name is missing from this [[model]]"),
        (5, 3, "task is missing from this [[model]]"),
        (6, 3, "path is missing from this [[model]]"),
        (12, 11, "name is missing from this [[replica]]"),
        (13, 11, "model is missing from this [[replica]]"),
        (14, 11, "gpu is missing from this [[replica]]"),
        (15, 11, "port is missing from this [[replica]]"),
    ],
)
def test_what_is_missing_is_told_at_its_table(left_out: int, at: int, said: str) -> None:
    lines = GOOD.splitlines()
    del lines[left_out - 1]
    found = findings("\n".join(lines))
    assert (at, said) in found


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "no [[model]]; name at least one"),
        ("[gateway\n", 1, "not TOML: Expected ']'"),
        ("[gateway]\nworkers = 1\nworkers = 2\n", 3, "not TOML: Cannot overwrite a value"),
        ("[gateway]\nworkers = \n", 2, "not TOML: Invalid value"),
        ("gateway = 1\n", 1, "gateway must be a [gateway] table"),
        ("model = 5\n", 1, "model must be written as [[model]] tables"),
        ("[model]\nname = 'm'\n", 1, "model must be written as [[model]] tables"),
        ("[gatway]\n", 1, "unknown key 'gatway'; did you mean gateway?"),
        ("costs = 1\n", 1, "costs must be a [costs] table"),
        ("[costs]\ngpu_hour = 0\n", 2, "gpu_hour is 0; it must be a number from 0.0001"),
        ('[costs]\ngpu_hour = 1\ncurrency = "$"\n', 3, "write its three letters, as in USD"),
        ('[costs]\ncurrency = "EUR"\n', 2, "currency means nothing without gpu_hour"),
        ("[costs]\ngpu_hours = 1\n", 2, "did you mean gpu_hour?"),
        ("batches = 1\n", 1, "batches must be a [batches] table"),
        ('[batches]\nquota = "1KiB"\n', 2, "quota must be at least 1MiB"),
        ("[batches]\nquota = 5\n", 2, 'write a size as "32MiB"'),
        ('[batches]\nkeep = "1s"\n', 2, "keep is 1s; it must be from 1m to 3650d"),
        ('[batches]\nquota = "1MiB"\nmax_file = "2MiB"\n', 3, "max_file is more than quota"),
        ('[batches]\nmax_files = "2MiB"\n', 2, "did you mean max_file?"),
        ("quality = 1\n", 1, "quality must be a [quality] table"),
        ('[quality]\nevery = "1s"\n', 2, "every is 1s; it must be from 10s to 3650d"),
        ("[quality]\nevery = 0\n", 2, 'write a time as "600s"'),
        ('[quality]\nact = "restart"\n', 2, "must be one of: take out, tell"),
        ('[quality]\nactt = "tell"\n', 2, "did you mean act?"),
        ("feedback = 1\n", 1, "feedback must be a [feedback] table"),
        ('[feedback]\nkeep = "1h"\n', 2, "keep is 1h; it must be from 1d to 3650d"),
        ('[feedback]\nkeeps = "9d"\n', 2, "did you mean keep?"),
        (TLS + 'listen = ["0.0.0.0:2048"]\n', 17, "port 2048, which is taken by the gateway"),
        (TLS + 'listen = ["0.0.0.0:9464"]\n', 17, "taken by the gateway's metrics"),
        (TLS + 'listen = ["0.0.0.0:8000"]\n', 15, "port 8000 is taken by HTTPS"),
        (TLS + "listen = []\n", 17, "listen must name at least one address"),
        (TLS + 'key = "key.pem"\n', 17, "must be an absolute path"),
        (TLS + 'client_certificates = "yes"\n', 17, "must be one of: off, ask, require"),
        (TLS + 'client_certificates = "ask"\n', 17, "client_certificates needs client_ca"),
        (TLS + 'client_ca = "/ca.pem"\n', 17, "means nothing without client_certificates"),
        (TLS + 'http2 = "no"\n', 17, "http2 must be true or false"),
        (TLS + 'cert = "/c.pem"\n', 17, "unknown key 'cert'"),
        ("[gateway]\ntls = 1\n", 2, "gateway.tls must be a [gateway.tls] table"),
    ],
)
def test_what_is_no_er_toml(text: str, line: int, said: str) -> None:
    assert any(number == line and said in message for number, message in findings(text))


def test_all_findings_come_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("workers = 2", "workers = 99").replace("8000", "0").replace("embed", "x", 1)
    lines = [line for line, _ in findings(text)]
    assert len(lines) >= 3
    assert lines == sorted(lines)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8: each says which file and why."""
    path = tmp_path / "er.toml"
    for make, said in (
        (lambda: None, "no such file; run install.sh, or name one with --config"),
        (lambda: path.write_bytes(b"\xff\xfe"), "can't be read: 'utf-8' codec"),
        (lambda: (path.unlink(), path.mkdir()), "can't be read: [Errno 21] Is a directory"),
    ):
        make()
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        (finding,) = caught.value.findings
        assert finding.file == str(path) and said in finding.message


# -- values that no struct may hold ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (PLAIN, "0.0.0.0:2048", "0.0.0.0:²", "a port is a number from 1 to 65535"),
        (PLAIN, "[gateway]", '[gateway]\ntimeout = "999999d"', "it must be from 100ms to 1d"),
        (PLAIN, '"/m"', '"/m\\u0000"', "path has a NUL character in it"),
        (PLAIN, '"m"', '"m\\u0000"', "name has a NUL character in it"),
        (PLAIN, "gpu = 0", 'gpu = 0\nargs = ["a\\u0000"]', "args has a NUL character in it"),
        (PLAIN, "gpu = 0", 'gpu = 0\nenv = { "A=B" = "x" }', "env has 'A=B'; a variable's name"),
        (PLAIN, "gpu = 0", 'gpu = 0\nenv = { A = "\\u0000" }', "env has a NUL character in it"),
        (REMOTE, "http://h:8000", "http://[::1", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://h:99999", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://h:8000?a=b", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://me:secret@h:8000", "has a user or password in it"),
    ],
)
def test_what_no_program_can_be_given_is_found(text: str, old: str, new: str, said: str) -> None:
    changed = text.replace(old, new, 1)
    line, message = findings(changed)[0]
    assert said in message
    assert changed.splitlines()[line - 1].startswith(message.split()[0])
    assert "secret" not in message


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_numbers_and_nesting_beyond_measure_are_no_toml(value: str) -> None:
    assert "not TOML" in findings(f"x = {value}")[0][1]


def test_the_mark_that_some_editors_put_first_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "er.toml"
    path.write_text("\ufeff" + PLAIN, encoding="utf-8")
    assert config.load(path).replicas[0].name == "r"
