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
    "the NVIDIA driver says of {part} cards: {error}": "NVIDIA 驱动报告 {part} 块卡有问题：{error}",
    "which numbers the others have can't be told": "无法确定其余卡的编号",
    "see: er doctor": "见 er doctor",
    "GPU {gpu} is in MIG mode and can't be used as a whole": (
        "GPU {gpu} 处于 MIG 模式，不能整块使用"
    ),
    "name one of its MIG instances in er.toml": "请在 er.toml 中写它的一个 MIG 实例",
    "er check lists them": "er check 会列出",
    "{path}: is in llama.cpp's format (GGUF), which vLLM does not load here": (
        "{path}：是 llama.cpp 的格式（GGUF），这里的 vLLM 不能加载"
    ),
    "use the model's own folder with its *.safetensors, or to save memory one that is packed as "
    "AWQ, GPTQ or FP8": (
        "请用模型自己的目录（含 *.safetensors）；想省显存，用 AWQ、GPTQ 或 FP8 量化版"
    ),
    "then: sudo er apply": "然后：sudo er apply",
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
    "GPU {gpu} is in MIG mode and has no instance": "GPU {gpu} 处于 MIG 模式，但没有实例",
    "make them ({command}), or end that mode: {other}": (
        "创建实例（{command}），或退出该模式：{other}"
    ),
    "one engine can't run over MIG instances: a process is shown a single one": (
        "一个引擎不能跨多个 MIG 实例：一个进程只能看到一个"
    ),
    "name one": "请只写一个",
    "the NVIDIA driver {version} is too old for this vLLM, which is built for CUDA {cuda}": (
        "NVIDIA 驱动 {version} 对这个 vLLM 太旧：它是按 CUDA {cuda} 构建的"
    ),
    "install driver {version} or newer and reboot: er help gpus": (
        "请安装 {version} 或更新的驱动并重启：er help gpus"
    ),
    "GPU {gpu} is too old for vLLM, which begins with {limit}": (
        "GPU {gpu} 对 vLLM 太旧：从 {limit} 起支持"
    ),
    "name another GPU": "请写另一块 GPU",
    "GPU {gpu} has no bfloat16": "GPU {gpu} 没有 bfloat16",
    'write dtype = "float16" in the [[model]] {name}': (
        '在 [[model]] {name} 里写 dtype = "float16"'
    ),
    "GPU {gpu} is newer than vLLM's build, which knows up to {limit}": (
        "GPU {gpu} 比这个 vLLM 的构建更新，它最高到 {limit}"
    ),
    "it may not start": "可能无法启动",
    "{list} name a card twice, by its index and its UUID": (
        "{list} 用序号和 UUID 把同一块卡写了两次"
    ),
    "name each once": "每块只写一次",
    "GPUs {list} differ: the slowest and the smallest of them sets the pace of all": (
        "GPU {list} 不一样：最慢、最小的那块决定整体"
    ),
    "{cards} GPUs: its {heads} attention heads can't be shared out evenly": (
        "{cards} 块 GPU：{heads} 个注意力头无法平分"
    ),
    "{cards} GPUs: its {heads} heads of keys and values can't be shared out evenly": (
        "{cards} 块 GPU：{heads} 个键值头无法平分"
    ),
    "{cards} GPUs: its inner width of {width} can't be shared out evenly in whole groups of {n}": (
        "{cards} 块 GPU：内部宽度 {width} 无法按每组 {n} 平分"
    ),
    "{cards} GPUs: its inner width of {width} can't be shared out evenly": (
        "{cards} 块 GPU：内部宽度 {width} 无法平分"
    ),
    "the number of GPUs can be {list}": "GPU 数可以是 {list}",
    "{model}'s weights take {size} of GPU {gpu}, where this replica has room for {room}": (
        "{model} 的权重要占 GPU {gpu} 的 {size}，而此副本只有 {room}"
    ),
    "use more cards (a list), a larger one, or packed weights: er help gpus": (
        "用更多卡（列表）、更大的卡，或量化权重：er help gpus"
    ),
    "there is {card}, and ER runs on NVIDIA GPUs and on the CPU (write {gpu})": (
        "这里是 {card}，而 ER 在 NVIDIA GPU 和 CPU 上运行（写 {gpu}）"
    ),
    "{path}: its weights are packed as {method}, which vLLM is not known to load": (
        "{path}：权重的量化方式是 {method}，不知道 vLLM 能否加载"
    ),
    "use its plain safetensors, or those packed as AWQ, GPTQ or FP8": (
        "请用不量化的 safetensors，或 AWQ、GPTQ、FP8 量化版"
    ),
    "{path}: its weights are packed as {method} with {bits} bits, and vLLM loads {able}": (
        "{path}：权重用 {method} 量化为 {bits} 位，而 vLLM 能加载 {able} 位"
    ),
    "use such a folder, or the plain one": "请用这样的目录，或不量化的",
    "{path}: its weights are packed as gptq with sym = false, which vLLM does not load": (
        "{path}：权重用 gptq 量化且 sym = false，vLLM 不能加载"
    ),
    "use a folder with sym = true, or AWQ": "请用 sym = true 的目录，或 AWQ",
    "{path}: its output layer (lm_head) is packed too, of which a reranker's scores are made and "
    "which vLLM reads plain": (
        "{path}：输出层（lm_head）也被量化了，而重排分数由它算出，vLLM 要求它不量化"
    ),
    "use a folder that leaves it plain": "请用不量化它的目录",
    "{model}: weights packed as {method} are computed in bfloat16 or float16 alone, and {where}": (
        "{model}：{method} 量化的权重只能用 bfloat16 或 float16 计算，而 {where}"
    ),
    'write dtype = "bfloat16" in its [[model]], or use the plain folder': (
        '在它的 [[model]] 里写 dtype = "bfloat16"，或用不量化的目录'
    ),
    "{model}: weights packed as {method} were not tried with the CPU build of vLLM": (
        "{model}：{method} 量化的权重没有在 vLLM 的 CPU 版上试过"
    ),
    "the plain folder was": "不量化的目录试过",
    "GPU {gpu} can't load weights packed as {method}, which begin with {limit}": (
        "GPU {gpu} 不能加载 {method} 量化的权重，从 {limit} 起支持"
    ),
    "use AWQ or GPTQ, or the plain folder": "请用 AWQ 或 GPTQ，或不量化的目录",
    "GPU {gpu} has no FP8 arithmetic ({limit} has): weights packed as {method} save memory there, "
    "not time": ("GPU {gpu} 没有 FP8 运算（{limit} 起有）：{method} 量化的权重只省显存，不省时间"),
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
    # What names give vectors of.
    "{name} gives other vectors than before, other {what} in {path}: {now}, applied is {before}": (
        "{name} 的向量与之前不同，{path} 中的 {what} 不同：{now}，已应用的是 {before}"
    ),
    "{name} gives other vectors than before: it was a name of {model}, other {what} in {path}: "
    "{now}, applied is {before}": (
        "{name} 的向量与之前不同：它曾是 {model} 的名称，{path} 中的 {what} 不同：{now}，"
        "已应用的是 {before}"
    ),
    "what is stored under that name would no longer fit. Put the new model beside it, under a name "
    "of its own (er model add, er help vectors), or, if all that is stored is to be built again: "
    "sudo er apply --new-vectors": (
        "用这个名称存下的就不再匹配。请把新模型用自己的名称放在旁边（er model add，er help "
        "vectors）；如果已存的都要重建：sudo er apply --new-vectors"
    ),
    "{path} has other {what} than what was applied ({now}, applied is {before}): vectors that are "
    "stored under {name} would no longer fit. Put the old files back, or, if all that is stored is "
    "to be built again: sudo er apply --new-vectors (er help vectors)": (
        "{path} 中的 {what} 不是已应用的（{now}，已应用的是 {before}）：以 {name} 存下的向量就不再"
        "匹配。请放回旧文件；如果已存的都要重建：sudo er apply --new-vectors（er help vectors）"
    ),
    "{what}; copy the folder again": "{what}；请重新复制该目录",
    "it is damaged": "它已损坏",
    "it is a link": "它是一个链接",
    "it is of another ER": "它属于另一个版本的 ER",
    "so nothing tells whether names give other vectors than before. Bring it back from a backup "
    "(er help backup), or move it away: then the next er apply takes what they give as it is": (
        "因此无法判断各名称给出的向量是否与之前不同。请从备份恢复它（er help backup），或把它移走："
        "之后的 er apply 会以现在给出的为准"
    ),
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
