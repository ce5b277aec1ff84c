"""etc/Containerfile: built, and run as `er help containers` says, without root and read-only."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers import TOP, base, inspected, limits, pip_settings, podman
from er.cli import manual
from fakes import EngineProcess
from running import Gateway, Reply, model_folder

FILE = TOP / "etc/Containerfile"
IMAGE, NAME, VOLUME = "localhost/er-test", "er-test", "er-test"
PAGE = re.sub(r"\\\n\s*", "", manual.pages()["containers"])


def shown(verb: str) -> list[str]:
    """The words of the manual's line that begins so."""
    found = re.search(rf"^    podman {verb} (.*?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert found, verb
    return shlex.split(found[1])


def steps() -> list[list[str]]:
    """The Containerfile's, by stage."""
    text = re.sub(r"\\\n\s*", "", FILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stages: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            stages.append([])
        elif stages:
            stages[-1].append(line)
    return stages


def test_what_is_fetched_is_locked_and_the_last_stage_fetches_nothing() -> None:
    """Each pip line checks hashes or fetches nothing; the image ends as a user with a number."""
    stages = ["\n".join(stage) for stage in steps()]
    fetching = [line for stage in stages for line in re.findall(r"pip install[^&]*", stage)]
    assert len(fetching) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in fetching)
    last = stages[-1]
    assert not re.search(r"pip |apt|curl|^ADD|gcc", last, re.MULTILINE)
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As the manual's first line builds it, but for where Debian, Python and packages come from."""
    folder = tmp_path_factory.mktemp("pip")
    words = shown("build")
    assert words[-2:] == ["etc/Containerfile", "."]
    words[words.index("er")] = IMAGE
    here = ["--isolation", "chroot", "--network", "host", "--layers", *limits()]
    podman("build", *here, "--build-arg", f"BASE={base()}", *pip_settings(folder), *words, cwd=TOP)
    return IMAGE


class Container(Gateway):
    """A gateway whose process is a container's first."""

    def start_there(self) -> None:
        """As the manual's second line does, with folders of this test's own."""
        self.write_config()
        self.folder.chmod(0o755)
        conf = self.folder / "etc"
        conf.mkdir()
        shutil.copy(self.config, conf)
        words = shown("run")
        for ours, theirs in (
            ("er:/var/lib/er", f"{VOLUME}:/var/lib/er"),
            ("/srv/er:/etc/er:ro", f"{conf}:/etc/er:ro"),
            ("/srv/models:/models:ro", f"{self.folder}:/models:ro"),
            ("2048:2048", f"{self.port}:{self.port}"),
        ):
            words[words.index(ours)] = theirs
        assert words[-1] == "er" and words[words.index("--name") + 1] == "er"
        words[words.index("--name") + 1], words[-1] = NAME, IMAGE
        # No bridge and no systemd's timers here; and /tmp is read-only, too, as with Docker.
        here = ["--network=host", "--no-healthcheck", "--read-only-tmpfs=false", *limits()]
        podman("run", *here, *words)

    def until(self, status: int) -> Reply:
        """Ask /readyz until it answers so."""
        end = time.monotonic() + 60
        while True:
            try:
                reply = self.ask("GET", "/readyz", key="")
                if reply.status == status:
                    return reply
            except OSError:
                pass
            assert time.monotonic() < end, podman("logs", NAME).stdout
            time.sleep(0.2)

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        return podman("exec", NAME, *words, check=False, timeout=60)


@pytest.fixture
def container(image: str, tmp_path: Path) -> Iterator[Container]:
    with EngineProcess() as engine:
        gateway = Container(tmp_path, [engine])
        model_folder(tmp_path / "model")
        gateway.models[0]["path"] = "/models/model"
        podman("rm", "--force", NAME, check=False)
        podman("volume", "rm", "--force", VOLUME, check=False)
        try:
            gateway.start_there()
            yield gateway
        finally:
            podman("rm", "--force", "--time", "1", NAME, check=False)
            podman("volume", "rm", "--force", VOLUME, check=False)


@pytest.mark.machine
@pytest.mark.timeout(900)
def test_the_gateway_runs_as_the_manual_says(container: Container, tmp_path: Path) -> None:
    """Equal answers, a key once in its log, nothing written elsewhere, a drain at its end."""
    image = inspected(IMAGE)
    config, health = image["Config"], image["Healthcheck"]["Test"]
    assert config["User"] == "2048:2048" and config["StopSignal"] == "SIGTERM"
    container.until(200)
    log = podman("logs", NAME)
    made = re.findall(r"sk-er-[A-Za-z0-9_-]+", log.stdout + log.stderr)
    assert len(made) == 1
    container.key = made[0]
    answer = container.embed("hello")
    assert answer.status == 200
    plain = Gateway(tmp_path / "plain", container.engines)
    try:
        assert plain.start().embed("hello").json["data"] == answer.json["data"]
    finally:
        plain.kill()

    assert "1 of 1 replicas answer" in container.inside("er", "status").stdout
    created = container.inside("er", "keys", *shown("exec er er keys"))
    assert "sk-er-" in created.stdout
    doctor = container.inside("er", "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert container.inside(*health[1:]).returncode == 0
    console = container.inside("er-console", "--once")
    assert console.returncode == 0 and "embed" in console.stdout, console.stdout + console.stderr

    nobody = container.inside("sh", "-c", "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/1/status")
    assert re.findall(r"\S+$", nobody.stdout, re.MULTILINE) == ["2048", "0" * 16, "1"]
    for place in ("/", "/etc/er", "/opt/er", "/tmp", "/var/tmp", "/usr/local"):
        tried = container.inside("sh", "-c", f"touch {place}/x")
        assert tried.returncode and "Read-only file system" in tried.stderr, place
    layer = podman("inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", NAME).stdout.strip()
    assert [p for p in Path(layer).rglob("*") if p.is_file() and p.stat().st_size] == []
    tools = container.inside("sh", "-c", "command -v gcc cc g++ make; ls /src").stdout
    assert tools == ""

    # a change of er.toml, put in its place as editors do
    changed = tmp_path / "etc/new"
    changed.write_text(container.config.read_text().replace('"off"', '"5/minute"', 1))
    changed.replace(tmp_path / "etc/er.toml")
    reloaded = container.inside("er", "reload")
    assert reloaded.returncode == 0, reloaded.stdout + reloaded.stderr
    assert container.embed("again").headers["x-ratelimit-limit-requests"] == "5"

    container.engines[0].fault("slow", 1, ms=2000)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(container.embed, "in flight")
        end = time.monotonic() + 10
        while not container.engines[0].seen()["in_flight"]:
            assert time.monotonic() < end
            time.sleep(0.02)
        podman("stop", NAME)
        assert late.result().status == 200
    log = podman("logs", NAME)
    assert log.stdout.rstrip().endswith("stopped")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", NAME).stdout.strip() == "0"
    records = [json.loads(line) for line in log.stdout.splitlines() if line.startswith("{")]
    assert any(one.get("PATH") == "/v1/embeddings" and one["STATUS"] == 200 for one in records)
    assert any(one.get("ACTION") == "reload" for one in records)

    # the same volume again: the keys are there, and no other is made
    podman("start", NAME)
    container.until(200)
    assert container.embed("hello").json["data"] == answer.json["data"]
    log = podman("logs", NAME)
    assert len(re.findall(r"sk-er-k\S+", log.stdout + log.stderr)) == 1
