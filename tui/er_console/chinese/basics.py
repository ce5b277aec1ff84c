"""Chinese: words that stand everywhere: states, spans of time, figures."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # States, beside their signs.
    "up": "正常",
    "ok": "正常",
    "running": "运行中",
    "active": "有效",
    "rotating": "轮换中",
    "starting": "启动中",
    "restarting": "重启中",
    "stopping": "停止中",
    "draining": "排空中",
    "slow": "缓慢",
    "degraded": "降级",
    "waiting": "等待中",
    "drained": "已排空",
    "down": "不可用",
    "failed": "失败",
    "missing": "缺失",
    "revoked": "已吊销",
    "expired": "已过期",
    "stopped": "已停止",
    "unknown": "未知",
}
