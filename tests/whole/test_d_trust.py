"""What somebody gains who broke into a replica's vLLM, or into any process of user er."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import Installed

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
THIEF = """
[gateway.tls]
certificate = "/etc/shadow"
key = "/etc/shadow"
[[model]]
name = "thief"
task = "embed"
path = "/root/secret"
"""
STATE, MINE = "/var/lib/er/applied.toml", "/var/lib/er-applied/applied.toml"


def inside(er: Installed, script: str) -> str:
    """What a shell of user er says in the file system that the embedding replica sees."""
    pid = er.machine.show("er-vllm@embedding.service", "MainPID")["MainPID"]
    enter = ["nsenter", "--target", pid, "--mount", "--wd=/", "--"]
    become = ["setpriv", "--reuid=er", "--regid=er", "--init-groups", "--no-new-privs"]
    return er.machine.run(*enter, *become, "sh", "-c", script, check=False).stdout


def test_a_replica_changes_nothing_that_others_believe(er: Installed) -> None:
    """No socket, key, text, vector or other replica's word; of all it writes the ledger alone."""
    assert inside(er, "ls -A /var/lib/er").split() == ["applied.toml"]
    assert inside(er, "touch /run/er/replicas/embedding/x && rm /run/er/replicas/embedding/x") == ""
    for attack in (
        "touch /run/er/new",
        "rm -f /run/er/engine.secret",
        "echo x >/run/er/engine.secret",
        "mv /run/er/ledger /run/er/old",
        "rm -f /run/er/ledger",
        "rm -f /run/er/admin.sock",
        "mv /run/er/generation.json /run/er/old",
        "echo x >/run/er/limits",
        "rm /run/er/replicas",
        "mv /run/er/replicas/embedding /run/er/replicas/other",
        "echo x >/run/er/replicas/reranker/sample.json",
        "mkdir /run/er-vllm/other",
        "echo x >/var/lib/er/applied.toml",
        "ls /var/cache/er",
        "echo x >/etc/er/er.toml",
        "curl -sS --unix-socket /run/er/admin.sock http://er/status",
        "curl -sS --unix-socket /run/er/gateway.sock http://er/v1/models",
    ):
        said = inside(er, f"{attack} && echo DONE")
        assert said and "DONE" not in said, f"{attack}: {said}"


def test_user_er_steers_no_unit(er: Installed) -> None:
    """It is in group er, whose members may."""
    pid = er.machine.show("er-gateway.service", "MainPID")
    for unit in ("er-gateway.service", "er-vllm@embedding.service"):
        done = er.machine.run(
            "systemctl", "--no-ask-password", "restart", unit, user="er", check=False
        )
        assert done.returncode != 0, done.stdout
    assert er.machine.show("er-gateway.service", "MainPID") == pid


@pytest.fixture
def applied(er: Installed) -> Iterator[str]:
    """What is applied; put back as it was."""
    kept = er.machine.run("cat", STATE).stdout
    yield kept
    er.machine.run("sh", "-c", f"rm -rf {STATE} /root/secret")
    er.machine.run("er", "apply", timeout=300)


def as_er(er: Installed, script: str) -> None:
    er.machine.run("sh", "-c", script, user="er")


def drop_ins(er: Installed) -> str:
    return er.machine.run(
        "sh", "-c", "cd /etc/systemd/system && cat er-*.d/10-er.conf; ls er*"
    ).stdout


@pytest.mark.long
def test_links_of_user_ers_lead_no_replica_into_closed_folders(er: Installed, applied: str) -> None:
    """Mounts follow links, and systemd makes them as root, past the rights of the folders above."""
    er.machine.run("sh", "-c", "mkdir -pm 700 /root/secret && echo SECRET >/root/secret/note")
    as_er(er, f"rm -f {STATE}; ln -s /root/secret {STATE}")
    as_er(er, "cd /run/er && mv ledger kept && ln -s /root/secret/note ledger")
    try:
        er.machine.run("systemctl", "restart", "--no-block", "er-vllm@embedding.service")
        for _ in range(20):
            files = f"/run/er/ledger /root/secret/note {STATE} {STATE}/note"
            said = inside(er, f"cat {files} | tr -cd '[:print:]'")
            assert "SECRET" not in said
            time.sleep(0.5)
    finally:
        as_er(er, "cd /run/er && mv -T kept ledger")
        er.machine.run("rm", STATE)
        er.machine.run("er", "apply", timeout=300)
        er.machine.run("er", "wait", "--timeout", "300s", timeout=320)


def test_root_makes_no_unit_of_what_user_er_wrote(er: Installed, applied: str) -> None:
    """Another configuration in the place of the applied one, and in those of root's own records."""
    er.machine.run("sh", "-c", "mkdir -p /root/secret && echo 1 >/root/secret/config.json")
    before, mine = drop_ins(er), er.machine.run("cat", MINE).stdout
    for path in (STATE, "/var/lib/er/applied.previous.toml"):
        as_er(er, f"cat >{path} <<'END'\n{applied}{THIEF}\nEND")
    for words in (["--again"], ["--previous", "--dry-run"]):
        said = er.machine.run("er", "apply", *words, check=False, timeout=300).stdout
        assert "shadow" not in said and "thief" not in said, said
    assert drop_ins(er) == before and er.machine.run("cat", MINE).stdout == mine
    said = er.machine.run("er", "tls", "renew", check=False).stdout
    assert "has no [gateway.tls]" in said
    denied = er.machine.run("sh", "-c", f"echo x >{MINE}", user="er", check=False)
    assert "Permission denied" in denied.stdout


def test_root_copies_nothing_that_a_link_of_user_ers_leads_to(er: Installed, applied: str) -> None:
    """And waits for no pipe, and writes through no link."""
    for trap in ("ln -sf /etc/shadow", "mkfifo"):
        as_er(er, f"rm -f {STATE}; {trap} {STATE}")
        er.machine.run("er", "status", check=False, timeout=60)
        er.machine.run("er", "apply", timeout=300)
        assert er.machine.run("cat", STATE).stdout == applied
    leaked = er.machine.run("grep", "-rls", "root:[*!$]", "/var/lib/er", "/run/er", check=False)
    assert leaked.stdout == ""
    assert er.machine.run("stat", "-c", "%U %a", "/etc/shadow").stdout == "root 640\n"
