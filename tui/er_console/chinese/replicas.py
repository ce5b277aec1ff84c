"""Chinese: the Overview and Replicas pages: tables, GPUs, what is known of a replica."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # Columns of the tables.
    "part": "部件",
    "since": "时长",
    "gpu": "GPU",
    "tokens": "token",
    "run/wait": "运行/等",
    "deg C": "温度",
    "power": "功率",
    "restarts": "重启",
    "er.target: start, stop or restart everything": "er.target：启动、停止或重启全部",
    "by {who}": "由{who}",
    "{n} worker": "{n} 个工作进程",
    "{n} workers": "{n} 个工作进程",
    "{workers}, {listen}": "{workers}，{listen}",
    "no replica is known of": "没有已知的副本",
    # Why a unit is as it is.
    "systemd has no such unit (sudo er apply makes it)": (
        "systemd 中没有此单元（sudo er apply 可创建）"
    ),
    "ended with {result}": "以 {result} 结束",
    "not started since boot": "开机后未启动过",
    "stopped in good order": "已正常停止",
    "ended ({result}), systemd starts it again": "已结束（{result}），systemd 将重新启动",
    "{result}, its last word: {text}": "{result}，最后状态：{text}",
    "its launcher last wrote {n} s ago": "启动器 {n} 秒前最后一次写入",
    # What is known of one.
    "(says systemd)": "（据 systemd）",
    "(says its launcher)": "（据启动器）",
    "for {span}": "已持续 {span}",
    "last error": "最近错误",
    "none (no systemd)": "无（没有 systemd）",
    "drained by": "排空者",
    "phase": "阶段",
    "{phase} since {time}": "{phase}，自 {time}",
    "{phase} since {time}, try {n}": "{phase}，自 {time}，第 {n} 次尝试",
    "engine": "引擎",
    "vLLM {version}, {size} of memory": "vLLM {version}，内存 {size}",
    "restarts unknown": "重启次数未知",
    "{n} restart": "重启 {n} 次",
    "{n} restarts": "重启 {n} 次",
    "{running} running, {waiting} waiting in the engine; {tokens} tokens in flight": (
        "引擎中 {running} 个运行，{waiting} 个等待；处理中 {tokens} 个 token"
    ),
    "unknown in the engine; {tokens} tokens in flight": "引擎中未知；处理中 {tokens} 个 token",
    "work": "吞吐",
    "{tokens} tokens/s, {sequences} sequences/s, {calls} calls/s": (
        "{tokens} token/秒，{sequences} 序列/秒，{calls} 次调用/秒"
    ),
    "p50 {p50} ms, p95 {p95} ms in the engine, last minute": (
        "最近一分钟引擎内 p50 {p50} 毫秒，p95 {p95} 毫秒"
    ),
    "power limit {watts} W": "功率上限 {watts} W",
    "memory errors unknown": "显存错误未知",
    "{n} memory error": "显存错误 {n} 个",
    "{n} memory errors": "显存错误 {n} 个",
    "not throttled": "未降频",
    "throttling unknown": "是否降频未知",
    "others on it: {who}": "其上还有：{who}",
    # GPUs and the machine.
    "no GPU is known of": "没有已知的 GPU",
    "use": "使用率",
    "mem": "显存",
    "no replica": "无副本",
    "throttled: {why}": "降频：{why}",
    "cpu": "CPU",
    "load": "负载",
    "net in": "网络入",
    "out": "出",
    # Titles of the panels.
    "parts": "部件",
    "GPUs": "GPU",
    "what to do": "待办",
    "changes": "变化",
    "selected": "所选",
    "past": "历史",
    "replicas": "副本",
    "nothing to do": "无需处理",
    "no change of state since this console was opened": "控制台打开以来状态没有变化",
    "log: {reason}": "日志：{reason}",
    "move the cursor to a replica to see more of it here": "把光标移到副本上，可在此查看详情",
}
