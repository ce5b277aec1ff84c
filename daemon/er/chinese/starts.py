"""Chinese: er-vllm and er-gateway at a terminal, and the first er.toml."""

from __future__ import annotations

SAID: dict[str, str] = {
    # er-vllm, er-gateway
    "Runs one replica of er.toml: one vLLM, watched.": (
        "运行 er.toml 中的一个副本：一个受监护的 vLLM。"
    ),
    "the replica's name in er.toml": "er.toml 中的副本名",
    "read F, not the applied er.toml": "读取 F，而不是已应用的 er.toml",
    "ER's gateway, in the foreground.": "ER 的网关，在前台运行。",
    "er-gateway can't go on: {}": "er-gateway 无法继续：{}",
    "correct er.toml, then: sudo er apply": "请改正 er.toml，然后：sudo er apply",
    "{} (and {n} more: er check)": "{}（另有 {} 项：er check）",
    "{} (and {n} more: er check); correct er.toml, then: sudo er apply": (
        "{}（另有 {} 项：er check）；请改正 er.toml，然后：sudo er apply"
    ),
    "no replica {} in {}; there are: {}. Add it to er.toml, then: sudo er apply": (
        "{1} 中没有副本 {0}；现有：{2}。请把它加入 er.toml，然后：sudo er apply"
    ),
    "replica {} is run by something else at {}; there is nothing to start here": (
        "副本 {} 由 {} 上的其他程序运行；这里没有要启动的"
    ),
    "make it writable: systemd-tmpfiles --create, or set RUNTIME_DIRECTORY": (
        "请让它可写：systemd-tmpfiles --create，或设置 RUNTIME_DIRECTORY"
    ),
    "make it writable for this user, or set RUNTIME_DIRECTORY and STATE_DIRECTORY": (
        "请让此用户可写，或设置 RUNTIME_DIRECTORY 和 STATE_DIRECTORY"
    ),
    "another er-vllm runs this replica; stop that one first": (
        "另一个 er-vllm 正在运行此副本；请先停止它"
    ),
    "another er-gateway runs with {}; stop that one first": (
        "另一个 er-gateway 正在使用 {}；请先停止它"
    ),
    "systemd listens on {}, er.toml says {}: run `er apply`": (
        "systemd 监听的是 {}，er.toml 写的是 {}：请运行 `er apply`"
    ),
    "{}: run `er apply`": "{}：请运行 `er apply`",
    "systemd listens on {}, er.toml says {}": "systemd 监听的是 {}，er.toml 写的是 {}",
    "the first API key could not be made: {}": "第一个 API 密钥无法生成：{}",
    "can't listen on {}; change listen in er.toml": "无法监听 {}；请修改 er.toml 中的 listen",
    "port {} is already in use by {}; stop that, or change listen in er.toml": (
        "端口 {} 已被 {} 占用；请停止它，或修改 er.toml 中的 listen"
    ),
    "port {} is already in use; stop that, or change listen in er.toml": (
        "端口 {} 已被占用；请停止占用者，或修改 er.toml 中的 listen"
    ),
    "er-gateway {w} answers at {} ({n} workers)": "er-gateway {} 在 {} 应答（{} 个工作进程）",
    # the first er.toml
    "No GPU: both models run on the CPU build of vLLM. Right, but slow.": (
        "没有 GPU：两个模型都用 vLLM 的 CPU 版运行。结果正确，但慢。"
    ),
    "GPU {} ({}): {} of {} is in use by others; ER takes from what is left.": (
        "GPU {}（{}）：其他进程占用 {}/{}；ER 从剩余的中取用。"
    ),
    "GPU {} ({}) does not say how much memory it has.": "GPU {}（{}）没有报告显存大小。",
    "One GPU ({}): both models share it, {n} of its memory each.": (
        "一块 GPU（{}）：两个模型共用，各占显存的 {}。"
    ),
    "{w}: GPU {} ({}), {n} of it": "{}：GPU {}（{}），占其 {}",
    "{w}: {} on GPU {} is little; it may not start until memory there is freed.": (
        "{0}：GPU {2} 上只有 {1}，偏少；那里的显存释放之前可能无法启动。"
    ),
    "No vLLM on this machine: name the replicas that run elsewhere, as below.": (
        "本机不装 vLLM：请按下面的样子写上在别处运行的副本。"
    ),
    "make room in {}": "请在 {} 中腾出空间",
}
