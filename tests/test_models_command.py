"""`er models`: names, places, what is said and never said, kills, full disks, verify; the plan."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import model_cache
from er import model_files
from er.cli import models
from er.cli.__main__ import main
from er.cli.models_shown import Shown
from er.pull import Listing, PullError, Remote, whole
from er.pull.hubs import hub as chosen
from er.pull.place import Place
from er.pull.plan import FAMILY, Name, named, needed, unsafe
from er.quantities import bytes_text
from hub import Hub, running
from pulled import LEFT, NEEDED, REPO, read, write
from test_full_disk import on_a_small_disk

TOTAL = sum(map(len, NEEDED.values()))
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and an environment that leads to it, without an er.toml."""
    for name in (*PROXIES, *map(str.upper, PROXIES), "HF_TOKEN", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    found = Hub({REPO: write(tmp_path / "hub", NEEDED | LEFT)})
    with running(found):
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", found.url)
        monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "etc"))
        monkeypatch.setattr(models, "PLACE", tmp_path / "model")
        yield found


def er_toml(folder: Path, text: str) -> None:
    write(folder, {"etc/er.toml": text.encode()})


# -- what is said ------------------------------------------------------------------------------


def test_a_pull_and_a_second_one(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where from, how much, what became of it; the place is by owner and name."""
    place = tmp_path / "model" / REPO
    assert main(["models", "pull", "Qwen3-Embedding-0.6B"]) == 0
    out, err = capsys.readouterr()
    size = bytes_text(TOTAL)
    assert out.splitlines() == [
        f"{REPO} from {hub.url} (HF_ENDPOINT) into {place}",
        f"Hugging Face's API, revision {hub.commit[:12]}: 9 files, {size}; "
        + out.splitlines()[1].rpartition("; ")[2],
        f"{place}: 9 files, {size}, each with the checksum that the hub names",
    ]
    assert read(place) == NEEDED and err == ""
    assert main(["models", "pull", REPO, "--from", "modelscope"]) == 0
    assert f"{place} has it already, whole by its sizes" in capsys.readouterr().out


def test_er_toml_says_where_a_model_lies(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its whole name or its last part; its folder's name may say the repository too."""
    table = '[[model]]\nname = "{}"\ntask = "embed"\npath = "{}"\n'
    er_toml(tmp_path, table.format("Qwen3-Embedding-0.6B", tmp_path / "mine"))
    assert main(["models", "pull", REPO]) == 0
    assert read(tmp_path / "mine") == NEEDED
    er_toml(tmp_path, table.format("search", tmp_path / "x" / "Qwen3-Embedding-0.6B"))
    assert main(["models", "pull", "search"]) == 0
    assert read(tmp_path / "x/Qwen3-Embedding-0.6B") == NEEDED
    er_toml(tmp_path, "[gateway]\nlistn = 1\n")
    capsys.readouterr()
    assert main(["models", "pull", REPO]) == 1
    assert "er.toml:2" in (err := capsys.readouterr().err) and "--to DIR" in err
    assert main(["models", "pull", REPO, "--to", str(tmp_path / "y")]) == 0


def test_a_link_to_a_folder_stays_a_link(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "true")
    assert main(["models", "pull", REPO, "--to", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink() and read(tmp_path / "true") == NEEDED


def test_tokens_and_proxies_are_shown_and_their_secrets_never(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("http_proxy", hub.url.replace("//", "//me:pw@"))
    monkeypatch.setenv("HF_ENDPOINT", "http://models.invalid")
    assert main(["models", "pull", REPO, "--to", str(tmp_path / "m")]) == 0
    out = capfd.readouterr().out
    assert f"by the proxy {hub.url}\n" in out
    assert "HF_TOKEN is not sent, as http://models.invalid is plain HTTP" in out
    assert not [h for _, _, h in hub.asked if "authorization" in h]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.token = "hf_secret"
    assert main(["models", "pull", REPO, "--to", str(tmp_path / "n")]) == 0
    told = capfd.readouterr()
    address = hub.url.removeprefix("http://")
    assert f"HF_TOKEN goes to {address} alone" in told.out
    assert f"{address} without the proxy, as no_proxy says" in told.out
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    assert main(["models", "pull", REPO, "--to", str(tmp_path / "o")]) == 1
    told = capfd.readouterr()
    assert "HF_TOKEN is no token" in told.err
    for text in (out, told.out, told.err, (tmp_path / "n/er-model.json").read_text()):
        assert "secret" not in text and "sécret" not in text and "pw" not in text


def test_what_sudo_dropped_is_in_the_message(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only where a hub could not be reached or said no."""
    monkeypatch.setattr(whole, "ASKED_S", ())
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    monkeypatch.setenv("SUDO_USER", "ann")
    argv = ["models", "pull", REPO, "--from", "modelscope", "--to", str(tmp_path / "m")]
    monkeypatch.setattr(sys, "argv", ["er", *argv])
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert "Another hub: --from huggingface" in err
    line = f"sudo --preserve-env={models.DROPPED} er models pull {REPO} --from modelscope --to"
    assert line in err
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert main(argv) == 1 and "sudo drops" not in capsys.readouterr().err
    write(tmp_path / "m", {"mine": b""})
    monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.url)
    monkeypatch.delenv("https_proxy")
    assert main(argv) == 1
    assert (
        "nothing is written over it" in (err := capsys.readouterr().err) and "sudo drops" not in err
    )


def test_ctrl_c_says_how_to_go_on(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    argv = ["models", "pull", REPO, "--to", str(tmp_path / "m")]
    with monkeypatch.context() as patched:
        patched.setattr(Shown, "moved", pressed)
        assert main(argv) == 1
    err = capsys.readouterr().err
    assert f"stopped. What has come stays in {tmp_path}/m.part; the same command goes on" in err
    assert main(argv) == 0 and read(tmp_path / "m") == NEEDED


def test_a_place_where_one_may_not_write(hub: Hub) -> None:
    """Run as nobody: the folder and what to do."""
    command = [sys.executable, "-m", "er.cli", "models", "pull", REPO, "--to", "/er-model/m"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, user=65534)
    assert done.returncode == 1
    assert "/er-model: Permission denied; use sudo, or a folder of yours: --to DIR" in done.stderr


def test_wrong_use(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "Qwen3"]) == 64
    assert "'Qwen3' names no repository" in capsys.readouterr().err
    assert main(["models", "pull", REPO, "--from", "ftp://x"]) == 64
    assert "--from 'ftp://x' is not as" in capsys.readouterr().err
    assert main(["models", "pull", REPO, "--to", "/proc"]) == 1
    assert "er models pull has not made it" in capsys.readouterr().err
    assert hub.paths("HEAD") == []


def test_two_at_once(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second says who is there, and nothing of going on."""
    with Place(tmp_path / "m").locked():
        assert main(["models", "pull", REPO, "--to", str(tmp_path / "m")]) == 1
    err = capsys.readouterr().err
    assert err == f"er models: another er models pull is at work in {tmp_path}/m.part\n"


# -- kills and full disks ----------------------------------------------------------------------


def test_kill_9_in_the_middle_and_the_same_command(tmp_path: Path) -> None:
    """A real model and process; nothing that came is fetched again, and the gateway reads it."""
    found = Hub({REPO: model_cache.folder("tiny-embed")})
    target = tmp_path / "m"
    command = [sys.executable, "-m", "er.cli", "models", "pull", REPO, "--to", str(target)]
    with running(found):
        env = os.environ | {"HF_ENDPOINT": found.url, "CONFIGURATION_DIRECTORY": str(tmp_path)}
        found.slow_s = 0.001
        with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
            part = tmp_path / "m.part/model.safetensors.part"
            until = time.monotonic() + 60
            while not part.exists() or part.stat().st_size < 1 << 20:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        had = part.stat().st_size
        found.slow_s = 0.0
        found.asked.clear()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert " of them are there; " in done.stdout
    files = [(p, h) for _, p, h in found.asked if "/resolve/" in p]
    assert len(files) == 1 and files[0][1]["range"] == f"bytes={had}-"
    assert read(target) == found.files(REPO)
    assert model_files.read(target).pooling == "LAST"
    assert main(["models", "verify", str(target)]) == 0


def test_a_disk_that_fills_up(hub: Hub, tmp_path: Path) -> None:
    """Told with what is free; once there is room the same command goes on."""
    disk = tmp_path / "disk"
    code = (
        "import sys; from er.pull.place import Place; from er.cli.__main__ import main;"
        "Place.free = lambda self: 1 << 40; sys.exit(main(sys.argv[1:]))"
    )
    again = 'python=$1; shift; "$python" "$@" && exit 9; rm /disk/filler; exec "$python" "$@"'
    again = again.replace("/disk", str(disk))
    pull = ["models", "pull", REPO, "--to", str(disk / "m")]
    fill = f"head -c 350k /dev/zero >{disk}/filler; {again}"
    run = on_a_small_disk(disk, "600k", ["sh", "-c", fill, "sh", sys.executable, "-c", code, *pull])
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"the disk of {disk} is full (" in done.stderr and "make room there" in done.stderr
    assert f"What has come stays in {disk}/m.part; the same command goes on" in done.stderr
    assert " of them are there; " in done.stdout and "9 files" in done.stdout


def test_a_full_disk_before_the_first_folder(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even what the model's folder is to lie in could be made."""

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(self))

    target = tmp_path / "owner" / "m"
    monkeypatch.setattr(Path, "mkdir", full)
    assert main(["models", "pull", REPO, "--to", str(target)]) == 1
    err = capsys.readouterr().err
    assert f"the disk of {tmp_path} is full (" in err and "make room there" in err


# -- verify ------------------------------------------------------------------------------------


def test_verify(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way in which a folder may have changed, by its sums."""
    place = tmp_path / "m"
    assert main(["models", "pull", REPO, "--to", str(place)]) == 0
    assert main(["models", "verify", str(place)]) == 0
    assert f"{place} is {REPO} {hub.commit[:12]}: 9 files" in capsys.readouterr().out
    write(place, {"notes.txt": b"mine"})
    assert main(["models", "verify", str(place)]) == 0
    assert "! notes.txt was not pulled" in capsys.readouterr().out
    weights = NEEDED["model.safetensors"]
    for change, said in (
        ({"model.safetensors": weights[:-1] + b"\0"}, "model.safetensors has another checksum"),
        ({"model.safetensors": weights[:-1]}, "model.safetensors has 299999 bytes, not 300000"),
        ({"more.safetensors": b"x"}, "more.safetensors was not pulled"),
        ({"1_Pooling/config.json": None}, "1_Pooling/config.json is missing"),
    ):
        shutil.copytree(place, tmp_path / "n")
        for path, data in change.items():
            if data is None:
                (tmp_path / "n" / path).unlink()
            else:
                write(tmp_path / "n", {path: data})
        assert main(["models", "verify", str(tmp_path / "n")]) == 1
        out, err = capsys.readouterr()
        assert f"x {said}" in out and "as it was pulled: move it away and pull it again" in err
        shutil.rmtree(tmp_path / "n")
    assert main(["models", "verify", str(tmp_path / "hub")]) == 1
    assert "has no er-model.json" in capsys.readouterr().err
    assert main(["models", "verify", str(tmp_path / "gone")]) == 1


# -- the plan ----------------------------------------------------------------------------------


def listing(*paths: str, summed: bool = True) -> Listing:
    sha = "a" * 64 if summed else ""
    files = tuple(Remote(path=path, size=9, sha256=sha) for path in paths)
    return Listing(repo="o/n", revision="r", hub="a hub", home="https://hub.example", files=files)


SMALL = ("config.json", "tokenizer.json")


def test_names() -> None:
    assert named("Qwen3-Reranker-8B") == Name("Qwen", "Qwen3-Reranker-8B")
    assert named("BAAI/bge-m3@refs/pr/1") == Name("BAAI", "bge-m3", "refs/pr/1")
    assert named("x", "/models/Qwen3-Embedding-4B/").repo == "Qwen/Qwen3-Embedding-4B"
    assert len(FAMILY) == 6
    for text in (
        "",
        "Qwen3",
        "a/b/c",
        "../b",
        "a/..",
        "a b/c",
        "Qwen3-Embedding-0.6B@../x",
        "a/b@",
    ):
        with pytest.raises(PullError):
            named(text)
    with pytest.raises(PullError, match=r"did you mean Qwen3-Embedding-0\.6B"):
        named("qwen3-embedding-0.6b")


def test_weights_in_parts_and_folders_of_layers() -> None:
    """All parts of the model's own, not a copy beside them; Dense layers have weights too."""
    parts = [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)]
    index = "model.safetensors.index.json"
    dense = ["2_Dense/config.json", "2_Dense/model.safetensors"]
    copies = ["pytorch_model-00001-of-00001.bin", "consolidated-00001-of-00001.safetensors"]
    deep = ["openvino/a.json", "1_Pooling/deep/config.json", "spiece.model"]
    found = {f.path for f in needed(listing(*SMALL, *parts, index, *dense, *copies, *deep))}
    assert found == {*SMALL, *parts, index, *dense, "spiece.model"}
    old = {f.path for f in needed(listing(*SMALL, "0_Transformer/model.safetensors"))}
    assert old == {*SMALL, "0_Transformer/model.safetensors"}
    with pytest.raises(PullError, match=r"lacks model-00002-of-00002\.safetensors"):
        needed(listing(*SMALL, parts[0], index))


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("a.gguf", "b.gguf"), "has GGUF files alone, which ER's engines don't serve"),
        ((*SMALL, "pytorch_model.bin"), "as pickles alone .* o/n@refs/pr/1"),
        ((*SMALL, "model.safetensors", "2_Dense/pytorch_model.bin"), "2_Dense has its weights as"),
        ((*SMALL, "onnx/model.onnx"), "has no weights"),
        (("tokenizer.json", "model.safetensors"), r"has no config\.json"),
        (("config.json", "model.safetensors"), r"has no tokenizer\.json"),
        ((*SMALL, "model.safetensors", "../../etc/cron.d/x.json"), "which leads out of the folder"),
        ((*SMALL, "model.safetensors", "/etc/x.json"), "which leads out of the folder"),
    ],
)
def test_what_is_refused_before_a_byte_is_fetched(paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(PullError, match=said):
        needed(listing(*paths))


def test_gguf_tells_the_repository_without() -> None:
    files = (Remote(path="a.gguf", size=1),)
    with pytest.raises(PullError, match=r"most likely Qwen/Qwen3-Embedding-0\.6B$"):
        needed(
            Listing(
                repo="Qwen/Qwen3-Embedding-0.6B-GGUF", revision="", hub="", home="", files=files
            )
        )


def test_files_without_a_checksum() -> None:
    with pytest.raises(PullError, match="names no checksum for"):
        needed(listing(*SMALL, "model.safetensors", summed=False))


def test_names_that_no_file_may_have() -> None:
    for path in ("a/../b", "..", "/a", "a//b", "", "./a", "a\\b", "a\nb", "a\x1b[1m", "x" * 300):
        assert unsafe(path), path
    assert not unsafe("1_Pooling/config.json") and not unsafe("模型.json")


def test_addresses_that_are_none() -> None:
    for source in ("ftp://x", "modelscop", "https://", "https://x?token=s3cret", "https://[::1"):
        with pytest.raises(PullError, match="is not as huggingface, modelscope or https://HOST"):
            chosen(source, {})
    for environment in ({"HF_ENDPOINT": "http://me:pw@x"}, {"HF_ENDPOINT": "hub.example"}):
        with pytest.raises(PullError, match="HF_ENDPOINT") as caught:
            chosen("huggingface", environment)
        assert "pw" not in str(caught.value)
    assert chosen("huggingface", {}).home == "https://huggingface.co"
    assert chosen("modelscope", {"MODELSCOPE_DOMAIN": "www.modelscope.ai"}).home == (
        "https://www.modelscope.ai"
    )


# -- the line ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_and_in_a_log() -> None:
    """Bytes, percent, rate, time left; what was there before makes no rate."""
    clock = [100.0]
    for stream, seconds, lines in ((Terminal(), 1.0, 30), (io.StringIO(), 1.0, 3)):
        clock[0] = 100.0
        shown = Shown(stream, lambda: clock[0])
        shown.begin(100 << 20, 40 << 20)
        for _ in range(30):
            clock[0] += seconds
            shown.moved("model.safetensors", 1 << 20)
        told = [t for t in stream.getvalue().replace("\x1b[K", "").split("\r") if t]
        told = told if len(told) > 1 else told[0].splitlines()
        assert len(told) == lines
        assert told[-1] == " 70 %  70.0 MiB of 100.0 MiB  1.0 MiB/s  30s left  model.safetensors"
    shown.moved("model.safetensors", -(70 << 20))
    clock[0] += 10
    assert shown.line(clock[0]).startswith("  0 %  0 B of 100.0 MiB")
    assert json.dumps(shown.line(clock[0] + 60)).count("stalled") == 1
