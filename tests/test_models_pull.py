"""er.pull: what a hub and a network may do, and what stands in the model's folder then."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from er import model_files
from er.cli import manual
from er.pull import AgainError, PullError, whole
from er.pull.manifest import Manifest
from er.pull.place import Place
from er.pull.web import Web, insist
from hub import Hub, running, sha256
from pulled import LEFT, NEEDED, REPO, Told, pulled, read, write

WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    found = Hub({REPO: write(tmp_path / "hub", NEEDED | LEFT)})
    with running(found):
        yield found


@pytest.fixture
def mirror(hub: Hub) -> dict[str, str]:
    """The environment that leads to it."""
    return {"HF_ENDPOINT": hub.url, "MODELSCOPE_DOMAIN": hub.url}


def sums(files: dict[str, bytes]) -> bytes:
    """A SHA256SUMS."""
    lines = [f"{sha256(data)}  ./{path}\n" for path, data in files.items()]
    return "".join(lines).encode()


# -- where it comes from -----------------------------------------------------------------------


@pytest.mark.parametrize("source", ["huggingface", "modelscope", "mirror", "folder", "its folder"])
def test_the_files_that_serving_needs_and_no_others(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, source: str
) -> None:
    """From each kind of hub: whole, readable for everybody, and said where from."""
    target, told = tmp_path / "new" / "Qwen" / "model", Told()
    address = {"mirror": hub.url, "folder": hub.url, "its folder": f"{hub.url}/{REPO}"}
    if "folder" in source:
        write(hub.repos[REPO], {"SHA256SUMS": sums(NEEDED | LEFT)})
        hub.api = False
    before = os.umask(0o077)
    try:
        done = pulled(target, address.get(source, source), told, environment=mirror)
    finally:
        os.umask(before)
    assert read(target) == NEEDED and done.fresh
    assert model_files.read(target).dimensions == 8
    modes = {stat.S_IMODE(p.stat().st_mode) for p in target.rglob("*") if p.is_file()}
    folders = [target, *target.parents[:2], *(p for p in target.rglob("*") if p.is_dir())]
    assert modes == {0o644} and {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o755}
    assert not list(target.parent.glob("*.part")) and told.balance == sum(map(len, NEEDED.values()))
    manifest = msgspec.json.decode((target / "er-model.json").read_bytes(), type=Manifest)
    assert manifest == done.manifest and manifest.repo == REPO
    assert {one.path: one.sha256 for one in manifest.files} == {
        path: sha256(data) for path, data in NEEDED.items()
    }
    shape = {"modelscope": "ModelScope's API", "mirror": "Hugging Face's API"}
    found = shape.get(source, "Hugging Face's API" if source == "huggingface" else "SHA256SUMS")
    assert found in told.begun[0].listing.hub
    assert manifest.revision == {"modelscope": "master", "folder": "", "its folder": ""}.get(
        source, hub.commit
    )


def test_a_commit_is_pinned(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """What is asked for is the commit that the list was of, not a branch that may move."""
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert all(hub.commit in p for p in hub.paths() if "/resolve/" in p)
    pulled(tmp_path / "n", "huggingface", name=f"{REPO}@{hub.commit}", environment=mirror)
    with pytest.raises(PullError, match=f"has {REPO}, but no v9 of it"):
        pulled(tmp_path / "o", "huggingface", name=f"{REPO}@v9", environment=mirror)
    with pytest.raises(PullError, match="at v9: no such revision"):
        pulled(tmp_path / "o", "modelscope", name=f"{REPO}@v9", environment=mirror)


def test_what_is_no_hub(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """Neither API nor folder; an API that answers with a page; one that is not there at all."""
    hub.api = False
    with pytest.raises(PullError, match=r"neither Hugging Face's API .* nor a file SHA256SUMS"):
        pulled(tmp_path / "m", hub.url)
    hub.pages = True
    with pytest.raises(PullError, match="does not answer as Hugging Face's hub does"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    with pytest.raises(PullError, match="does not answer as ModelScope's hub does"):
        pulled(tmp_path / "m", "modelscope", environment=mirror)
    with pytest.raises(PullError, match="SHA256SUMS is not as sha256sum writes it"):
        pulled(tmp_path / "m", hub.url)
    told = Told()
    with pytest.raises(PullError, match="after 4 tries") as caught:
        pulled(tmp_path / "m", "http://127.0.0.1:9", told)
    assert caught.value.environment and told.pauses == [1.0, 2.0, 5.0]
    assert not (tmp_path / "m").exists() and not (tmp_path / "m.part").exists()


def test_a_list_made_as_the_manual_says_is_taken(hub: Hub, tmp_path: Path) -> None:
    """Of a folder that was pulled itself, served by any web server."""
    page = manual.pages()["models"]
    (line,) = re.findall(r"`(find \. .*)`", page)
    hub.api = False
    subprocess.run(["sh", "-c", line], cwd=hub.repos[REPO], check=True)
    pulled(tmp_path / "m", hub.url)
    subprocess.run(["sh", "-c", line], cwd=tmp_path / "m", check=True)
    hub.repos[REPO] = tmp_path / "m"
    pulled(tmp_path / "n", hub.url)
    assert read(tmp_path / "n") == NEEDED


def test_a_folder_has_no_revisions_and_must_have_what_it_lists(hub: Hub, tmp_path: Path) -> None:
    hub.api = False
    write(hub.repos[REPO], {"SHA256SUMS": sums(NEEDED | {"gone.json": b""})})
    with pytest.raises(PullError, match=r"lists gone\.json but has none of it"):
        pulled(tmp_path / "m", hub.url)
    with pytest.raises(PullError, match="has no revisions: leave @main away"):
        pulled(tmp_path / "m", hub.url, name=f"{REPO}@main")


# -- tokens ------------------------------------------------------------------------------------


def test_a_token_goes_to_the_hub_alone(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """Not to the host that has the large files, though it is asked with a signed address."""
    cdn = Hub(hub.repos)
    hub.cdn, hub.token = cdn, "hf_secret"
    with running(cdn):
        pulled(tmp_path / "m", "huggingface", token="hf_secret", environment=mirror)
    assert read(tmp_path / "m") == NEEDED
    assert [p.partition("?")[0] for p in cdn.paths()] == [
        f"/cdn/{REPO}/resolve/{hub.commit}/{WEIGHTS}"
    ]
    assert all("authorization" not in heads for _, _, heads in cdn.asked)
    assert all("hf_secret" not in path for path in hub.paths())
    assert "hf_secret" not in (tmp_path / "m/er-model.json").read_text()


def test_who_may_not_is_told_what_to_do(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """Private or gated, with a token and without, by name and by address."""
    hub.token = "good"
    cases = (
        ("huggingface", {}, "HF_TOKEN", "or it is private: put a token into HF_TOKEN"),
        ("huggingface", {"HF_TOKEN": "bad"}, "", "HF_TOKEN is none"),
        ("modelscope", {}, "", "put a token into MODELSCOPE_API_TOKEN"),
        (hub.url, {"HF_TOKEN": "good"}, "", "no token is ever sent to an address of --from"),
    )
    for source, more, _, said in cases:
        with pytest.raises(PullError, match=said) as caught:
            pulled(
                tmp_path / "m",
                source,
                environment=mirror | more,
                token=more.get("HF_TOKEN", "") if source == "huggingface" else "",
            )
        assert caught.value.environment
    hub.gated = True
    with pytest.raises(PullError, match=r"is gated: accept its terms on .* and put a token"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert "good" not in repr(hub.asked)


def test_a_token_is_not_sent_in_the_clear() -> None:
    assert Web("http://10.0.0.7:8080", "t").bare_token
    assert (
        not Web("https://10.0.0.7", "t").bare_token
        and not Web("http://127.0.0.1:9", "t").bare_token
    )
    assert not Web("http://10.0.0.7:8080", "").bare_token


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("http://cdn.example/x?key=s3cret", "leads away from HTTPS, to cdn.example"),
        ("ftp://cdn.example/x", "leads away from HTTPS"),
        ("https://hub.example/x", "from one address to the next without end"),
    ],
)
def test_where_a_hub_may_not_lead(there: str, said: str) -> None:
    web = Web("https://hub.example", "t")
    moved = httpx.MockTransport(lambda ask: httpx.Response(302, headers={"location": there}))
    web._client = httpx.Client(transport=moved)
    with pytest.raises(PullError, match=said) as caught:
        web.read("https://hub.example/x")
    assert "s3cret" not in str(caught.value)


# -- networks ----------------------------------------------------------------------------------


def ranges(hub: Hub) -> list[str]:
    """The Range heads with which the weights were asked for."""
    return [heads.get("range", "") for _, path, heads in hub.asked if path.endswith(WEIGHTS)]


def test_broken_connections_are_resumed(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """From the byte that came last, under the tag of the version that came."""
    small = len(NEEDED) - 1
    hub.cut = [1 << 30] * small + [100_000, 50_000]
    told = Told()
    pulled(tmp_path / "m", "huggingface", told, environment=mirror)
    assert read(tmp_path / "m") == NEEDED
    assert ranges(hub) == ["", "bytes=100000-", "bytes=150000-"]
    assert [h.get("if-range") is not None for _, p, h in hub.asked if p.endswith(WEIGHTS)] == [
        False,
        True,
        True,
    ]
    assert told.pauses == [1.0, 2.0] and len(told.notes) == 2
    assert "trying again in 1 s (1 of 6)" in told.notes[0]


def test_a_stalled_one_times_out(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    hub.stall_s = [0.0] * (len(NEEDED) - 1) + [2.0]
    told = Told()
    pulled(tmp_path / "m", "huggingface", told, environment=mirror, stall_s=0.3)
    assert read(tmp_path / "m") == NEEDED
    assert [n for n in told.notes if re.search(r"nothing came from .* for 0.3 s", n)]
    assert ranges(hub)[1].startswith("bytes=1")


@pytest.mark.parametrize("how", ["no", "lies", "babbles"])
def test_servers_without_ranges_or_that_misstate_them(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, how: str
) -> None:
    hub.cut, hub.ranges = [1 << 30] * (len(NEEDED) - 1) + [100_000], how
    told = Told()
    pulled(tmp_path / "m", "huggingface", told, environment=mirror)
    assert read(tmp_path / "m") == NEEDED and told.balance == sum(map(len, NEEDED.values()))


def test_it_gives_up_at_last_and_goes_on_later(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """What came stays, and is not fetched twice."""
    hub.cut = [1 << 30] * (len(NEEDED) - 1) + [10_000] * 7
    told = Told()
    with pytest.raises(PullError, match="after 7 tries") as caught:
        pulled(tmp_path / "m", "huggingface", told, environment=mirror)
    assert caught.value.environment and told.pauses == [1, 2, 5, 10, 20, 30]
    assert not (tmp_path / "m").exists()
    assert (tmp_path / f"m.part/{WEIGHTS}.part").stat().st_size == 70_000
    hub.asked.clear()
    again = Told()
    pulled(tmp_path / "m", "huggingface", again, environment=mirror)
    assert read(tmp_path / "m") == NEEDED and ranges(hub) == ["bytes=70000-"]
    assert len([p for p in hub.paths() if "/resolve/" in p]) == 1
    assert again.begun[0].there == sum(map(len, NEEDED.values())) - 230_000


def test_a_hub_that_asks_for_patience(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """429 and 503 with Retry-After, 500 without; one that wants an hour is told of."""
    hub.refuse = [(429, {"retry-after": "7"}), (503, {"retry-after": "0"}), (500, {})]
    told = Told()
    pulled(tmp_path / "m", "huggingface", told, environment=mirror)
    assert told.pauses == [7.0, 2.0, 5.0] and "HTTP 429" in told.notes[0]
    hub.refuse = [(429, {"retry-after": "3600"})]
    with pytest.raises(PullError, match="HTTP 429, and wants nothing more for 3600 s"):
        pulled(tmp_path / "n", "huggingface", environment=mirror)


def test_a_date_in_retry_after_and_progress_in_between() -> None:
    """A try that brought a megabyte makes the next failure the first."""
    answer = httpx.Response(429, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
    web = Web("https://hub.example")
    web._client = httpx.Client(transport=httpx.MockTransport(lambda ask: answer))
    with pytest.raises(AgainError) as caught:
        web.read("https://hub.example/x")
    assert caught.value.after_s == 0.0
    gains = [0, 2 << 20, 0, 0]

    def once() -> str:
        if not gains:
            return "done"
        error = AgainError("cut")
        error.gain = gains.pop(0)
        raise error

    pauses: list[float] = []
    assert insist(once, lambda text: None, pauses.append, (1.0, 2.0, 3.0)) == "done"
    assert pauses == [1.0, 1.0, 2.0, 3.0]


def test_the_proxies_of_the_environment(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that only the proxy reaches; and one past a proxy that is not there."""
    monkeypatch.setenv("http_proxy", hub.url.replace("//", "//me:pw@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    pulled(tmp_path / "m", "huggingface", environment={"HF_ENDPOINT": "http://models.invalid"})
    assert read(tmp_path / "m") == NEEDED
    assert hub.paths()[0].startswith("http://models.invalid/api/models/")
    monkeypatch.setenv("http_proxy", "http://me:pw@127.0.0.1:9")
    with pytest.raises(
        PullError, match=r"models\.invalid by the proxy http://127\.0\.0\.1:9"
    ) as no:
        pulled(tmp_path / "n", "huggingface", environment={"HF_ENDPOINT": "http://models.invalid"})
    assert "pw" not in str(no.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pulled(tmp_path / "n", "huggingface", environment={"HF_ENDPOINT": hub.url})
    assert read(tmp_path / "n") == NEEDED
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(PullError, match="write https_proxy=http://HOST:PORT"):
        Web(hub.url)


# -- contents ----------------------------------------------------------------------------------


def test_a_broken_byte_is_found_and_the_file_fetched_anew(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    hub.flip = [WEIGHTS, "config.json"]
    told = Told()
    pulled(tmp_path / "m", "huggingface", told, environment=mirror)
    assert read(tmp_path / "m") == NEEDED and told.balance == sum(map(len, NEEDED.values()))
    assert {n.split()[0] for n in told.notes} == {WEIGHTS, "config.json"}


def test_a_file_that_stays_broken_is_refused(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """With both sums; nothing is put in place."""
    hub.flip = [WEIGHTS] * 10
    with pytest.raises(PullError, match="has not the checksum that") as caught:
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert sha256(NEEDED[WEIGHTS]) in str(caught.value) and "--from" in str(caught.value)
    assert not (tmp_path / "m").exists() and not (tmp_path / "m.part" / WEIGHTS).exists()


@pytest.mark.parametrize("tagged", [True, False], ids=["its tag tells", "the sum tells"])
def test_a_file_that_changes_on_the_hub_is_never_mixed(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, tagged: bool
) -> None:
    """Between two pulls, of the same size; whether or not the server notices."""
    if not tagged:
        hub.tags = {WEIGHTS: '"same"'}
    hub.cut = [1 << 30] * (len(NEEDED) - 1) + [100_000] + [0] * 6
    with pytest.raises(PullError, match="after 7 tries"):
        pulled(tmp_path / "m", "modelscope", environment=mirror)
    other = bytes(reversed(NEEDED[WEIGHTS]))
    write(hub.repos[REPO], {WEIGHTS: other})
    pulled(tmp_path / "m", "modelscope", environment=mirror)
    assert read(tmp_path / "m") == NEEDED | {WEIGHTS: other}


def test_a_file_that_changes_while_it_comes(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """ModelScope's list names no commit: another content, and another size, make a new list."""
    for number, other in enumerate((bytes(reversed(NEEDED[WEIGHTS])), NEEDED[WEIGHTS] + b"more")):
        write(hub.repos[REPO], NEEDED)
        told = Told()
        hub.cut = [1 << 30] * (len(NEEDED) - 1) + [100_000]

        def change(wait_s: float, data: bytes = other) -> None:
            write(hub.repos[REPO], {WEIGHTS: data})

        pulled(tmp_path / str(number), "modelscope", told, environment=mirror, pause=change)
        assert read(tmp_path / str(number)) == NEEDED | {WEIGHTS: other}
        assert [note for note in told.notes if "reading the list anew" in note]


def test_another_hub_may_go_on_with_what_one_began(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """The same bytes by their sum, whatever tag each hub has for them."""
    hub.cut = [1 << 30] * (len(NEEDED) - 1) + [100_000] + [0] * 6
    with pytest.raises(PullError, match="after 7 tries"):
        pulled(tmp_path / "m", "modelscope", environment=mirror)
    other = Hub(hub.repos)
    other.tags = {WEIGHTS: '"another"'}
    with running(other):
        pulled(tmp_path / "m", "huggingface", environment={"HF_ENDPOINT": other.url})
    assert ranges(other) == ["bytes=100000-"] and read(tmp_path / "m") == NEEDED


@pytest.mark.parametrize(
    ("path", "row", "said"),
    [
        ("config.json", {"blobId": None}, "names no checksum for config.json"),
        ("config.json", {"size": 5}, "config.json has [0-9]+ bytes at .*, 5 in the list"),
        (WEIGHTS, {"lfs": {"sha256": "x", "size": 1}}, f"names no checksum for {WEIGHTS}"),
        ("README.md", {"rfilename": "../../evil.json"}, "which leads out of the folder; refused"),
        ("README.md", {"rfilename": 7}, "does not answer as Hugging Face's hub does"),
    ],
)
def test_lists_that_nobody_should_believe(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, path: str, row: dict[str, Any], said: str
) -> None:
    """Without sums, of other sizes, with names that lead elsewhere: nothing comes of them."""
    hub.listed = {path: row}
    with pytest.raises(PullError, match=said):
        pulled(tmp_path / "in" / "m", "huggingface", environment=mirror)
    assert not (tmp_path / "in/m").exists() and not list(tmp_path.glob("**/evil*"))


# -- the folder --------------------------------------------------------------------------------


def test_a_second_pull_has_nothing_to_do(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """Also from another hub, whose list names other sums of the same bytes."""
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    for source in ("huggingface", "modelscope"):
        hub.asked.clear()
        assert not pulled(tmp_path / "m", source, environment=mirror).fresh
        assert not [p for p in hub.paths() if "resolve" in p or "FilePath" in p]
    hub.commit = "d" * 40  # only the README was changed: the same model
    assert not pulled(tmp_path / "m", "huggingface", environment=mirror).fresh


def test_other_weights_are_not_put_in_their_place(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    write(hub.repos[REPO], {WEIGHTS: b"new weights" * 1000})
    hub.commit = "d" * 40
    said = f"has {REPO}@{'c' * 12}, other files than {REPO}@{'d' * 12}: {WEIGHTS}. Other weights"
    with pytest.raises(PullError, match=re.escape(said)):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert read(tmp_path / "m") == NEEDED


def test_what_is_there_and_not_of_a_pull_stays(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "m", {"config.json": b"mine"})
    with pytest.raises(PullError, match="nothing is written over it"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    (tmp_path / "n").write_bytes(b"a file")
    with pytest.raises(PullError, match="is no folder"):
        pulled(tmp_path / "n", "huggingface", environment=mirror)
    write(tmp_path / "o.part", {"thesis.txt": b"mine too"})
    with pytest.raises(PullError, match="is not of er models pull"):
        pulled(tmp_path / "o", "huggingface", environment=mirror)
    assert read(tmp_path / "m") == {"config.json": b"mine"}
    assert read(tmp_path / "o.part") == {"thesis.txt": b"mine too"}
    (tmp_path / "p").mkdir()
    assert pulled(tmp_path / "p", "huggingface", environment=mirror).fresh


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"format": 9}', b"[]"])
def test_a_damaged_manifest_is_told(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, data: bytes
) -> None:
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    write(tmp_path / "m", {"er-model.json": data})
    with pytest.raises(PullError, match=r"er-model\.json is damaged; move the folder away"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)


def test_a_folder_that_lost_a_file_is_told(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    os.truncate(tmp_path / "m" / WEIGHTS, 5)
    with pytest.raises(PullError, match=f"is not whole: {WEIGHTS} has 5 bytes, not 300000"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)


def test_two_pulls_at_once(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    with Place(tmp_path / "m").locked(), pytest.raises(PullError, match="another er models pull"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert not (tmp_path / "m.part").exists()
    assert pulled(tmp_path / "m", "huggingface", environment=mirror).fresh


def test_links_are_not_followed(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """In TARGET.part, where somebody else may have laid them; nor is TARGET.part one."""
    mine = write(tmp_path / "mine", {"precious": b"precious", "sub/config.json": b"mine"})
    hub.cut = [0] * 7
    with pytest.raises(PullError, match="after 7 tries"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    part = tmp_path / "m.part"
    shutil.rmtree(part)
    part.mkdir()
    (part / "er-pull.json").write_bytes(b'{"files": []}')
    (part / "config.json.part").symlink_to(mine / "precious")
    (part / "model.safetensors").symlink_to(mine / "precious")
    (part / "1_Pooling").symlink_to(mine / "sub")
    os.link(mine / "precious", part / "vocab.json.part")
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert read(tmp_path / "m") == NEEDED
    assert not any(p.is_symlink() for p in (tmp_path / "m").rglob("*"))
    assert read(mine) == {"precious": b"precious", "sub/config.json": b"mine"}
    (tmp_path / "n.part").symlink_to(mine)
    with pytest.raises(PullError, match="is there and is no folder"):
        pulled(tmp_path / "n", "huggingface", environment=mirror)


def test_a_folder_that_another_user_began(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "m.part").mkdir()
    os.chown(tmp_path / "m.part", 65534, 65534)
    with pytest.raises(PullError, match=r"belongs to another user \(uid 65534\)"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)


def test_room_is_asked_for_before(
    hub: Hub, mirror: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all figures, and no byte of a file fetched."""
    monkeypatch.setattr(whole, "MARGIN", 1 << 60)
    with pytest.raises(
        PullError, match=r"KiB are still to come and .* GiB must .* has .*GiB: make"
    ):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert not [p for p in hub.paths() if "/resolve/" in p] and not (tmp_path / "m.part").exists()


def test_what_another_model_left_behind_goes(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """A pull of another repository into the same place that was never whole."""
    part = write(tmp_path / "m.part", {"er-pull.json": b'{"files": []}', "2_Dense/x.part": b"x"})
    write(part, {"README.md": b"x", "config.json": b"x"})
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert read(tmp_path / "m") == NEEDED and not (tmp_path / "m/2_Dense").exists()


def test_a_disk_s_own_top_folder(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(PullError, match="is where a disk is mounted"), Place(Path("/dev")).locked():
        pass


def test_a_kill_at_the_very_end(hub: Hub, mirror: dict[str, str], tmp_path: Path) -> None:
    """Between the manifest and the rename: nothing is fetched again."""
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    (tmp_path / "m").rename(tmp_path / "m.part")
    hub.asked.clear()
    assert pulled(tmp_path / "m", "huggingface", environment=mirror).fresh
    assert not [p for p in hub.paths() if "/resolve/" in p] and read(tmp_path / "m") == NEEDED


def test_what_was_checked_once_must_still_be_it(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    """A file of an earlier try that a disk or somebody changed; it comes anew."""
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    (tmp_path / "m").rename(tmp_path / "m.part")
    file = tmp_path / "m.part" / WEIGHTS
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(PullError, match=f"{WEIGHTS} is not what came: somebody changed it, or"):
        pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert not (tmp_path / "m").exists() and not file.exists()
    pulled(tmp_path / "m", "huggingface", environment=mirror)
    assert read(tmp_path / "m") == NEEDED


def test_a_target_that_comes_meanwhile_stays(
    hub: Hub, mirror: dict[str, str], tmp_path: Path
) -> None:
    hub.refuse = [(500, {})]
    with pytest.raises(PullError, match="came there meanwhile; what was pulled is whole in"):
        pulled(
            tmp_path / "m",
            "huggingface",
            environment=mirror,
            pause=lambda wait_s: write(tmp_path / "m", {"mine": b""}) and None,
        )
    assert read(tmp_path / "m") == {"mine": b""} and read(tmp_path / "m.part") == NEEDED


def test_the_moment_of_a_pull_is_utc(tmp_path: Path, hub: Hub, mirror: dict[str, str]) -> None:
    done = pulled(tmp_path / "m", "huggingface", environment=mirror)
    at = datetime.strptime(done.manifest.at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert hashlib.sha256(NEEDED[WEIGHTS]).hexdigest() in (tmp_path / "m/er-model.json").read_text()
