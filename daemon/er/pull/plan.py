"""Which repository a name means, and which of its files serving needs. Pure.

Weights are safetensors or nothing: other formats of the same weights are left out, and where a
repository has no safetensors it is refused before a byte of it is fetched.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import msgspec

from er.pull import Listing, PullError, Remote

OWNER = "Qwen"
FAMILY = tuple(
    f"Qwen3-{kind}-{size}" for kind in ("Embedding", "Reranker") for size in ("0.6B", "4B", "8B")
)
WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"
# At the top, and in the folders that sentence-transformers numbers (1_Pooling, 2_Dense).
SMALL = re.compile(r".*\.json|merges\.txt|vocab\.txt|.*\.model|.*\.tiktoken|.*\.jinja|LICENSE.*")
NUMBERED = re.compile(r"\d+_[A-Za-z]+")
WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")
OURS = ("er-model.json", "er-pull.json")
LONGEST = 240  # bytes of one part of a path, with room for what a part file adds


class Name(msgspec.Struct, frozen=True):
    """OWNER/NAME, and the revision that was asked for; "" = the hub's own default."""

    owner: str
    name: str
    revision: str = ""

    @property
    def repo(self) -> str:
        return f"{self.owner}/{self.name}"


def named(text: str, folder: str = "") -> Name:
    """What NAME means. `folder`: where er.toml's model of this name lies, which may say it too.

    Raises PullError with how to write one.
    """
    bare, at, revision = text.partition("@")
    if at and (not re.fullmatch(REVISION, revision) or ".." in revision):
        raise PullError(f"{text!r}: behind @ stands a branch, a tag or a commit of the repository")
    if bare in FAMILY:
        return Name(OWNER, bare, revision)
    if found := re.fullmatch(f"({WORD})/({WORD})", bare):
        return Name(found[1], found[2], revision)
    if (last := folder.rstrip("/").rpartition("/")[2]) in FAMILY:
        return Name(OWNER, last, revision)
    near = difflib.get_close_matches(bare, FAMILY, 1)
    told = f"did you mean {near[0]}? " if near else ""
    raise PullError(
        f"{text!r} names no repository: {told}Write OWNER/NAME, as {OWNER}/{FAMILY[0]}, or one "
        f"of {', '.join(FAMILY)}"
    )


def needed(listing: Listing) -> tuple[Remote, ...]:
    """The files to bring, small ones first. Raises PullError where they make no model for ER."""
    for file in listing.files:
        if why := unsafe(file.path):
            raise PullError(f"{listing.home} lists a file {file.path[:80]!r}, which {why}; refused")
    places = {f.path: f for f in listing.files if f.path not in OURS}
    kept = [f for f in places.values() if SMALL.fullmatch(_last(f.path)) and _in_reach(f.path)]
    weights = _weights(listing, [f for f in places.values() if _in_reach(f.path)])
    have = {f.path for f in kept}
    if "config.json" not in have:
        raise PullError(
            f"{listing.repo} has no config.json, without which nothing serves a model; is it an "
            "adapter? Name the repository of the model itself"
        )
    if "tokenizer.json" not in have:
        raise PullError(
            f"{listing.repo} has no tokenizer.json, which the gateway reads texts with; take a "
            "model that has one"
        )
    if unsummed := [f.path for f in (*kept, *weights) if not (f.sha256 or f.git)]:
        raise PullError(
            f"{listing.home} names no checksum for {unsummed[0]}, so nobody could tell whether "
            "it came whole; use another hub (--from)"
        )
    return tuple(sorted((*kept, *weights), key=lambda file: (file.size, file.path)))


def unsafe(path: str) -> str:
    """Why a name from outside may not become a file's here; "" where it may."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return "leads out of the folder"
    if any(part in ("", ".") or len(part.encode()) > LONGEST for part in parts):
        return "is no name of a file"
    if not path.isprintable() or "\\" in path:
        return "has characters that no file of a model has"
    return ""


def total(files: Sequence[Remote]) -> int:
    """Bytes of all of them."""
    return sum(file.size for file in files)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _in_reach(path: str) -> bool:
    folder = path.rpartition("/")[0]
    return not folder or bool(NUMBERED.fullmatch(folder))


def _weights(listing: Listing, files: Sequence[Remote]) -> list[Remote]:
    """Of each folder the safetensors that its model is made of. Raises PullError without any."""
    found: dict[str, list[Remote]] = {}
    for file in files:
        if file.path.endswith(WEIGHTS):
            found.setdefault(file.path.rpartition("/")[0], []).append(file)
    if not found or ("" not in found and not any(f.startswith("0_") for f in found)):
        raise PullError(_no_weights(listing, files))
    for folder in {f.path.rpartition("/")[0] for f in files if f.path.endswith(PICKLES)}:
        if folder.endswith("_Dense") and folder not in found:
            raise PullError(f"{listing.repo}: {folder} has its weights {_pickled(listing)}")
    return [file for one in found.values() for file in _chosen(listing, one)]


def _chosen(listing: Listing, files: list[Remote]) -> list[Remote]:
    """Without other copies of the same weights; all parts of those that are in parts."""
    plain = [f for f in files if _last(f.path) == f"model{WEIGHTS}"]
    if plain:
        return plain
    parts = [f for f in files if SHARD.fullmatch(_last(f.path))]
    own = [f for f in parts if _last(f.path).startswith("model-")] or parts
    if not own:
        return files
    numbers = {_split(f.path) for f in own}
    stem, _, count = next(iter(numbers))
    lacking = {(stem, n, count) for n in range(1, count + 1)} - numbers
    if lacking:
        name, number, count = min(lacking)
        raise PullError(
            f"{listing.repo} lacks {name}-{number:05}-of-{count:05}{WEIGHTS}; it is not whole at "
            f"{listing.home}: try another hub (--from) or an earlier revision (@REVISION)"
        )
    return own


def _split(path: str) -> tuple[str, int, int]:
    found = SHARD.fullmatch(_last(path))
    assert found is not None
    return found[1], int(found[2]), int(found[3])


def _no_weights(listing: Listing, files: Sequence[Remote]) -> str:
    ends = {_last(f.path).rpartition(".")[2].lower() for f in (*files, *listing.files)}
    if "gguf" in ends:
        bare = re.sub(r"-GGUF$", "", listing.repo, flags=re.IGNORECASE)
        use = f", most likely {bare}" if bare != listing.repo else ""
        return (
            f"{listing.repo} has GGUF files alone, which ER's engines don't serve; take the "
            f"repository with the model's safetensors{use}"
        )
    if any(f.path.endswith(PICKLES) for f in files):
        return f"{listing.repo} has its weights {_pickled(listing)}"
    return f"{listing.repo} has no weights (*{WEIGHTS}); name the repository of the model itself"


def _pickled(listing: Listing) -> str:
    return (
        "as pickles alone (pytorch_model.bin and its like), files that can run a program when "
        "they are loaded, so they are not fetched. On Hugging Face most such repositories have "
        f"safetensors in a pull request: {listing.repo}@refs/pr/1 (its number on the page "
        "Community)"
    )
