"""Chinese: launchers, engines and what a replica answered wrong."""

from __future__ import annotations

SAID: dict[str, str] = {
    "checking the model, the GPU and the port": "检查模型、GPU 和端口",
    "queued: another replica is loading on this GPU": "排队：另一个副本正在此 GPU 上加载",
    "importing vLLM": "导入 vLLM",
    "pausing after a failure": "失败后暂停",
    "reading options": "读取选项",
    "reading the model's configuration": "读取模型配置",
    "starting the engine process": "启动引擎进程",
    "loading weights": "加载权重",
    "loading weights {n}/{n}": "加载权重 {}/{}",
    "loading weights {n} %": "加载权重 {} %",
    "weights loaded, measuring memory": "权重已加载，测量显存",
    "compiling": "编译中",
    "KV cache made, warming up": "KV 缓存已建，预热中",
    "capturing CUDA graphs": "捕获 CUDA 图",
    "capturing CUDA graphs {n}/{n}": "捕获 CUDA 图 {}/{}",
    "engine is up, starting its server": "引擎已起，启动其服务",
    "first inference": "首次推理",
    "waiting for the model: {}": "等待模型：{}",
    "waiting for GPU {}: {}": "等待 GPU {}：{}",
    "{} (attempt {n})": "{}（第 {} 次尝试）",
    "attempt {n}, waiting {n} s: {}": "第 {} 次尝试，等待 {} 秒：{}",
    "ready: right answer in {n} ms": "就绪：{} 毫秒内答对",
    "ready: busy, real answers flow": "就绪：繁忙，正在正常应答",
    "{n} workers": "{} 个工作进程",
    "{n} of {n} replicas up": "{1} 个副本中 {0} 个正常",
    "{n} of {n} replicas up ({})": "{1} 个副本中 {0} 个正常（{2}）",
    "{n} requests/s, {n} tokens/s, {n} in flight, {n} sequences queued": (
        "{} 请求/秒，{} token/秒，处理中 {}，排队 {} 个序列"
    ),
    "no worker runs": "没有工作进程在运行",
    "start it: er-gateway": "启动它：er-gateway",
    "drained by the launcher": "由启动器排空",
    "drained by the operator and the launcher": "由运维人员和启动器排空",
    "its launcher says it answers": "启动器说它能应答",
    "the gateway has not looked": "网关尚未检查",
    "it gave a wrong answer": "它给出了错误的结果",
    "answers drifted": "答案已漂移",
    "answers drifted: mean {} over {n} pairs from the reference of {}, {} is tolerated": (
        "答案已漂移：{1} 对上与 {2} 的参考平均相差 {0}，容许 {3}"
    ),
    (
        "answers drifted: mean {} over {n} pairs from the reference by transformers of {}, {} is "
        "tolerated"
    ): ("答案已漂移：{1} 对上与 {2} 由 transformers 算出的参考平均相差 {0}，容许 {3}"),
    "answers drifted: one that can't be right: {}": "答案已漂移：有一个不可能是对的：{}",
    "answers drifted: mean {} between two runs one after the other": (
        "答案已漂移：先后两次测试平均相差 {}"
    ),
    "answers drifted before, and the reference is gone": "答案此前已漂移，而参考已不在",
    "if they are right now: {}": "如果现在答案是对的：{}",
    "since then: {}": "此后的变化：{}",
    "{}, another {}": "{}、另一个 {}",
    "another {}": "另一个 {}",
    "vllm {} -> {}": "vllm 由 {} 变为 {}",
    (
        "its order of documents is no better than chance (nDCG@10 {}): is it the right model, "
        "prompt and pooling? er help quality"
    ): ("文档排序不比随机好（nDCG@10 {}）：模型、prompt 和 pooling 对吗？er help quality"),
    "the canary came to no end: {}": "金丝雀测试没有结果：{}",
    "nDCG@10 {}, was {}": "nDCG@10 {}，原为 {}",
    "due ({})": "该测了（{}）",
    "it does not answer yet": "它还没有应答",
    "recorded": "首次良好时记录",
    "its launcher restarts it": "启动器会重启它",
    "no answer within {n} s": "{} 秒内没有应答",
    "no answer for {n} s": "{} 秒没有应答",
    "can't be reached: {}": "无法访问：{}",
    "All connection attempts failed": "所有连接尝试都失败",
    "no connection within {n} s": "{} 秒内未能连接",
    "no connection ({})": "没有连接（{}）",
    "answered {n}: {}": "返回 {}：{}",
    "it answered {n}: {}": "它返回 {}：{}",
    "it answered {}, not {}": "它返回的是 {}，而不是 {}",
    "it answered {n} bytes in place of {}": "它返回 {} 字节，应为 {}",
    "has no {}, which this model needs": "没有此模型所需的 {}",
    "let er-vllm start it: vLLM alone takes no segments with token ids": (
        "请由 er-vllm 启动它：单独的 vLLM 不接受带分段的 token id"
    ),
    "gave {n} bytes of {} for {} bytes": "给出 {} 字节的 {}，应为 {} 字节",
    "gave NaN": "给出 NaN",
    "gave infinity": "给出无穷大",
    "gave the score {}, not within 0 to 1": "给出分数 {}，不在 0 到 1 之间",
    "gave a vector of length {}, not 1": "给出的向量长度为 {}，不是 1",
    "it gave NaN": "它给出 NaN",
    "it gave infinity": "它给出无穷大",
    "it gave the score {}, not within 0 to 1": "它给出分数 {}，不在 0 到 1 之间",
    "it gave a vector of length {}, not 1": "它给出的向量长度为 {}，不是 1",
    "the first inference {}": "首次推理{}",
    "an inference {}": "一次推理{}",
    "are the model's weights whole? copy them again, or see vLLM's log": (
        "模型权重是否完整？请重新复制，或查看 vLLM 的日志"
    ),
    "started anew": "已重新启动",
    "answers one question differently than at its start": "对同一问题的回答与启动时不同",
    "the gateway got a wrong answer from it ({})": "网关从它得到错误的结果（{}）",
    "started anew, since wrong values stay in its cache": "已重新启动，因为错误的值会留在其缓存中",
    "hangs: no right answer for {n} s ({}) and no real one either": (
        "挂起：{} 秒没有正确应答（{}），也没有实际应答"
    ),
    "out of time: no sign of progress for {n} s while {}": "超时：{} 秒没有进展，当时{}",
    "see vLLM's last lines in the journal, and whether disk or GPU hang (dmesg)": (
        "查看日志中 vLLM 的最后几行，以及磁盘或 GPU 是否挂起（dmesg）"
    ),
    "out of time: not ready after {n} s, still {}": "超时：{} 秒后仍未就绪，仍在{}",
    "is the model too large for this machine? see vLLM's last lines in the journal": (
        "模型对这台机器是否太大？查看日志中 vLLM 的最后几行"
    ),
    "vLLM can't be started: {}": "无法启动 vLLM：{}",
    "run install.sh again": "请重新运行 install.sh",
    "in use by {}] [GPU {}: {} of {n} free now": "使用者：{0}] [GPU {1}：现在 {3} 中空闲 {2}",
    "not enough GPU memory: {} wanted, {} free on GPU {}": "显存不足：需要 {0}，GPU {2} 空闲 {1}",
    "not enough GPU memory: {} of {n} GiB are free, gpu_memory_utilization = {} asks for {} GiB": (
        "显存不足：{1} GiB 中空闲 {0} GiB，gpu_memory_utilization = {2} 要求 {3} GiB"
    ),
    (
        "not enough GPU memory: {} of {n} GiB are free, and beside a kv_cache vLLM wants {} GiB "
        "to be free when it starts"
    ): ("显存不足：{1} GiB 中空闲 {0} GiB，而设置 kv_cache 时 vLLM 启动要求空闲 {2} GiB"),
    "free the card, or name another in er.toml": "释放这块卡，或在 er.toml 中指定另一块",
    "free the card or lower gpu_memory_utilization in er.toml": (
        "释放这块卡，或在 er.toml 中调低 gpu_memory_utilization"
    ),
    (
        "not enough memory for the KV cache: one text of max_tokens = {n} needs {} GiB, {} GiB "
        "are left"
    ): ("KV 缓存内存不足：一段 max_tokens = {} 的文本需要 {} GiB，剩余 {} GiB"),
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
    "GPU {} has {} GiB free and {} wants {} GiB": "GPU {} 空闲 {} GiB，而 {} 需要 {} GiB",
    "give one of them less": "请给其中一个少分配一些",
    "not enough memory: the KV cache wants {} GiB, more than the machine has free": (
        "内存不足：KV 缓存需要 {} GiB，超过机器的空闲内存"
    ),
    "lower the replica's kv_cache in er.toml, or free memory": (
        "在 er.toml 中调低副本的 kv_cache，或释放内存"
    ),
    "not enough memory: {} GiB are free on the processor's memory node, less than vLLM wants": (
        "内存不足：处理器内存节点空闲 {} GiB，少于 vLLM 所需"
    ),
    "free memory, or set the replica's kv_cache in er.toml": (
        "释放内存，或在 er.toml 中设置副本的 kv_cache"
    ),
    "the CPU build of vLLM lacks a system library": "vLLM 的 CPU 版缺少一个系统库",
    "install it: {}": "安装：{}",
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
    "free space in {}": "在 {} 中腾出空间",
    "the model's weights are damaged": "模型权重已损坏",
    "copy its *.safetensors files again": "重新复制其 *.safetensors 文件",
    "the model's folder has no weights": "模型目录中没有权重",
    "copy its *.safetensors files there": "把 *.safetensors 文件复制到那里",
    "vLLM can't serve models of kind {}": "vLLM 不支持 {} 类模型",
    "name another model in er.toml": "在 er.toml 中指定另一个模型",
    "the model's path is no folder that vLLM can read": "模型路径不是 vLLM 可读的目录",
    "check path = … in er.toml": "检查 er.toml 中的 path = …",
    "vLLM does not know {}": "vLLM 不认识 {}",
    "vLLM refuses an option: {}": "vLLM 拒绝一个选项：{}",
    "correct args = … of the replica in er.toml": "修正 er.toml 中副本的 args = …",
    "{} is not readable for this user": "此用户无法读取 {}",
    "for example: chmod -R o+rX on the model's folder": "例如对模型目录执行：chmod -R o+rX",
    "vLLM wants to compile and has no compiler": "vLLM 需要编译，但没有编译器",
    "leave --enforce-eager on, or install g++ and python3-dev": (
        "保留 --enforce-eager，或安装 g++ 和 python3-dev"
    ),
    "the sandbox is too tight for vLLM (ZeroMQ may not start threads)": (
        "沙箱对 vLLM 太严（ZeroMQ 不能启动线程）"
    ),
    "remove the SystemCallFilter= that was added to the unit": "去掉为单元添加的 SystemCallFilter=",
    "vLLM lost its process {}": "vLLM 失去了进程 {}",
    "vLLM lost its process {}, which was ended by signal {}": (
        "vLLM 失去了进程 {}，它被信号 {} 结束"
    ),
    "vLLM lost its process {}, which failed (exit code {n})": (
        "vLLM 失去了进程 {}，它失败了（退出码 {}）"
    ),
    "vLLM lost its process {}, which failed (exit code {n}): {}": (
        "vLLM 失去了进程 {}，它失败了（退出码 {}）：{}"
    ),
    "vLLM failed (exit code {n})": "vLLM 失败（退出码 {}）",
    "vLLM ended by itself (exit code 0)": "vLLM 自行结束（退出码 0）",
    "vLLM was ended by signal {}": "vLLM 被信号 {} 结束",
    "{}: its engine process died": "{}：其引擎进程已死",
    "its log may say why (journalctl, also -k)": "日志可能说明原因（journalctl，含 -k）",
    "its log has more (journalctl)": "日志中有更多（journalctl）",
    "its log may have more (journalctl)": "日志中可能有更多（journalctl）",
    "vLLM failed (exit code {n}): {}": "vLLM 失败（退出码 {}）：{}",
    "{} after saying: {}": "{}，最后的话：{}",
    "{} without a word": "{}，没有任何输出",
    "hardware slowdown": "硬件降速",
    "heat (software)": "过热（软件）",
    "heat (hardware)": "过热（硬件）",
    "power brake": "功率制动",
    (
        "vLLM lost its process {}, which was killed (SIGKILL; by the kernel when memory ran out? "
        "see journalctl -k)"
    ): ("vLLM 失去了进程 {}，它被杀死（SIGKILL；内存耗尽被内核杀死？见 journalctl -k）"),
    "vLLM was killed (SIGKILL; by the kernel when memory ran out? see journalctl -k)": (
        "vLLM 被杀死（SIGKILL；内存耗尽被内核杀死？见 journalctl -k）"
    ),
    "{} [GPU {}: {} of {} free now; in use by {}]": (
        "{0} [GPU {1}：现在 {3} 中空闲 {2}；使用者：{4}]"
    ),
    "nobody whom the driver names": "驱动没有列出",
    "a disk is full; free space in {}": "磁盘已满；请在 {} 中腾出空间",
    "vLLM does not know {}; correct args = … of the replica in er.toml": (
        "vLLM 不认识 {}；请修正 er.toml 中副本的 args = …"
    ),
    "runs without the ledger, so the gateway can't drain it: {}": "没有 ledger，网关无法排空它：{}",
    "READY after {n} s, first inference {n} ms": "{} 秒后就绪，首次推理 {} 毫秒",
    "no reason kept": "没有保留原因",
    (
        "the model's files changed while they were loaded, so no vectors are cached; restart "
        "this unit once they are as they should be"
    ): ("模型文件在加载过程中被改动，因此不缓存向量；文件正确后请重启此单元"),
    "{}; looked for again every {n} s": "{}；每 {} 秒再检查一次",
    "{}; next attempt ({}) in {n} s": "{0}；{2} 秒后再试（{1}）",
    "vLLM did not end within {n} s: killed": "vLLM {} 秒内没有结束：已强行终止",
    "{n} tokens still in flight after the drain's time": "排空时间已到，仍有 {} 个 token 在处理",
    "drained in {n} s": "{} 秒内排空",
    "an answer that is not HTTP ({})": "应答不是 HTTP（{}）",
    "the connection broke ({})": "连接中断（{}）",
    "an answer that is far too long": "应答过长",
    "has no {}, which this model needs; {}": "没有此模型所需的 {}；{}",
    "no type": "无类型",
    "{n} scores against {n} of the reference": "{} 个分数，参考有 {} 个",
    "a score is NaN or infinite": "有一个分数是 NaN 或无穷大",
    "a disk is full; free space in /var/cache/er-vllm, /tmp or /dev/shm": (
        "磁盘已满；请在 /var/cache/er-vllm、/tmp 或 /dev/shm 中腾出空间"
    ),
    "it answered what a {} robot does not: nothing": "它返回的不像 {} 机器人：空",
    "make room there (df), or make it writable for the user this runs as": (
        "请在那里腾出空间（df），或让运行它的用户可写"
    ),
}
