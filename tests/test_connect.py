"""`er connect`: what it prints works as it stands, with the gateway up and with it down.

The printed code of LangChain and LlamaIndex is run in the tests of those clients, the printed forms
are filled in by tests/test_apps.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_interface
from pathlib import Path

import msgspec
import pytest

import certificates
import client_gateway
import connected
from er import keys
from er.cli import connect, connect_texts, network, registered
from er.cli.__main__ import main
from er.cli.connect_texts import CLIENTS, Facts, Served
from er.cli.network import Interface
from er.cli.reached import Certificate, Reached, public, reached
from er.config import Gateway as Settings
from er.config import Tls
from fakes import EngineProcess
from running import DIMENSIONS, Gateway

EMBED = Served("one", "embed", 8192, 1024, 2048, 300_000)
SCORE = Served("two", "score", 8192, None, 10_000, 10_000_000)
FACTS = Facts("http://10.0.0.5:2048", "", "sk-er-…", EMBED, SCORE, ("Mind this",))


def machine(*more: Interface) -> list[Interface]:
    """A server with Docker on it."""
    return [
        Interface("lo", (ip_interface("127.0.0.1/8"), ip_interface("::1/128"))),
        Interface("docker0", (ip_interface("172.17.0.1/16"),)),
        Interface("eth1", (ip_interface("192.168.7.9/24"),)),
        Interface("eth0", (ip_interface("10.0.0.5/24"), ip_interface("fe80::1/64"))),
        *more,
    ]


def there(settings: Settings, certificate: Certificate | None = None, *more: Interface) -> Reached:
    return reached(settings, machine(*more), "10.0.0.5", certificate)


# -- where it is reached -------------------------------------------------------------------------


def test_all_addresses_come_down_to_the_one_that_others_know() -> None:
    found = there(Settings())
    assert found.root == "http://10.0.0.5:2048" and found.ca == ""
    told = "\n".join(found.remarks)
    assert "http://192.168.7.9:2048" in told and "fe80" not in told
    assert "http://172.17.0.1:2048" in told and "http://host.docker.internal:2048" in told
    assert reached(Settings(), machine(), "", None).root == "http://192.168.7.9:2048"


def test_loopback_alone_is_said_with_the_line_that_opens_it() -> None:
    found = there(Settings(listen=("127.0.0.1:2048", "[::1]:2048")))
    assert found.root == "http://127.0.0.1:2048"
    (told,) = found.remarks
    assert "no container" in told and '`listen = ["0.0.0.0:2048"]`' in told and "er apply" in told


def test_a_machine_without_a_network_has_containers_still() -> None:
    inner = machine()[:2]
    assert reached(Settings(), inner, "", None).root == "http://172.17.0.1:2048"
    assert reached(Settings(), inner[:1], "", None).root == "http://127.0.0.1:2048"
    assert reached(Settings(), [], "", None).root == "http://127.0.0.1:2048"


def test_one_address_and_ipv6() -> None:
    found = there(Settings(listen=("192.168.7.9:80",)))
    assert found.root == "http://192.168.7.9:80" and found.remarks == ()
    wide = Interface("eth2", (ip_interface("fd00::5/64"),))
    assert there(Settings(listen=("[::]:2048",)), None, wide).root == "http://[fd00::5]:2048"


def test_https_by_the_name_of_its_certificate() -> None:
    both = Settings(tls=Tls())
    bought = Certificate(("localhost", "*.example", "er.example", "10.0.0.5"), False, "/c.pem")
    found = there(both, bought)
    assert found.root == "https://er.example:2443" and found.ca == ""
    numbers = Certificate(("192.168.7.9",), False, "/c.pem")
    assert there(both, numbers).root == "https://192.168.7.9:2443"
    foreign = there(both, Certificate(("192.0.2.9",), False, "/c.pem"))
    assert foreign.root == "https://10.0.0.5:2443"
    assert any("by one of these" in told for told in foreign.remarks)
    asked = there(Settings(tls=Tls(client_certificates="require")), bought)
    assert any("certificate of its clients" in told for told in asked.remarks)


def test_a_certificate_of_its_own_making_is_for_who_was_told() -> None:
    """Plain HTTP goes before it; where there is none, clients get the file to trust."""
    made = Certificate(("er.example",), True, "/etc/er/tls/cert.pem")
    found = there(Settings(tls=Tls()), made)
    assert found.root == "http://10.0.0.5:2048" and found.ca == ""
    assert any("https://10.0.0.5:2443" in told for told in found.remarks)
    alone = there(Settings(listen=(), tls=Tls()), made)
    assert alone.root == "https://er.example:2443" and alone.ca == "/etc/er/tls/cert.pem"
    given = FACTS._replace(root=alone.root, ca=alone.ca)
    assert "CURL_CA_BUNDLE='/etc/er/tls/cert.pem'" in "\n".join(connect_texts.curl(given))
    for python in (connect_texts.langchain, connect_texts.llama_index):
        assert '"SSL_CERT_FILE", "/etc/er/tls/cert.pem"' in "\n".join(python(given))


def test_plain_http_on_a_public_address_is_said() -> None:
    outside = Interface("eth9", (ip_interface("8.8.4.4/24"), ip_interface("2001:4860::5/64")))
    assert public(Settings(), machine(outside)) == ["8.8.4.4:2048"]
    assert public(Settings(listen=("[::]:2048",)), machine(outside)) == ["[2001:4860::5]:2048"]
    assert public(Settings(listen=("10.0.0.5:2048",)), machine(outside)) == []
    assert public(Settings(), machine()) == []
    assert any("plain HTTP" in told for told in there(Settings(), None, outside).remarks)


# -- texts ---------------------------------------------------------------------------------------


def test_the_command_line_knows_the_same_clients() -> None:
    assert tuple(CLIENTS) == registered.CLIENTS
    with pytest.raises(SystemExit) as ended:
        main(["connect", "word"])
    assert ended.value.code == 64


@pytest.mark.parametrize("client", CLIENTS)
def test_each_has_address_models_limits_and_remarks(client: str) -> None:
    text = "\n".join(CLIENTS[client](FACTS))
    for part in ("http://10.0.0.5:2048", "one", "two", "8192", "1024", "sk-er-…", "Mind this"):
        assert part in text, part
    for facts in (FACTS._replace(embed=None), FACTS._replace(score=None)):
        alone = "\n".join(CLIENTS[client](facts))
        gone = "one" if facts.embed is None else "two"
        assert f'"{gone}' not in alone and f"={gone}" not in alone and f" {gone}:" not in alone
    if client in ("langchain", "llama-index"):
        for facts in (FACTS, FACTS._replace(embed=None), FACTS._replace(score=None)):
            compile("\n".join(CLIENTS[client](facts)), client, "exec")


def test_the_batch_fits_in_a_request_however_long_its_texts_are() -> None:
    assert FACTS.batch == 32
    for more, want in (({"items": 8}, 8), ({"tokens": 80_000}, 9), ({"tokens": 100}, 1)):
        assert FACTS._replace(embed=EMBED._replace(**more)).batch == want
    text = "\n".join(connect_texts.open_webui(FACTS._replace(embed=EMBED._replace(items=8))))
    assert "RAG_EMBEDDING_BATCH_SIZE=8" in text


def test_a_name_that_would_end_a_string_or_a_word() -> None:
    """Of an alias or a folder: it stays a name."""
    odd = FACTS._replace(embed=EMBED._replace(name='it\'s "odd" $(id)\n'))
    for python in (connect_texts.langchain, connect_texts.llama_index):
        compile("\n".join(python(odd)), "er connect", "exec")
    shell = "\n".join(connect_texts.curl(odd))
    assert subprocess.run(["sh", "-n"], input=shell, text=True, timeout=10).returncode == 0
    assert "it'\\''s" in shell


# -- a real gateway ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("connect")) as gateway:
        yield gateway


def test_the_printed_shell_asks_and_is_answered(er: Gateway) -> None:
    """Pasted as it stands into a shell that has the key; nothing of the key is in any argument."""
    text = connected.printed(er, "curl")
    assert "H @-" in text and "Bearer" not in text.replace('echo "Authorization: Bearer ', "")
    done = subprocess.run(
        ["sh", "-e"],
        input=text,
        env={**er.environment(), "ER_API_KEY": er.key},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    models, documents, question, ranks = map(json.loads, done.stdout.splitlines())
    assert {"embed", "rerank"} <= {row["id"] for row in models["data"]}
    got = [row["embedding"] for row in documents["data"]]
    client_gateway.assert_close(got, client_gateway.vectors(er, ["first text", "第二段文字"]))
    want = client_gateway.vectors(er, ["what is it?"], "query")
    client_gateway.assert_close([question["data"][0]["embedding"]], want)
    texts = ["the first document", "第二篇文档"]
    client_gateway.assert_ranked(
        [(row["index"], row["relevance_score"]) for row in ranks["results"]],
        client_gateway.scores(er, "what is it?", texts),
    )


def test_without_the_key_it_says_where_it_comes_from(er: Gateway) -> None:
    """The placeholder is refused, and said by curl's own exit status."""
    text = connected.printed(er, "curl")
    bare = {k: v for k, v in er.environment().items() if k != "ER_API_KEY"}
    done = subprocess.run(
        ["sh", "-e"], input=text, env=bare, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 22 and "401" in done.stderr
    assert "sudo er keys create --name curl" in text


def test_the_limits_are_those_that_the_gateway_tells(er: Gateway) -> None:
    text = connected.printed(er, "dify")
    form = connected.form(text)
    assert form["Model Name"] == ["embed", "rerank"]  # not "bi", which compares vectors
    assert form["Model context size"] == ["512", "1024"]
    assert "vectors of 64 numbers" in text and "2048 texts and 300000 tokens" in text
    assert "as nobody could be asked" not in text and "--model: bi, dead, dead-rerank" in text
    chosen = connected.form(connected.printed(er, "dify", "--model", "dead", "--model", "bi"))
    assert chosen["Model Name"] == ["dead", "bi"]


def test_a_key_is_named_and_never_shown(er: Gateway) -> None:
    made = client_gateway.new_key(er, rate_limit="100/minute", models=["embed"])
    text = connected.printed(er, "open-webui", "--key", made.record.id)
    assert f"=sk-er-{made.record.id}-…\n" in text and str(made.secret) not in text
    assert f"sudo er keys rotate {made.record.id}" in text
    assert f"sudo er keys set {made.record.id} --rate-limit off" in text
    assert "RAG_RERANKING_MODEL" not in text  # which this key may not use
    plain = connected.printed(er, "curl", "--key", made.record.name)
    assert "Its rate is 100/minute" in plain and "which indexing" not in plain


def test_a_proxy_s_address_takes_the_place_of_the_gateway_s(er: Gateway) -> None:
    form = connected.form(connected.printed(er, "ragflow", "--url", "https://er.example/v1/"))
    assert form["Base url"] == ["https://er.example/v1"] * 2


def test_over_https_it_asks_by_a_name_of_the_certificate(tmp_path: Path) -> None:
    """The printed shell, trusting who issued it as their system would."""
    authority = certificates.Authority()
    with EngineProcess(dim=DIMENSIONS) as engine:
        made = Gateway(tmp_path, [engine])
        made.models = made.models[:1]
        made.tls = certificates.put(tmp_path / "tls", authority.issue("localhost", "127.0.0.1"))
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        try:
            made.start()
            text = connected.printed(made, "curl")
            assert f"'https://127.0.0.1:{made.https_port}/v1/embeddings'" in text
            trust = {"CURL_CA_BUNDLE": str(tmp_path / "ca.pem"), "ER_API_KEY": made.key}
            done = subprocess.run(
                ["sh", "-e"],
                input=text,
                env={**made.environment(), **trust},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert len(json.loads(done.stdout.splitlines()[1])["data"]) == 2
        finally:
            made.kill()


# -- what can't be told --------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway that never ran, with its er.toml."""
    made = Gateway(tmp_path)
    made.replicas = [{"name": "e0", "model": "embed", "url": "http://127.0.0.1:9"}]
    made.write_config()
    made.state.mkdir()
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


def test_with_the_gateway_down_files_tell_the_limits(
    stopped: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", "fastgpt"]) == 0
    said = capsys.readouterr().out
    assert "as nobody could be asked: no gateway runs here" in " ".join(said.split())
    assert "vectors of 64 numbers, texts of up to 512 tokens" in said
    written = json.loads(said.partition("JSON:\n")[2])
    assert written == {"queryConfig": {"input_type": "query"}, "batchSize": 32, "maxToken": 512}


def test_what_is_wrong_is_said_with_its_cure(
    stopped: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    path, now = stopped.state / "er_api_keys.json", datetime.now(UTC)
    dead = keys.create(path, name="dead", now=now)
    keys.revoke(path, dead.record.id, now=now)
    keys.create(path, name="metrics", now=now, scopes=["metrics"])
    keys.create(path, name="other", now=now, models=["gone"])
    for words, code, told in (
        (["--key", "nobody"], 1, "nobody"),
        (["--key", dead.record.id], 1, "is revoked; make another: sudo er keys create"),
        (["--key", "metrics"], 1, "--scopes default"),
        (["--key", "other"], 1, "none of those here; er keys set"),
        (["--model", "nope"], 1, "there is no model nope; there are: embed, bi"),
        (["--url", "er.example"], 64, "is not as https://er.example"),
        (["--url", "https://me:pass@er.example"], 64, "without a name or password"),
    ):
        assert main(["connect", "curl", *words]) == code, words
        said = capsys.readouterr()
        assert told in said.err and said.out == "" and "pass@" not in said.err, words


def test_an_er_toml_that_can_t_be_used(
    stopped: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped.config.write_text("[gateway]\nlisten = 5\n")
    assert main(["connect", "curl"]) == 1
    assert "er.toml:2" in capsys.readouterr().err


def test_a_key_with_networks_and_an_end_says_so(stopped: Gateway) -> None:
    path = stopped.state / "er_api_keys.json"
    made = keys.create(
        path,
        name="net",
        now=datetime.now(UTC),
        networks=["10.0.0.0/8"],
        expires=datetime(2099, 1, 31, tzinfo=UTC),
    )
    config = connect.load(stopped.config)
    shown, told = connect._key("curl", made.record, config)
    assert shown == f"sk-er-{made.record.id}-…"
    assert "10.0.0.0/8" in " ".join(told) and "2099-01-31" in " ".join(told)
    foreign = msgspec.structs.replace(made.record, imported=True)
    assert connect._key("curl", foreign, config)[0] == "sk-…"


def test_doctor_says_how_containers_and_the_public_reach_it(
    stopped: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines of tests/test_doctor_network.py, where its operator reads them."""
    outside = Interface("eth9", (ip_interface("8.8.4.4/24"),))
    monkeypatch.setattr(network, "interfaces", lambda: machine(outside))
    monkeypatch.setattr(network, "ufw", lambda: network.Ufw(True, ()))
    text = stopped.config.read_text().replace("127.0.0.1", "0.0.0.0", 1)
    stopped.config.write_text(text)
    main(["doctor"])
    said = capsys.readouterr().out
    allow = f"sudo ufw allow from 172.17.0.0/16 to any port {stopped.port} proto tcp"
    assert "!   containers: ufw keeps those behind docker0" in said and allow in said
    assert f"!   plain HTTP: listens at 8.8.4.4:{stopped.port}" in said
