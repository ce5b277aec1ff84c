"""Chinese for what `er check` finds and what a launcher finds before a start, with {fields}."""

from __future__ import annotations

HEARD: dict[str, str] = {
    # What stands in the way of a start.
    "port {port} is taken by {who}": "端口 {port} 被 {who} 占用",
    "port {port} is {why}": "端口 {port}：{why}",
    "stop that ({command} names it to root), or change port = … in er.toml": (
        "停止它（root 可用 {command} 查看），或在 er.toml 中修改 port = …"
    ),
    "GPU {gpu} is not there: {why}": "没有 GPU {gpu}：{why}",
    "see nvidia-smi, then: sudo er apply": "查看 nvidia-smi，然后：sudo er apply",
    "GPU {gpu} is not there": "没有 GPU {gpu}",
    "there are: {list}": "现有：{list}",
    'correct gpu = … in er.toml, or "cpu"': '修正 er.toml 中的 gpu = …，或写 "cpu"',
    "no GPU is visible to this process": "此进程看不到任何 GPU",
    "the NVIDIA driver sees no GPU": "NVIDIA 驱动没有发现 GPU",
    "the NVIDIA driver says: {error}": "NVIDIA 驱动报告：{error}",
    "the NVIDIA driver does not answer: {error}": "NVIDIA 驱动没有应答：{error}",
    "no NVIDIA driver is installed (its library libnvidia-ml is missing)": (
        "未安装 NVIDIA 驱动（缺少 libnvidia-ml 库）"
    ),
    'gpu = "cpu", but the vLLM here ({build}) is the build for GPUs': (
        'gpu = "cpu"，但这里的 vLLM（{build}）是 GPU 版'
    ),
    "name a GPU in er.toml, or install the other build: install.sh --cpu": (
        "在 er.toml 中指定 GPU，或安装另一版：install.sh --cpu"
    ),
    "gpu = {gpu}, but the vLLM here ({build}) is the build for CPUs": (
        "gpu = {gpu}，但这里的 vLLM（{build}）是 CPU 版"
    ),
    'write gpu = "cpu" in er.toml, or run install.sh again': (
        '在 er.toml 中写 gpu = "cpu"，或重新运行 install.sh'
    ),
    "{path}: its sizes are not whole numbers": "{path}：其中的尺寸不是整数",
    "is this the folder of a text model, copied whole?": "这是完整复制的文本模型目录吗？",
    "GPU {gpu}: {device} is missing": "GPU {gpu}：缺少 {device}",
    "{command} makes it": "可用 {command} 创建",
    "GPU {gpu}: {device} can't be opened ({error})": "GPU {gpu}：无法打开 {device}（{error}）",
    "let the unit have it: sudo er apply": "让单元可以使用它：sudo er apply",
    "{path}: no such folder": "{path}：没有此目录",
    "put the model's files there (er models pull)": "把模型文件放到那里（er models pull）",
    "{path}: is not a folder": "{path}：不是目录",
    "name the folder that holds config.json": "请指定含 config.json 的目录",
    "{path}: not reachable for this user": "{path}：此用户无法到达",
    "{path}: not readable for this user": "{path}：此用户无法读取",
    "make it readable for user er, for example: {command}": "让 er 用户可读，例如：{command}",
    "{path}: missing": "{path}：缺失",
    "copy the whole model folder again": "重新复制整个模型目录",
    "{path}: not JSON ({error})": "{path}：不是 JSON（{error}）",
    "copy the file again": "重新复制该文件",
    "{path}: has no weights": "{path}：没有权重",
    "if it is there now, run: sudo er apply": "如果现在有了，运行：sudo er apply",
    "{path}: is a link to a file that is missing": "{path}：是指向缺失文件的链接",
    "copy the model's folder again with what its links name: {command}": (
        "连同链接指向的内容重新复制模型目录：{command}"
    ),
    "{path}: Permission denied": "{path}：权限不足",
    "Permission denied": "权限不足",
    "No such file or directory": "没有此文件或目录",
    (
        "make it readable for the user this runs as, for example: {command} (its parent folders "
        "need x)"
    ): "让运行用户可读，例如：{command}（上级目录需要 x 权限）",
    "{path}: No space left on device": "{path}：设备空间不足",
    "make room there (df), or make it writable for the user this runs as": (
        "在那里腾出空间（df），或让运行用户可写"
    ),
    # er check.
    "user er can't read this file": "er 用户无法读取此文件",
    "as root: {command}": "以 root 执行：{command}",
    "user er can't read {path}": "er 用户无法读取 {path}",
    "make it readable, for example: chmod -R o+rX on the folder ({n} in all)": (
        "让它可读，例如对目录执行 chmod -R o+rX（共 {n} 个）"
    ),
    "{path}: user er may not pass through {folder}": "{path}：er 用户不能通过 {folder}",
    "{path}: only root can look there": "{path}：只有 root 能查看",
    "ask again with sudo": "请用 sudo 再试",
    "no weights (*.safetensors) in it": "其中没有权重（*.safetensors）",
    "max_tokens {n}: the model ends at {limit}, and that holds": (
        "max_tokens {n}：模型上限为 {limit}，以此为准"
    ),
    "dimensions {n}: this model has {own}": "dimensions {n}：此模型为 {own}",
    "{model} looks like a reranker": "{model} 看起来是重排模型",
    'its task would be "score"': '其 task 应为 "score"',
    "{model} looks like an embedding model (it has sentence-transformers' modules.json)": (
        "{model} 看起来是嵌入模型（含 sentence-transformers 的 modules.json）"
    ),
    'for task = "score" name a reranker, or use via = "…"': (
        'task = "score" 请指定重排模型，或使用 via = "…"'
    ),
    'gpu = "cpu" needs the CPU build of vLLM, and this machine has the CUDA build': (
        'gpu = "cpu" 需要 vLLM 的 CPU 版，而本机是 CUDA 版'
    ),
    "name a GPU, or install the other: sudo ./install.sh --cpu": (
        "请指定 GPU，或安装另一版：sudo ./install.sh --cpu"
    ),
    "GPU {gpu}: the installed vLLM is the CPU build": "GPU {gpu}：已安装的 vLLM 是 CPU 版",
    'run install.sh again on a machine with a working NVIDIA driver, or write gpu = "cpu"': (
        '在 NVIDIA 驱动正常的机器上重新运行 install.sh，或写 gpu = "cpu"'
    ),
    "GPU {gpu} is divided (MIG)": "GPU {gpu} 已划分（MIG）",
    "name one of its instances: {names}": "请指定其中一个实例：{names}",
    "GPU {gpu} is promised {part} times over by replicas {names} together": (
        "GPU {gpu} 被副本 {names} 合计分配了 {part} 倍"
    ),
    "all on one card must stay below 1.0": "同一块卡上的总和须低于 1.0",
    "{wanted} of the {all} of GPU {gpu} are wanted, but others hold {held}: {who}": (
        "需要 GPU {gpu} 的 {all} 中的 {wanted}，但其他进程占用 {held}：{who}"
    ),
    "end them or ask for less": "结束它们，或减少要求",
    "end it, or choose another port in {key}": "结束它，或在 {key} 中选择其他端口",
    "{what} may take {size}, but {folder} has room for {room}": (
        "{what} 可占用 {size}，但 {folder} 只有 {room} 空间"
    ),
    "ask for less, or make room": "减少要求，或腾出空间",
    "no [[model]]": "没有 [[model]]",
    "name at least one": "至少指定一个",
    "no model {name}": "没有模型 {name}",
    "models: {list}": "模型：{list}",
    "port {port} is taken by {replica}": "端口 {port} 被 {replica} 占用",
    "{key} means nothing beside url": "有 url 时 {key} 没有意义",
    "leave one out": "请去掉一个",
    "a replica's name has only a-z, 0-9 and -, and begins with a letter or digit": (
        "副本名只能含 a-z、0-9 和 -，且以字母或数字开头"
    ),
    "known here: {list}": "此处可用：{list}",
    "{n} errors, {more} warnings": "{n} 个错误，{more} 个警告",
    # Alerts.
    "{path}: user er may not run it": "{path}：er 用户无权运行它",
    "{path}: the gateway's unit does not see {folder}": "{path}：网关的单元看不到 {folder}",
    "put it into /usr/local/bin, say": "可以放到 /usr/local/bin",
    "{path}: no such file that user er could see": "{path}：er 用户看不到这个文件",
    "{key} {path}: No such file or directory": "{key} {path}：没有这个文件",
    "{key} {path} must hold one line": "{key} {path} 必须只有一行",
    "every user of this machine can read {path}": "这台机器的每个用户都能读 {path}",
    "the address is a secret, and every user can read this file": (
        "地址是密钥，而每个用户都能读这个文件"
    ),
    "is sent to {host} without HTTPS, for all on the way to read": (
        "发往 {host} 没有用 HTTPS，途中谁都能读到"
    ),
    "{key} is no address": "{key} 不是地址",
    "write https://HOST/…, as its maker shows it": "写 https://HOST/…，照机器人页面给出的写",
    "{key} is no absolute path": "{key} 不是绝对路径",
}
