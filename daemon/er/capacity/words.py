"""The verdict of a measurement of capacity, in English and Chinese sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from er.capacity.result import Advice, Row

Language = Literal["en", "zh"]

# What an Advice of each kind says; its figures go into the braces.
ADVICE: Mapping[str, tuple[str, str]] = {
    "generator": (
        "The load generator was the limit ({late:.0f} ms late): the machine carries at least this. "
        "Measure from another one: er bench --url.",
        "压测程序自己成了瓶颈（发送迟了 {late:.0f} ms）：本机至少能承受这些。"
        "请从另一台机器测：er bench --url。",
    ),
    "concurrency": (
        "max_concurrency = {limit:.0f} refuses first: {refused:.0f} requests got 503 overloaded. "
        "Raise it in [gateway] of er.toml; memory is what it costs.",
        "max_concurrency = {limit:.0f} 最先拒绝：{refused:.0f} 个请求得到 503 overloaded。"
        "请在 er.toml 的 [gateway] 中调高；代价是内存。",
    ),
    "tokenising": (
        "Tokenising is the limit: it takes {share:.0%} of each worker's time. More workers "
        "(now {workers:.0f}, on {cores:.0f} cores), or clients that send token ids.",
        "分词是瓶颈：占每个 worker {share:.0%} 的时间。请增加 worker（现在 {workers:.0f} 个，"
        "{cores:.0f} 个 CPU 核），或让客户端直接发送 token id。",
    ),
    "gateway": (
        "The gateway is the limit: its workers use {share:.0%} of their cores. More workers "
        "(now {workers:.0f}, on {cores:.0f} cores), or more texts in each request.",
        "网关是瓶颈：worker 已用掉其 CPU 核的 {share:.0%}。请增加 worker（现在 {workers:.0f} 个，"
        "{cores:.0f} 个 CPU 核），或在每个请求里放更多文本。",
    ),
    "batching": (
        "Clients should send more texts in a request: {inputs:.0f} in one carry {ratio:.1f} times "
        "as many texts a second as one does.",
        "客户端应在每个请求里放更多文本：每个请求 {inputs:.0f} 条时，每秒处理的文本是单条的 "
        "{ratio:.1f} 倍。",
    ),
    "larger_calls": (
        "The engine idles ({gpu:.0f} % GPU) while requests wait: its calls are too small. A larger "
        "batch_tokens, or one more replica on the same GPU.",
        "请求在排队而引擎空闲（GPU {gpu:.0f} %）：每次调用太小。请调大 batch_tokens，"
        "或在同一块 GPU 上再加一个副本。",
    ),
    "replicas": (
        "The engine is the limit: {share:.0%} of a request's time is spent waiting for it or in "
        "it. Add a replica (now {replicas:.0f}), on a GPU or cores that are free.",
        "引擎是瓶颈：请求 {share:.0%} 的时间在等引擎或在引擎里。请增加副本"
        "（现在 {replicas:.0f} 个），放在空闲的 GPU 或 CPU 核上。",
    ),
    "rate_limit": (
        "One key may ask {limit}, which is {share:.1%} of what is carried: a single busy client is "
        "refused long before the machine is. er keys set KEY --rate-limit R.",
        "每个密钥的限速为 {limit}，仅为承载能力的 {share:.1%}：单个繁忙的客户端会远早于机器被拒绝。"
        "er keys set KEY --rate-limit R。",
    ),
    "open_end": (
        "All rates that were tried were carried: the machine carries more. Measure for longer: "
        "--minutes.",
        "试过的速率都能承受：机器能承受更多。请测得更久：--minutes。",
    ),
    "nothing": (
        "Not even the least load stayed under the goal of {goal:.0f} ms: see er doctor, or measure "
        "with a goal that this model can reach (--p99).",
        "最小的负载也没有达到 {goal:.0f} ms 的目标：请看 er doctor，或用该模型能达到的目标来测"
        "（--p99）。",
    ),
}

CARRIES = (
    "{rate:,.1f} requests/s of {inputs} x {tokens} tokens ({texts:,.1f} texts/s, "
    "{tokens_s:,.0f} tokens/s) at p99 {p99:,.0f} ms",
    "每秒 {rate:,.1f} 个请求，每个 {inputs} 条 x {tokens} token（每秒 {texts:,.1f} 条文本、"
    "{tokens_s:,.0f} token），p99 {p99:,.0f} ms",
)


def advice(given: Advice, language: Language = "en") -> str:
    """The sentence. A kind of a newer version is shown as it is."""
    known = ADVICE.get(given.kind)
    if known is None:
        return given.kind
    try:
        return known[language == "zh"].format(**given.figures)
    except (KeyError, ValueError):
        return given.kind


def carries(row: Row, language: Language = "en") -> str:
    """What a row's shape is carried at, in one line."""
    return CARRIES[language == "zh"].format(
        rate=row.rate,
        inputs=row.inputs,
        tokens=round(row.mean_tokens),
        texts=row.texts_per_s,
        tokens_s=row.tokens_per_s,
        p99=row.p99_ms or 0.0,
    )
