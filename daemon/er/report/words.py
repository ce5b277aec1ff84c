"""The report's words in English and Chinese: the same names in both, the same places in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from er.capacity.words import Language

# name -> (English, Chinese)
TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("ER report: {host}", "ER 报告：{host}"),
    "span": (
        "{since} to {until} UTC, made on {made} by ER {version}",
        "{since} 至 {until}（UTC），由 ER {version} 于 {made} 生成",
    ),
    "short": ("In short", "概要"),
    "short_traffic": (
        "{requests} requests were answered, {refused} refused ({success} answered); {texts} texts, "
        "{tokens} tokens.",
        "应答 {requests} 个请求，拒绝 {refused} 个（应答率 {success}）；{texts} 条文本，"
        "{tokens} token。",
    ),
    "short_none": (
        "Nobody asked with a key in this time.",
        "这段时间里没有带密钥的请求。",
    ),
    "short_latency": (
        "Half of the requests took up to {p50}, 99 % up to {p99}; the worst {step} ({at}) had a "
        "p99 of {worst}.",
        "一半请求不超过 {p50}，99 % 不超过 {p99}；最差的{step}（{at}）p99 为 {worst}。",
    ),
    "short_incidents": ("Incidents: {count}.", "故障：{count} 次。"),
    "short_calm": (
        "No replica went out, the gateway was not restarted.",
        "没有副本掉线，网关没有重启。",
    ),
    "short_capacity": (
        "The busiest minute used {share} of what {model} was measured to carry.",
        "最忙的一分钟用了 {model} 实测承载能力的 {share}。",
    ),
    "traffic": ("Traffic", "流量"),
    "traffic_plot": ("Requests by {step}", "每{step}的请求数"),
    "tokens_plot": ("Tokens by {step}", "每{step}的 token 数"),
    "requests": ("Requests", "请求"),
    "refused": ("Refused", "拒绝"),
    "texts": ("Texts", "文本"),
    "tokens": ("Tokens", "token"),
    "answered": ("Answered", "应答"),
    "share": ("Share", "占比"),
    "step_1": ("hour", "小时"),
    "step_6": ("6 hours", " 6 小时"),
    "step_24": ("day", "天"),
    "step_168": ("week", "周"),
    "peak": (
        "Busiest minute: {requests} requests/s, {texts} texts/s, {tokens} tokens/s; at most "
        "{in_flight} requests at once.",
        "最忙的一分钟：每秒 {requests} 个请求、{texts} 条文本、{tokens} token；最多同时 "
        "{in_flight} 个请求。",
    ),
    "latency": ("Latency", "延迟"),
    "latency_plot": (
        "p50, p95 and p99 by {step}, in ms (logarithmic)",
        "每{step}的 p50、p95、p99，单位 ms（对数）",
    ),
    "latency_known": (
        "Times of {timed} answered requests were counted, over {known} of {span}.",
        "统计了 {timed} 个已应答请求的用时，覆盖 {span} 中的 {known}。",
    ),
    "latency_none": (
        "No request's time is known of this span: the gateway counts them since it is of this "
        "version.",
        "这段时间没有用时数据：网关自本版本起才统计。",
    ),
    "quality": ("Quality", "质量"),
    "quality_unasked": (
        "Not known: the gateway could not be asked ({why}).",
        "未知：无法询问网关（{why}）。",
    ),
    "quality_absent": (
        "This gateway runs no canary.",
        "此网关没有运行质量探测。",
    ),
    "quality_never": (
        "No replica was checked yet.",
        "还没有副本被检查过。",
    ),
    "quality_set": (
        "Each replica is asked {queries} queries with {pairs} judged documents.",
        "每个副本用 {queries} 个查询、{pairs} 条评判过的文档检查。",
    ),
    "replica": ("Replica", "副本"),
    "model": ("Model", "模型"),
    "state": ("State", "状态"),
    "ndcg": ("nDCG@10", "nDCG@10"),
    "drift": ("Mean drift", "平均漂移"),
    "ndcg_plot": ("nDCG@10 of {replica}, each check", "{replica} 每次检查的 nDCG@10"),
    "why": ("Why", "原因"),
    "feedback_absent": (
        "Users' feedback is not known: this gateway gives none.",
        "用户反馈未知：此网关不提供。",
    ),
    "feedback_none": ("Users gave no feedback.", "用户没有给出反馈。"),
    "feedback": ("Users' feedback", "用户反馈"),
    "feedbacks": ("Feedbacks", "反馈"),
    "click_rate": ("Clicks", "点击率"),
    "satisfaction": ("Satisfied", "满意率"),
    "mrr": ("MRR", "MRR"),
    "comments": ("Last comments", "最近的评论"),
    "capacity": ("Capacity", "容量"),
    "capacity_none": (
        "Not measured. To measure it: sudo er capacity",
        "尚未测量。测量：sudo er capacity",
    ),
    "capacity_bad": ("Not known: {why}", "未知：{why}"),
    "capacity_at": (
        "Measured on {at} ({minutes} min):",
        "测量于 {at}（{minutes} 分钟）：",
    ),
    "capacity_row": ("{model} carries {carries}.", "{model} 能承受{carries}。"),
    "capacity_used": (
        "{model}: the busiest minute took {peak} texts/s, {share} of it; on average {mean}. "
        "Measured with requests of {measured} tokens, yours are {own}.",
        "{model}：最忙的一分钟每秒 {peak} 条文本，占 {share}；平均 {mean}。"
        "测量用的请求为 {measured} token，实际为 {own}。",
    ),
    "first": ("To change first: {advice}", "最先该改：{advice}"),
    "interrupted": ("It was interrupted.", "测量被中断。"),
    "keys": ("Top keys", "用量最大的密钥"),
    "teams": ("Top teams", "用量最大的团队"),
    "models": ("Models", "模型"),
    "key": ("Key", "密钥"),
    "team": ("Team", "团队"),
    "rest": ("{n} more keys.", "另有 {n} 个密钥。"),
    "nobody": ("no model", "未指定模型"),
    "incidents": ("Incidents", "故障"),
    "when": ("When (UTC)", "时间（UTC）"),
    "what": ("What", "事件"),
    "long": ("For", "时长"),
    "out": ("replica {name} went out", "副本 {name} 掉线"),
    "gateway": ("the gateway was started", "网关启动"),
    "still": ("not back", "未恢复"),
    "unknown": ("not known", "未知"),
    "more": ("{n} more.", "另有 {n} 次。"),
    "none": ("None.", "无。"),
    "up": ("Replicas were up:", "副本在线率："),
    "refusals": ("Refusals by cause", "按原因统计的拒绝"),
    "cause": ("Cause", "原因"),
    "refusals_known": (
        "With those of callers without a valid key, which no key's usage has.",
        "包括没有有效密钥的调用者，这些不计入任何密钥的用量。",
    ),
    "count": ("Count", "次数"),
    "sources": (
        "Totals, keys, teams and models: as er usage. Times, causes and incidents: what the "
        "gateway counted each hour, {known} of {span}.",
        "总量、密钥、团队、模型：与 er usage 相同。用时、原因、故障：网关每小时的统计，"
        "覆盖 {span} 中的 {known}。",
    ),
    "damaged": ("Lines that can't be read were left out: {what}", "无法读取而略去的行：{what}"),
}
STATES: Mapping[str, tuple[str, str]] = {
    "good": ("good", "良好"),
    "drifted": ("drifted", "漂移"),
    "wrong": ("wrong", "错误"),
    "running": ("being checked", "检查中"),
    "waiting": ("waiting", "等待"),
    "never": ("never checked", "未检查"),
    "off": ("off", "关闭"),
}
GLYPHS = {"good": "●", "drifted": "▲", "wrong": "✖", "running": "◐", "waiting": "◐"}


class Words:
    """One language's."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._at = 1 if language == "zh" else 0

    def __call__(self, name: str, /, **places: object) -> str:
        """The text of that name with its places filled. Raises KeyError."""
        return TEXTS[name][self._at].format(**places)

    def state(self, word: str) -> str:
        """A canary's state as glyph and word."""
        known = STATES.get(word)
        return f"{GLYPHS.get(word, '○')} {known[self._at] if known else word}"

    def step(self, hours: int) -> str:
        """The name of a span of so many hours."""
        return self(f"step_{hours}")

    def span(self, seconds: float) -> str:
        """A length of time in its largest sensible unit."""
        units = ((86400.0, "d", " 天"), (3600.0, "h", " 小时"), (60.0, "min", " 分钟"))
        for size, short, chinese in units:
            if seconds >= 2 * size or (size == 60.0 and seconds >= size):
                n = f"{seconds / size:.1f}".removesuffix(".0")
                return f"{n}{chinese}" if self._at else f"{n} {short}"
        return f"{seconds:.0f}{' 秒' if self._at else ' s'}"


def milliseconds(value: float | None) -> str:
    """With as many digits as it is worth; "-" when it is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def percent(value: float | None) -> str:
    """A share; what is not whole is never shown as 100 %."""
    if value is None:
        return "-"
    shown = f"{100 * value:.1f}"
    if shown == "100.0" and value < 1:
        return "> 99.9 %"
    return f"{shown} %"


def printable(text: str) -> str:
    """On one line, without characters that a terminal or a page would obey."""
    words = " ".join(text.split())
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in words)
