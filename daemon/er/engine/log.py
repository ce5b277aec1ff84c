"""What vLLM's log says, in an operator's words: which phase a start is in, and why it failed. Pure.

A cause is one line, "what is wrong; what to do". The first line of a log that matches decides:
what comes after is mostly one process telling of another's death.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from er.engine.command import FREE_BESIDE_CACHE
from er.gpus import Gpu
from er.journal import Level
from er.quantities import bytes_text

MARK = re.compile(r"(?P<before>(?:\([^)]{1,60}\) ?)?)<(?P<level>[0-7])>")
# vLLM's own way to mark a line, where the logging file did not reach.
OWN = re.compile(r"(?:\([^)]{1,60}\) )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
OWN_LEVELS: dict[str, Level] = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "err",
    "CRITICAL": "err",
}
LEVELS: tuple[Level, ...] = ("err", "err", "err", "err", "warning", "notice", "info", "debug")
GLOG = re.compile(r"\[?([IWEF])\d{4} \d\d:\d\d:")  # C++ libraries: "[W1123 21:32:55.2 x.cpp:68]"
GLOG_LEVELS: dict[str, Level] = {"I": "info", "W": "warning", "E": "err", "F": "err"}
TRACE = re.compile(r'Traceback \(most recent|^\s+File "|^\w*(Error|Exception)\b|^terminate called')
PROGRESS = re.compile(r"[A-Z][A-Za-z ]+[^:]*:\s+\d+% ?(?:Completed)?\s*\|.*?(\d+)/(\d+)")

REDRAWN = re.compile(r"\([^)]{1,60}\)")  # what is left of a line that a progress bar wiped

PHASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), phase)
    for pattern, phase in (
        (r"non-default args|\bversion \d+\.\d+", "reading options"),
        (r"Resolved architecture|Using max model len", "reading the model's configuration"),
        (r"Initializing a V1 LLM engine", "starting the engine process"),
        (r"Starting to load model", "loading weights"),
        (r"Loading weights took|Model loading took", "weights loaded, measuring memory"),
        (r"Compiling a graph|torch\.compile|Using cache directory", "compiling"),
        (r"KV cache size", "KV cache made, warming up"),
        (r"Capturing CUDA graph|Graph capturing", "capturing CUDA graphs"),
        (r"init engine", "engine is up, starting its server"),
        (r"Starting vLLM server|Application startup complete", "first inference"),
    )
)


class Line(NamedTuple):
    """One line of the engine's output, its level found, its mark taken off."""

    level: Level
    text: str
    progress: bool  # a progress bar's step: worth a STATUS, not a line in the journal


def read(raw: str) -> Line:
    """Find a line's level: by the mark of our formatter, by vLLM's own, or by its look."""
    text = raw.rstrip()
    marked = MARK.match(text)
    if marked:
        return Line(LEVELS[int(marked["level"])], marked["before"] + text[marked.end() :], False)
    if PROGRESS.search(text) or REDRAWN.fullmatch(text):
        return Line("debug", text.strip(), True)
    own = OWN.match(text)
    if own:
        return Line(OWN_LEVELS[own[1]], text, False)
    foreign = GLOG.match(text)
    if foreign:
        return Line(GLOG_LEVELS[foreign[1]], text, False)
    return Line("err" if TRACE.search(text) else "info", text, False)


def phase(text: str) -> str | None:
    """The phase of the start that a line tells of, None for most lines."""
    step = PROGRESS.search(text)
    if step:
        what = "capturing CUDA graphs" if "CUDA graph" in text else "loading weights"
        return f"{what} {step[1]}/{step[2]}"
    for pattern, name in PHASES:
        if pattern.search(text):
            return name
    return None


def _pinned(found: re.Match[str]) -> str:
    if found[3] == FREE_BESIDE_CACHE:
        return (
            f"not enough GPU memory: {found[1]} of {found[2]} GiB are free, and beside a kv_cache "
            f"vLLM wants {found[4]} GiB to be free when it starts; free the card, or name another "
            "in er.toml"
        )
    return (
        f"not enough GPU memory: {found[1]} of {found[2]} GiB are free, "
        f"gpu_memory_utilization = {found[3]} asks for {found[4]} GiB; free the card or lower "
        "gpu_memory_utilization in er.toml"
    )


def _longest(found: re.Match[str]) -> str:
    return (
        f"not enough memory for the KV cache: one text of max_tokens = {found[1]} needs "
        f"{found[2]} GiB, {found[3]} GiB are left; lower the model's max_tokens, or raise "
        "kv_cache or gpu_memory_utilization in er.toml"
    )


