"""Chinese: why a source gives nothing, and what to do about it."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # Rights.
    "not root, and there is no group er here": "当前用户不是 root，本机也没有 er 组",
    "{user} is not in group er": "{user} 不在 er 组中",
    "{user} is not in group er yet: log in again": "{user} 加入 er 组尚未生效：请重新登录",
    # systemd.
    "systemd is not PID 1 here: ER runs, if at all, as plain processes": (
        "本机的 1 号进程不是 systemd：ER 只能以普通进程运行"
    ),
    "start and stop er-gateway and er-vllm NAME by hand": "请手动启停 er-gateway 和 er-vllm NAME",
    "start and stop its processes where they were started": "请在启动它们的地方启停进程",
    "ER in {folder} runs as plain processes, not by systemd": (
        "{folder} 中的 ER 以普通进程运行，不由 systemd 管理"
    ),
    "there is no D-Bus system bus here, by which systemd is asked": (
        "本机没有 D-Bus 系统总线，无法询问 systemd"
    ),
    "no right to use the D-Bus system bus": "无权使用 D-Bus 系统总线",
    "the connection to the system bus has ended": "与系统总线的连接已断开",
    "systemd is not on the system bus now": "systemd 目前不在系统总线上",
    "systemd does not answer on the system bus": "systemd 在系统总线上没有应答",
    "systemd answers on the system bus: {said}": "systemd 在系统总线上答复：{said}",
    "It may have been done all the same: systemctl status {unit}": (
        "操作可能已经完成：systemctl status {unit}"
    ),
    "systemd refuses {operator} to start {unit} (polkit)": (
        "systemd 不允许 {operator} 启动 {unit}（polkit）"
    ),
    "systemd refuses {operator} to stop {unit} (polkit)": (
        "systemd 不允许 {operator} 停止 {unit}（polkit）"
    ),
    "systemd refuses {operator} to restart {unit} (polkit)": (
        "systemd 不允许 {operator} 重启 {unit}（polkit）"
    ),
    "start failed, {why}": "启动失败，{why}",
    "stop failed, {why}": "停止失败，{why}",
    "restart failed, {why}": "重启失败，{why}",
    "{unit} is {active} ({sub})": "{unit} 现为 {active} ({sub})",
    "somebody else's request took its place; {stands}": "已被他人的请求取代；{stands}",
    "systemd waited for it too long; {stands}": "systemd 等待超时；{stands}",
    "a unit that it needs did not start; {stands}": "它依赖的单元未能启动；{stands}",
    "there was nothing to do in its state; {stands}": "在当前状态下无事可做；{stands}",
    "that can't be done in its state; {stands}": "在当前状态下无法执行；{stands}",
    "an Assert= line of the unit does not hold; {stands}": "单元的 Assert= 条件不满足；{stands}",
    "this system can't do it; {stands}": "本系统不支持此操作；{stands}",
    "how it ended is not known; {stands}": "结果未知；{stands}",
    # The launchers' samples.
    "no right to read {folder}: it is for root and members of group er": (
        "无权读取 {folder}：仅限 root 和 er 组成员"
    ),
    "there is no {folder}: no launcher ran yet": "没有 {folder}：尚未有启动器运行过",
    # The admin API.
    "{replica} gets no new requests": "{replica} 不再接收新请求",
    "{replica} takes requests again": "{replica} 重新接收请求",
    "the admin API did not answer within {n} s": "管理接口在 {n} 秒内没有应答",
    "It may have been done all the same: look again, then {look}": (
        "操作可能已经完成：请再看一次，然后 {look}"
    ),
    "the gateway is older than this console and keeps no history": (
        "网关版本比本控制台旧，没有历史记录"
    ),
    "Upgrade ER: sudo ./install.sh": "请升级 ER：sudo ./install.sh",
    "the gateway is stopped": "网关已停止",
    "no right to use {where}: it is for root and members of group er": (
        "无权使用 {where}：仅限 root 和 er 组成员"
    ),
    "there is no {where}: the gateway does not run here": "没有 {where}：网关没有在本机运行",
    "nobody listens at {where}": "{where} 上没有进程监听",
    "start er-gateway": "启动 er-gateway",
    "the connection to {where} broke: {error}": "与 {where} 的连接中断：{error}",
    "the admin API's answer can't be read": "无法解析管理接口的应答",
    "the admin API answered {status}": "管理接口返回 {status}",
    # GPUs.
    "power cap": "达到功率上限",
    "hardware slowdown": "硬件降频",
    "heat (software)": "过热（软件）",
    "heat (hardware)": "过热（硬件）",
    "power brake": "电源制动",
    "the GPU driver has not answered yet": "GPU 驱动尚未应答",
    "the GPU driver does not answer": "GPU 驱动没有应答",
    "the driver lists no GPU": "驱动没有列出任何 GPU",
    "no NVIDIA GPU driver on this machine": "本机没有 NVIDIA GPU 驱动",
    "the GPU driver says: {said}": "GPU 驱动报告：{said}",
}
