"""Chinese: the Config page: er.toml, er check, er apply, and what those two say themselves."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # Keys.
    "apply": "应用",
    "go back": "回退",
    "file": "文件",
    "diff": "差异",
    "look again": "重新检查",
    "no temporary file can be made: {error}": "无法创建临时文件：{error}",
    "er.toml, or what is different from what is applied": "查看 er.toml，或它与已应用配置的差异",
    "go back to what was applied before, after asking": "回退到之前应用的配置（先确认）",
    # er check.
    "er check and er apply --dry-run are looking at this machine": (
        "er check 和 er apply --dry-run 正在检查本机"
    ),
    "{n} error": "{n} 个错误",
    "{n} errors": "{n} 个错误",
    "{n} warning": "{n} 个警告",
    "{n} warnings": "{n} 个警告",
    "er check: {errors}, {warnings}": "er check：{errors}，{warnings}",
    "er.toml can't be used: {errors}": "er.toml 无法使用：{errors}",
    "er.toml is good: {models}, {replicas}": "er.toml 没有问题：{models}，{replicas}",
    "error": "错误",
    "warning": "警告",
    "{level}, line {line}": "{level}，第 {line} 行",
    "{what}: {why}": "{what}：{why}",
    # Steps.
    "er apply: nothing to do, systemd matches er.toml": (
        "er apply：无事可做，systemd 与 er.toml 一致"
    ),
    "er apply would do {n} step:": "er apply 将执行 {n} 步：",
    "er apply would do {n} steps:": "er apply 将执行 {n} 步：",
    "write {path}": "写入 {path}",
    "remove {path}": "删除 {path}",
    "start {units} together with er.target": "随 er.target 一起启动 {units}",
    "store it as what is applied ({path})": "存为已应用的配置（{path}）",
    "have systemd read its files again": "让 systemd 重新读取其文件",
    "give the gateway new workers; the old ones finish what they have": (
        "为网关换上新的工作进程；旧的会做完手上的请求"
    ),
    "stop {units}": "停止 {units}",
    "start {units}": "启动 {units}",
    "restart {units}": "重启 {units}",
    # The diff.
    "er.toml against what is applied": "er.toml 与已应用配置的差异",
    "er.toml is what is applied, line for line": "er.toml 与已应用的配置逐行相同",
    "systemd does not run ER here: nothing is applied, er.toml itself counts": (
        "ER 在本机不由 systemd 运行：没有已应用的配置，以 er.toml 为准"
    ),
    # Asking and doing.
    "Apply er.toml?": "应用 er.toml？",
    "Apply": "应用",
    "Go back to what was applied before?": "回退到之前应用的配置？",
    "Go back": "回退",
    "er apply does {n} step.": "er apply 将执行 {n} 步。",
    "er apply does {n} steps.": "er apply 将执行 {n} 步。",
    "None of them stops or restarts anything.": "其中没有一步会停止或重启任何单元。",
    "- and {n} more that interrupts; esc shows them all": (
        "- 另有 {n} 步会中断服务；按 esc 可查看全部"
    ),
    "- and {n} more that interrupt; esc shows them all": (
        "- 另有 {n} 步会中断服务；按 esc 可查看全部"
    ),
    "er apply is at work": "er apply 正在执行",
    "er apply is done": "er apply 已完成",
    "er apply failed: {why}": "er apply 失败：{why}",
    "er apply ended with {code}": "er apply 退出码为 {code}",
    "P goes back (er apply {option}), after asking; or correct er.toml, then A again": (
        "按 P 回退（er apply {option}，先确认）；或者改正 er.toml 后再按 A"
    ),
    "nothing to apply": "没有可应用的改动",
    "er.toml has changed since it was shown": "er.toml 在显示之后又被改动",
    "look at it again": "请重新查看",
    # What can't be done.
    "A (apply) can't be pressed: {why}": "A（应用）现在不能用：{why}",
    "A (apply) can't be pressed: er.toml has errors": "A（应用）现在不能用：er.toml 有错误",
    "restart its processes by hand": "请手动重启其进程",
    "er apply changes systemd's files: it is for root": "er apply 会改动 systemd 的文件：仅限 root",
    "systemd does not run ER here: er-gateway and er-vllm read er.toml themselves": (
        "ER 在本机不由 systemd 运行：er-gateway 和 er-vllm 自行读取 er.toml"
    ),
    "no right to read {path}": "无权读取 {path}",
    "there is no {path}": "{path} 不存在",
    "{command} is of another version of ER than this console": (
        "{command} 与本控制台不是同一版本的 ER"
    ),
    "{command} took longer than {limit} s": "{command} 用时超过 {limit} 秒",
    "{command} ended with {code}: {said}": "{command} 退出码为 {code}：{said}",
    "{command} in a shell": "请在命令行中运行 {command}",
}

HEARD: dict[str, str] = {
    # Why a step is done.
    "changed: {fields}": "已更改：{fields}",
    "its unit changed": "其单元已更改",
    "its unit changed (its port stays open meanwhile)": "其单元已更改（期间端口保持打开）",
    "er.toml has it no more": "er.toml 中已没有它",
    "the addresses change": "监听地址改变",
    "{path} came after its start (its port stays open meanwhile)": (
        "{path} 在它启动之后才出现（期间端口保持打开）"
    ),
    # How an apply ended.
    "the new workers answer": "新的工作进程已在应答",
    "the new workers did not come up: {why}": "新的工作进程没有起来：{why}",
    "no new workers after {seconds} s; journalctl -u er-gateway": (
        "{seconds} 秒后仍没有新的工作进程；请看 journalctl -u er-gateway"
    ),
    "nothing was changed": "没有任何改动",
    "{path} can't be applied; correct it. Nothing was changed.": (
        "{path} 无法应用，请先改正。未作任何更改。"
    ),
    "{why}; what was said as done before this stays done; the rest: er apply again": (
        "{why}；此前已完成的步骤保持不变；其余请再运行 er apply"
    ),
    "there is no configuration before this one ({path} is missing)": (
        "没有更早的配置（{path} 不存在）"
    ),
    "there is no configuration applied yet ({path} is missing)": (
        "尚未应用过任何配置（{path} 不存在）"
    ),
    "{path} is closed to you: sudo er apply": "你无权访问 {path}：请用 sudo er apply",
    "{path} is closed to you, so all of it counts as new; sudo shows what really changes": (
        "你无权访问 {path}，因此一切都算作新的；用 sudo 才能看到真正的改动"
    ),
    "this changes systemd's files and needs root: sudo er apply": (
        "这会改动 systemd 的文件，需要 root：sudo er apply"
    ),
    "store the configuration as applied ({path})": "把配置存为已应用（{path}）",
    "restart {unit}: {why}": "重启 {unit}：{why}",
    "the next of its model once it answers": "待其应答后再重启同一模型的下一个副本",
    "{name}: its clients get 503 for about {n} s": "{name}：其客户端约 {n} 秒内得到 503",
    "a successor of {name} was left by er restart --surge": (
        "er restart --surge 遗留了 {name} 的接替副本"
    ),
    "er apply ends it": "er apply 会结束它",
    "another er restart or er apply is at work": "另有 er restart 或 er apply 正在进行",
    "wait for its end": "请等它结束",
    # What er check finds most often.
    "unknown key {key}; did you mean {near}?": "未知的键 {key}；是不是 {near}？",
    "unknown key {key}; known here: {known}": "未知的键 {key}；这里可用的有：{known}",
    "no such file": "没有这个文件",
    "not TOML: {why}": "不是 TOML：{why}",
    "user er can't read this file; as root: {cure}": (
        "用户 er 无法读取此文件；请以 root 运行：{cure}"
    ),
    "{key} {value}: the model ends at {limit}, and that holds": (
        "{key} {value}：模型上限为 {limit}，以它为准"
    ),
    "dimensions {value}: this model has {limit}": "dimensions {value}：该模型只有 {limit} 维",
    "port {port} is taken by {holder}; end it, or choose another port in {key}": (
        "端口 {port} 已被 {holder} 占用；请结束它，或在 {key} 中另选端口"
    ),
    "{address} can't be used: {why}": "{address} 无法使用：{why}",
    "no model {model}; models: {known}": "没有模型 {model}；已有的模型：{known}",
    "{name} already names another model": "{name} 已是另一个模型的名称",
    "{name} already names another replica": "{name} 已是另一个副本的名称",
    "give gpu_memory_utilization or kv_cache, not both": (
        "gpu_memory_utilization 和 kv_cache 只能给一个"
    ),
    "{arg} is set by er-vllm itself; leave it out": "{arg} 由 er-vllm 自行设置；请去掉",
    "{key} means nothing beside url; leave one out": "有 url 时 {key} 没有意义；请去掉其中一个",
    "path {path} must be absolute, as in /srv/models/…": (
        "path {path} 必须是绝对路径，例如 /srv/models/…"
    ),
    "no [[model]]; name at least one": "没有 [[model]]；至少要有一个",
    "GPU {gpu} is promised {share} times over by replicas {names} together; "
    "all on one card must stay below 1.0": (
        "GPU {gpu} 被副本 {names} 合计占用到 {share} 倍；同一张卡上合计须低于 1.0"
    ),
    "{wanted} of the {total} of GPU {gpu} are wanted, but others hold {held}: {who}; "
    "end them or ask for less": (
        "GPU {gpu} 共 {total}，需要 {wanted}，但其他进程占用了 {held}：{who}；请结束它们或少要一些"
    ),
    "the CPU build of vLLM needs libnuma.so.1: apt-get install libnuma1": (
        "CPU 版 vLLM 需要 libnuma.so.1：apt-get install libnuma1"
    ),
    '{path} looks like a reranker; its task would be "score"': (
        '{path} 看起来是重排模型；其 task 应为 "score"'
    ),
    "{path}: only root can look there; ask again with sudo": (
        "{path}：只有 root 能查看；请用 sudo 再试"
    ),
    "{path}: user er may not pass through {closed}; as root: {cure}": (
        "{path}：用户 er 无法穿过 {closed}；请以 root 运行：{cure}"
    ),
    "{what} may take {size}, but {folder} has room for {room}; ask for less, or make room": (
        "{what}最多占用 {size}，但 {folder} 只剩 {room}；请调小，或腾出空间"
    ),
    "the cache of vectors": "向量缓存",
    "vllm: {what} is not installed; {cure}": "vllm：{what} 未安装；{cure}",
    "vllm: {what} is half made; {cure}": "vllm：{what} 没有做完；{cure}",
    "vllm: {version} is not one that ER knows ({known})": (
        "vllm：ER 不认识 {version}（认识 {known}）"
    ),
    "vllm: {path} has no bin/python; name the folder of an environment that has vLLM": (
        "vllm：{path} 里没有 bin/python；请写含有 vLLM 的环境的目录"
    ),
    'vllm is {value}; write a version ("0.25.1") or the absolute path of an environment': (
        'vllm 是 {value}；请写版本（"0.25.1"）或一个环境的绝对路径'
    ),
}