# (pattern, the line for it). The order matters only where one line could match several.
CAUSES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), says)
    for pattern, says in (
        (
            r"Free memory on device [^(]*\(([\d.]+)/([\d.]+) GiB\) on startup is less than .*?"
            r"\(([\d.]+), ([\d.]+) GiB\)",
            _pinned,
        ),
        (
            r"max seq len \((\d+)\), \(?([\d.]+) GiB KV.*available KV cache memory \(([\d.]+) GiB",
            _longest,
        ),
        (
            r"No available memory for the cache blocks",
            "not enough GPU memory: nothing is left for the KV cache; raise gpu_memory_utilization "
            "in er.toml, or free the card",
        ),
        (
            r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory",
            "not enough GPU memory: the card was full while loading; free it, or lower "
            "batch_tokens or gpu_memory_utilization in er.toml",
        ),
        (
            r"less than requested memory for kv ?\(([\d.]+)",
            "not enough memory: the KV cache wants {0} GiB, more than the machine has free; lower "
            "the replica's kv_cache in er.toml, or free memory",
        ),
        (
            r"Available memory on node \d+ \(([\d.]+)/[\d.]+ GiB\) on startup is less than",
            "not enough memory: {0} GiB are free on the processor's memory node, less than vLLM "
            "wants; free memory, or set the replica's kv_cache in er.toml",
        ),
        (
            r"no attribute 'init_cpu_memory_env'|Failed to import from vllm\._C|libnuma\.so",
            "the CPU build of vLLM lacks a system library; install it: apt-get install libnuma1",
        ),
        (
            r"Address already in use",
            "its port was taken while it started; see who has it: ss -ltnp; then change port = … "
            "in er.toml, or stop that",
        ),
        (
            r"(?:CUDA driver version is insufficient|driver on your system is too old)",
            "the NVIDIA driver is too old for this vLLM; upgrade the driver",
        ),
        (
            r"no kernel image is available",
            "this vLLM has no code for this GPU (too old or too new); use another card, or a CPU",
        ),
        (
            r"No CUDA GPUs are available|CUDA_ERROR_NO_DEVICE|no CUDA-capable device|"
            r"Failed to infer device type|CUDA unknown error|Can't initialize NVML",
            "vLLM sees no usable GPU; check nvidia-smi, then: sudo er apply (it renders which "
            "devices the unit may open)",
        ),
        (
            r"No space left on device",
            "a disk is full; free space in /var/cache/er-vllm, /tmp or /dev/shm",
        ),
        (
            r"(?:SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer)",
            "the model's weights are damaged; copy its *.safetensors files again",
        ),
        (
            r"Cannot find any model weights|no file named .*(?:safetensors|bin)",
            "the model's folder has no weights; copy its *.safetensors files there",
        ),
        (
            r"Model architectures (\[.*?\]) are not supported",
            "vLLM can't serve models of kind {0}; name another model in er.toml",
        ),
        (
            r"(?:Repo id must be|Invalid repository ID or local directory)",
            "the model's path is no folder that vLLM can read; check path = … in er.toml",
        ),
        (
            r"unrecognized arguments: (.*)",
            "vLLM does not know {0}; correct args = … of the replica in er.toml",
        ),
        (
            r"error: (argument .*)",
            "vLLM refuses an option: {0}; correct args = … of the replica in er.toml",
        ),
        (
            r"PermissionError: .*?'(/[^']*)'",
            "{0} is not readable for this user; for example: chmod -R o+rX on the model's folder",
        ),
        (
            r"InvalidCxxCompiler|Python\.h: No such file",
            "vLLM wants to compile and has no compiler; leave --enforce-eager on, or install g++ "
            "and python3-dev",
        ),
        (
            r"Operation not permitted \(src/thread\.cpp",
            "the sandbox is too tight for vLLM (ZeroMQ may not start threads); remove the "
            "SystemCallFilter= that was added to the unit",
        ),
    )
)
LOST = "lost its process"
ANY_ERROR = re.compile(r"\b(\w*(?:Error|Exception)): (.+)")
# Advice that vLLM gives at each start, in which an error is named that did not happen.
ADVICE = "Consider increasing with ulimit"
# What the others say of a process that is gone.
WRAPPERS = re.compile(
    r"Engine core initialization failed|EngineDeadError|EngineCore encountered|See root cause|"
    r"WorkerProc initialization failed|BrokenPipeError|EOFError|ConnectionResetError|cancelled"
)


def cause(lines: Sequence[str], ending: str) -> str:
    """One line for why the engine ended, from its last lines. `ending` is how, as a fallback."""
    for text in lines:
        for pattern, says in CAUSES:
            found = pattern.search(text)
            if found:
                return says(found) if callable(says) else says.format(*found.groups())
    errors = [found for text in lines if ADVICE not in text and (found := ANY_ERROR.search(text))]
    telling = [e for e in errors if not WRAPPERS.search(e[0])]
    if errors and not telling:
        died = "" if ending.startswith(LOST) else ": its engine process died"
        return f"vLLM {ending}{died}; its log may say why (journalctl, also -k)"
    if telling:
        return f"vLLM {ending}: {telling[-1][0][:300]}; its log has more (journalctl)"
    last = next((text for text in reversed(lines) if text.strip()), "")
    said = f" after saying: {last.strip()[:200]}" if last else " without a word"
    return f"vLLM {ending}{said}; its log may have more (journalctl)"


def lost(name: str, code: int | None) -> str:
    """The end of one of the engine's processes in words; `code`: its return code, if known."""
    how = "" if code is None else f", which {ending(code)}"
    return f"{LOST} {name}{how}"


def ending(code: int) -> str:
    """A process's end in words, from its return code (negative: the signal)."""
    if code == 0:
        return "ended by itself (exit code 0)"
    if code == -9:
        return "was killed (SIGKILL; by the kernel when memory ran out? see journalctl -k)"
    if code < 0:
        return f"was ended by signal {-code}"
    return f"failed (exit code {code})"


def with_users(text: str, gpus: Iterable[Gpu]) -> str:
    """A cause that speaks of GPU memory, with who holds how much of each card."""
    if "GPU memory" not in text:
        return text
    for gpu in gpus:
        users = ", ".join(map(str, gpu.users[:4])) or "nobody whom the driver names"
        text += (
            f" [GPU {gpu.index}: {bytes_text(gpu.memory_free)} of "
            f"{bytes_text(gpu.memory_total)} free now; in use by {users}]"
        )
    return text
