"""Chinese for what the gateway and the launchers say, with {fields}.

A cause and its cure are sentences of their own: "cause; cure" is heard part by part.
"""

from __future__ import annotations

HEARD: dict[str, str] = {
    # Phases of a launcher, and what it says of them.
    "ready": "就绪",
    "starting": "启动中",
    "failed": "失败",
    "draining": "排空中",
    "stopping": "停止中",
    "stopping vLLM": "正在停止 vLLM",
    "stopped": "已停止",
    "checking the model, the GPU and the port": "检查模型、GPU 和端口",
    "queued: another replica is loading on this GPU": "排队：另一个副本正在此 GPU 上加载",
    "importing vLLM": "导入 vLLM",
    "pausing after a failure": "失败后暂停",
    "reading options": "读取选项",
    "reading the model's configuration": "读取模型配置",
    "starting the engine process": "启动引擎进程",
    "loading weights": "加载权重",
    "loading weights {n}/{all}": "加载权重 {n}/{all}",
    "loading weights {n} %": "加载权重 {n} %",
    "weights loaded, measuring memory": "权重已加载，测量显存",
    "compiling": "编译中",
    "KV cache made, warming up": "KV 缓存已建，预热中",
    "capturing CUDA graphs": "捕获 CUDA 图",
    "capturing CUDA graphs {n}/{all}": "捕获 CUDA 图 {n}/{all}",
    "engine is up, starting its server": "引擎已起，启动其服务",
    "first inference": "首次推理",
    "waiting for the model": "等待模型",
    "waiting for GPU {gpu}": "等待 GPU {gpu}",
    "waiting for vLLM": "等待 vLLM",
    "waiting for vLLM: {why}": "等待 vLLM：{why}",
    "{what} is not installed; {cure}": "{what} 未安装；{cure}",
    "{what} is half made; {cure}": "{what} 没有做完；{cure}",
    "waiting for the model: {why}": "等待模型：{why}",
    "waiting for GPU {gpu}: {why}": "等待 GPU {gpu}：{why}",
    "{phase} (attempt {n})": "{phase}（第 {n} 次尝试）",
    "attempt {n}, waiting {s} s: {why}": "第 {n} 次尝试，等待 {s} 秒：{why}",
    "ready: right answer in {ms} ms": "就绪：{ms} 毫秒内答对",
    "ready: busy, real answers flow": "就绪：繁忙，正在正常应答",
    "another er-vllm runs this replica; stop that one first": (
        "另一个 er-vllm 正在运行此副本；请先停止它"
    ),
    # The gateway's STATUS line.
    "up": "正常",
    "{n} workers": "{n} 个工作进程",
    "{up} of {n} replicas up": "{n} 个副本中 {up} 个正常",
    "{up} of {n} replicas up ({out})": "{n} 个副本中 {up} 个正常（{out}）",
    "{requests} requests/s, {tokens} tokens/s, {n} in flight, {queued} sequences queued": (
        "{requests} 请求/秒，{tokens} token/秒，处理中 {n}，排队 {queued} 个序列"
    ),
    # The verdict and the replicas' states.
    "{n} of {all} replicas answer": "{all} 个副本中 {n} 个应答",
    "the gateway is {state}: {reason}": "网关{state}：{reason}",
    "replica {name} is {state}: {reason}": "副本 {name} {state}：{reason}",
    "model {name} has no replica": "模型 {name} 没有副本",
    "{reason} (and {n} more)": "{reason}（另有 {n} 项）",
    "no reason known": "原因未知",
    "no worker runs": "没有工作进程在运行",
    "start it: er-gateway": "启动它：er-gateway",
    "its unit is {state}": "其单元为 {state}",
    "its unit is not running": "其单元未运行",
    "drained by the operator": "由运维人员排空",
    "drained by the launcher": "由启动器排空",
    "drained by the operator and the launcher": "由运维人员和启动器排空",
    "back with: {command}": "恢复命令：{command}",
    "its launcher is stopping it": "启动器正在停止它",
    "its launcher says it answers": "启动器说它能应答",
    "the gateway has not looked": "网关尚未检查",
    "ended with {result}": "以 {result} 结束",
    "nobody has asked {url} lately": "最近没有人询问过 {url}",
    "er-vllm {name} is not running": "er-vllm {name} 未在运行",
    "last error: {reason}": "最近错误：{reason}",
    "it gave a wrong answer": "它给出了错误的结果",
    "answers drifted": "答案已漂移",
    "answers drifted: mean {mean} over {n} pairs from the reference of {day}, {tolerance} is "
    "tolerated": "答案已漂移：{n} 对上与 {day} 的参考平均相差 {mean}，容许 {tolerance}",
    "answers drifted: mean {mean} over {n} pairs from the reference by transformers of {day}, "
    "{tolerance} is tolerated": (
        "答案已漂移：{n} 对上与 {day} 由 transformers 算出的参考平均相差 {mean}，容许 {tolerance}"
    ),
    "answers drifted: one that can't be right: {error}": "答案已漂移：有一个不可能是对的：{error}",
    "answers drifted: mean {noise} between two runs one after the other": (
        "答案已漂移：先后两次测试平均相差 {noise}"
    ),
    "answers drifted before, and the reference is gone": "答案此前已漂移，而参考已不在",
    "if they are right now: {command}": "如果现在答案是对的：{command}",
    "since then: {changes}": "此后的变化：{changes}",
    "{change}, another {what}": "{change}、另一个 {what}",
    "another {what}": "另一个 {what}",
    "vllm {old} -> {new}": "vllm 由 {old} 变为 {new}",
    "its order of documents is no better than chance (nDCG@10 {now}): is it the right model, "
    "prompt and pooling? er help quality": (
        "文档排序不比随机好（nDCG@10 {now}）：模型、prompt 和 pooling 对吗？er help quality"
    ),
    "the canary came to no end: {error}": "金丝雀测试没有结果：{error}",
    "nDCG@10 {now}, was {was}": "nDCG@10 {now}，原为 {was}",
    "due ({why})": "该测了（{why}）",
    "it does not answer yet": "它还没有应答",
    "recorded": "首次良好时记录",
    "its launcher restarts it": "启动器会重启它",
    "operator": "运维人员",
    "launcher": "启动器",
    "down": "不可用",
    "unknown": "未知",
    "activating": "正在启动",
    "deactivating": "正在停止",
    # What a probe or a call met.
    "no answer within {s} s": "{s} 秒内没有应答",
    "no answer for {s} s": "{s} 秒没有应答",
    "can't be reached: {error}": "无法访问：{error}",
    "vLLM {version} at {url} is older than {oldest}, the oldest ER accepts: upgrade it": (
        "{url} 上的 vLLM {version} 早于 ER 接受的最低版本 {oldest}：请升级它"
    ),
    "All connection attempts failed": "所有连接尝试都失败",
    "no connection within {s} s": "{s} 秒内未能连接",
    "no connection ({why})": "没有连接（{why}）",
    "Connection refused": "连接被拒绝",
    "no TLS with it ({why})": "与它建立不了 TLS（{why}）",
    "it shows another certificate than host {host} announces": "它出示的证书不是主机 {host} 公布的",
    "its certificate is not valid now ({why})": "它的证书现在无效（{why}）",
    "look at the clocks": "请核对时钟",
    "host {host} has announced no certificate": "主机 {host} 没有公布证书",
    "er hosts shows all": "er hosts 显示所有主机",
    "what host {host} announces as its certificate is none": "主机 {host} 公布的证书不是证书",
    "replica {name} is {state} ({why})": "副本 {name} 处于 {state}（{why}）",
    "replica {name} has as much as it can take": "副本 {name} 已满",
    "answered {code}: {said}": "返回 {code}：{said}",
    "it answered {code}: {said}": "它返回 {code}：{said}",
    "it answered {type}, not {wanted}": "它返回的是 {type}，而不是 {wanted}",
    "it answered {n} bytes in place of {wanted}": "它返回 {n} 字节，应为 {wanted}",
    "has no {path}, which this model needs": "没有此模型所需的 {path}",
    "let er-vllm start it: vLLM alone takes no segments with token ids": (
        "请由 er-vllm 启动它：单独的 vLLM 不接受带分段的 token id"
    ),
    "gave {n} bytes of {type} for {wanted} bytes": "给出 {n} 字节的 {type}，应为 {wanted} 字节",
    "gave NaN": "给出 NaN",
    "gave infinity": "给出无穷大",
    "gave the score {score}, not within 0 to 1": "给出分数 {score}，不在 0 到 1 之间",
    "gave a vector of length {length}, not 1": "给出的向量长度为 {length}，不是 1",
    "it gave NaN": "它给出 NaN",
    "it gave infinity": "它给出无穷大",
    "it gave the score {score}, not within 0 to 1": "它给出分数 {score}，不在 0 到 1 之间",
    "it gave a vector of length {length}, not 1": "它给出的向量长度为 {length}，不是 1",
    "the first inference {what}": "首次推理{what}",
    "an inference {what}": "一次推理{what}",
    "are the model's weights whole? copy them again, or see vLLM's log": (
        "模型权重是否完整？请重新复制，或查看 vLLM 的日志"
    ),
    "started anew": "已重新启动",
    "answers one question differently than at its start": "对同一问题的回答与启动时不同",
    "the gateway got a wrong answer from it ({why})": "网关从它得到错误的结果（{why}）",
    "started anew, since wrong values stay in its cache": "已重新启动，因为错误的值会留在其缓存中",
    "hangs: no right answer for {s} s ({why}) and no real one either": (
        "挂起：{s} 秒没有正确应答（{why}），也没有实际应答"
    ),
    "out of time: no sign of progress for {s} s while {phase}": "超时：{s} 秒没有进展，当时{phase}",
    "see vLLM's last lines in the journal, and whether disk or GPU hang (dmesg)": (
        "查看日志中 vLLM 的最后几行，以及磁盘或 GPU 是否挂起（dmesg）"
    ),
    "out of time: not ready after {s} s, still {phase}": "超时：{s} 秒后仍未就绪，仍在{phase}",
    "is the model too large for this machine? see vLLM's last lines in the journal": (
        "模型对这台机器是否太大？查看日志中 vLLM 的最后几行"
    ),
    "vLLM can't be started: {error}": "无法启动 vLLM：{error}",
    "run install.sh again": "请重新运行 install.sh",
    # Why an engine ended.
    "{cause} [GPU {gpu}: {free} of {all} free now": "{cause} [GPU {gpu}：现在 {all} 中空闲 {free}",
    "in use by {who}]": "使用者：{who}]",
    "in use by nobody whom the driver names]": "使用者：驱动没有列出]",
    "in use by {who}] [GPU {gpu}: {free} of {all} free now": (
        "使用者：{who}] [GPU {gpu}：现在 {all} 中空闲 {free}"
    ),
    "not enough GPU memory: {wanted} wanted, {free} free on GPU {gpu}": (
        "显存不足：需要 {wanted}，GPU {gpu} 空闲 {free}"
    ),
    (
        "not enough GPU memory: {free} of {all} GiB are free, gpu_memory_utilization = {part} "
        "asks for {wanted} GiB"
    ): "显存不足：{all} GiB 中空闲 {free} GiB，gpu_memory_utilization = {part} 要求 {wanted} GiB",
    (
        "not enough GPU memory: {free} of {all} GiB are free, and beside a kv_cache vLLM wants "
        "{wanted} GiB to be free when it starts"
    ): "显存不足：{all} GiB 中空闲 {free} GiB，而设置 kv_cache 时 vLLM 启动要求空闲 {wanted} GiB",
    "free the card, or name another in er.toml": "释放这块卡，或在 er.toml 中指定另一块",
    "free the card or lower gpu_memory_utilization in er.toml": (
        "释放这块卡，或在 er.toml 中调低 gpu_memory_utilization"
    ),
    (
        "not enough memory for the KV cache: one text of max_tokens = {tokens} needs {wanted} "
        "GiB, {left} GiB are left"
    ): "KV 缓存内存不足：一段 max_tokens = {tokens} 的文本需要 {wanted} GiB，剩余 {left} GiB",
    "lower the model's max_tokens, or raise kv_cache or gpu_memory_utilization in er.toml": (
        "在 er.toml 中调低模型的 max_tokens，或调高 kv_cache 或 gpu_memory_utilization"
    ),
    "not enough GPU memory: nothing is left for the KV cache": "显存不足：没有留给 KV 缓存的空间",
    "raise gpu_memory_utilization in er.toml, or free the card": (
        "在 er.toml 中调高 gpu_memory_utilization，或释放这块卡"
    ),
    "not enough GPU memory: the card was full while loading": "显存不足：加载时卡已满",
    "free it, or lower batch_tokens or gpu_memory_utilization in er.toml": (
        "释放它，或在 er.toml 中调低 batch_tokens 或 gpu_memory_utilization"
    ),
    "GPU {gpu} has {free} GiB free and {name} wants {wanted} GiB": (
        "GPU {gpu} 空闲 {free} GiB，而 {name} 需要 {wanted} GiB"
    ),
    "give one of them less": "请给其中一个少分配一些",
    "not enough memory: the KV cache wants {wanted} GiB, more than the machine has free": (
        "内存不足：KV 缓存需要 {wanted} GiB，超过机器的空闲内存"
    ),
    "lower the replica's kv_cache in er.toml, or free memory": (
        "在 er.toml 中调低副本的 kv_cache，或释放内存"
    ),
    "not enough memory: {free} GiB are free on the processor's memory node, less than vLLM wants": (
        "内存不足：处理器内存节点空闲 {free} GiB，少于 vLLM 所需"
    ),
    "free memory, or set the replica's kv_cache in er.toml": (
        "释放内存，或在 er.toml 中设置副本的 kv_cache"
    ),
    "the CPU build of vLLM lacks a system library": "vLLM 的 CPU 版缺少一个系统库",
    "install it: {command}": "安装：{command}",
    "its port was taken while it started": "启动期间端口被占用",
    "see who has it: ss -ltnp": "查看占用者：ss -ltnp",
    "then change port = … in er.toml, or stop that": "然后在 er.toml 中修改 port = …，或停止占用者",
    "the NVIDIA driver is too old for this vLLM": "NVIDIA 驱动对此 vLLM 太旧",
    "upgrade the driver": "升级驱动",
    "this vLLM has no code for this GPU (too old or too new)": (
        "此 vLLM 没有适用于此 GPU 的代码（太旧或太新）"
    ),
    "use another card, or a CPU": "换一块卡，或使用 CPU",
    "vLLM sees no usable GPU": "vLLM 看不到可用的 GPU",
    "check nvidia-smi, then: sudo er apply (it renders which devices the unit may open)": (
        "检查 nvidia-smi，然后：sudo er apply（它决定单元可打开哪些设备）"
    ),
    "a disk is full": "磁盘已满",
    "free space in {folders}": "在 {folders} 中腾出空间",
    "the model's weights are damaged": "模型权重已损坏",
    "copy its *.safetensors files again": "重新复制其 *.safetensors 文件",
    "the model's folder has no weights": "模型目录中没有权重",
    "copy its *.safetensors files there": "把 *.safetensors 文件复制到那里",
    "vLLM can't serve models of kind {kind}": "vLLM 不支持 {kind} 类模型",
    "name another model in er.toml": "在 er.toml 中指定另一个模型",
    "the model's path is no folder that vLLM can read": "模型路径不是 vLLM 可读的目录",
    "check path = … in er.toml": "检查 er.toml 中的 path = …",
    "vLLM does not know {what}": "vLLM 不认识 {what}",
    "vLLM refuses an option: {what}": "vLLM 拒绝一个选项：{what}",
    "correct args = … of the replica in er.toml": "修正 er.toml 中副本的 args = …",
    "{path} is not readable for this user": "此用户无法读取 {path}",
    "for example: chmod -R o+rX on the model's folder": "例如对模型目录执行：chmod -R o+rX",
    "vLLM wants to compile and has no compiler": "vLLM 需要编译，但没有编译器",
    "leave --enforce-eager on, or install g++ and python3-dev": (
        "保留 --enforce-eager，或安装 g++ 和 python3-dev"
    ),
    "the sandbox is too tight for vLLM (ZeroMQ may not start threads)": (
        "沙箱对 vLLM 太严（ZeroMQ 不能启动线程）"
    ),
    "remove the SystemCallFilter= that was added to the unit": "去掉为单元添加的 SystemCallFilter=",
    "vLLM lost its process {name}": "vLLM 失去了进程 {name}",
    "vLLM lost its process {name}, which was killed (SIGKILL": (
        "vLLM 失去了进程 {name}，它被杀死（SIGKILL"
    ),
    "vLLM lost its process {name}, which was ended by signal {signal}": (
        "vLLM 失去了进程 {name}，它被信号 {signal} 结束"
    ),
    "vLLM lost its process {name}, which failed (exit code {code})": (
        "vLLM 失去了进程 {name}，它失败了（退出码 {code}）"
    ),
    "vLLM lost its process {name}, which failed (exit code {code}): {error}": (
        "vLLM 失去了进程 {name}，它失败了（退出码 {code}）：{error}"
    ),
    "vLLM failed (exit code {code})": "vLLM 失败（退出码 {code}）",
    "vLLM ended by itself (exit code 0)": "vLLM 自行结束（退出码 0）",
    "vLLM was killed (SIGKILL": "vLLM 被杀死（SIGKILL",
    "by the kernel when memory ran out? see journalctl -k)": (
        "内存耗尽被内核杀死？见 journalctl -k）"
    ),
    "by the kernel when memory ran out? see journalctl -k){more}": (
        "内存耗尽被内核杀死？见 journalctl -k）{more}"
    ),
    " without a word": "，没有任何输出",
    " after saying: {last}": "，最后的话：{last}",
    ": its engine process died": "：其引擎进程已死",
    "vLLM was ended by signal {signal}": "vLLM 被信号 {signal} 结束",
    "{ended}: its engine process died": "{ended}：其引擎进程已死",
    "its log may say why (journalctl, also -k)": "日志可能说明原因（journalctl，含 -k）",
    "its log has more (journalctl)": "日志中有更多（journalctl）",
    "its log may have more (journalctl)": "日志中可能有更多（journalctl）",
    "vLLM failed (exit code {code}): {error}": "vLLM 失败（退出码 {code}）：{error}",
    "{ended} after saying: {last}": "{ended}，最后的话：{last}",
    "{ended} without a word": "{ended}，没有任何输出",
    # What hosts share.
    "the shared state ({place}) takes neither user nor password: look at {file} and url": (
        "共享状态（{place}）不接受用户名或密码：请检查 {file} 和 url"
    ),
    "the shared state ({place}) does not let this user do that: {said}": (
        "共享状态（{place}）不允许该用户这样做：{said}"
    ),
    "er help hosts has its rights": "所需权限见 er help hosts",
    "the shared state ({place}) has no memory left: raise its maxmemory": (
        "共享状态（{place}）内存已满：请调大它的 maxmemory"
    ),
    (
        "the shared state ({place}) is a copy that takes no changes: name the first one, or its "
        "Sentinels"
    ): "共享状态（{place}）是只读的副本：请写主节点，或写它的 Sentinel",
    "the shared state ({place}) still loads its data": "共享状态（{place}）仍在加载数据",
    "the shared state ({place}) does not answer in time": "共享状态（{place}）未及时应答",
    "the shared state ({place}) is not reached: {why}": "连接不上共享状态（{place}）：{why}",
    "the shared state ({place}) answers {said}": "共享状态（{place}）应答 {said}",
    "no key changed": "密钥未变",
    "try again when it answers (er status)": "等它应答后再试（er status）",
    "other hosts change keys all the time; no key changed here, try again": (
        "其他主机一直在修改密钥；这里密钥未变，请再试"
    ),
    (
        "whether the key changed is not known: look with er keys list when it answers again, and "
        "revoke a key whose secret nobody saw"
    ): "不知道密钥是否已改：等它再应答后用 er keys list 查看，没人见过密文的密钥请吊销",
    "sudo er state move carries them over": "用 sudo er state move 移过去",
    "the shared state has no keys yet, so this host's own count here alone": (
        "共享状态里还没有密钥，所以这里只用本机自己的"
    ),
    (
        "the shared state lacks keys that are in use here ({n} of them), so this host's own count "
        "here alone"
    ): "共享状态里缺少这里在用的密钥（{n} 个），所以这里只用本机自己的",
    "the entry of the keys in the shared state is not as it was written (its digest is another)": (
        "共享状态里的密钥记录与写入时不同（摘要不符）"
    ),
    "the entry of the keys in the shared state {wrong}": "共享状态里的密钥记录有误：{wrong}",
    "the last known keys stay in force": "最后所知的密钥继续有效",
    # What the console's own sources and actions pass on.
    "hardware slowdown": "硬件降速",
    "heat (software)": "过热（软件）",
    "heat (hardware)": "过热（硬件）",
    "power brake": "功率制动",
}
