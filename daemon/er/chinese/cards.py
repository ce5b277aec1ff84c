"""Chinese: GPUs: what fits them, what is wrong with driver and cards."""

from __future__ import annotations

SAID: dict[str, str] = {
    (
        "GPU {} is in MIG mode and has no instance; make them (sudo nvidia-smi mig -i {} -cgi "
        "PROFILE -C), or end that mode: sudo nvidia-smi -i {} -mig 0"
    ): (
        "GPU {} 处于 MIG 模式但没有实例；请创建（sudo nvidia-smi mig -i {} -cgi PROFILE -C），或"
        "退出该模式：sudo nvidia-smi -i {} -mig 0"
    ),
    (
        "the NVIDIA driver {} is too old for this vLLM, which is built for CUDA {}; install "
        "driver {} or newer and reboot: er help gpus"
    ): (
        "NVIDIA 驱动 {} 对此 vLLM 太旧，它为 CUDA {} 编译；请安装驱动 {} 或更新的并重启：er help "
        "gpus"
    ),
    (
        "the NVIDIA driver {}{} is too old for this vLLM, which is built for CUDA {}; install "
        "driver {} or newer and reboot: er help gpus"
    ): (
        "NVIDIA 驱动 {}{} 对此 vLLM 太旧，它为 CUDA {} 编译；请安装驱动 {} 或更新的并重启：er "
        "help gpus"
    ),
    "{} is too old for vLLM, which begins with {}; name another GPU": (
        "{} 对 vLLM 来说太旧，vLLM 要求至少 {}；请指定其他 GPU"
    ),
    "{} is too old for vLLM, {}": "{} 对 vLLM 来说太旧，{}",
    "which begins with {}; name another GPU": "要求至少 {}；请指定其他 GPU",
    'write dtype = "float16" in the [[model]] {}': '请在 [[model]] {} 中写 dtype = "float16"',
    "{} has no bfloat16; {}": "{} 不支持 bfloat16；{}",
    "{} has no bfloat16": "{} 不支持 bfloat16",
    "{} is newer than vLLM's build, which knows up to {}; it may not start": (
        "{} 比 vLLM 的编译版本新，后者最高支持 {}；可能无法启动"
    ),
    "one engine can't run over MIG instances: a process is shown a single one; name one": (
        "一个引擎不能跨多个 MIG 实例：一个进程只能看到一个；请只写一个"
    ),
    "{} name a card twice, by its index and its UUID; name each once": (
        "{} 把同一块卡写了两次（序号和 UUID）；请各写一次"
    ),
    "GPUs {} differ: the slowest and the smallest of them sets the pace of all": (
        "GPU {} 不一样：最慢、最小的那块决定整体"
    ),
    "{n} GPUs: {}; the number of GPUs can be {}": "{} 块 GPU：{}；GPU 数可以是 {}",
    "its {n} attention heads can't be shared out evenly": "它的 {} 个注意力头无法均分",
    "its {n} heads of keys and values can't be shared out evenly": "它的 {} 个键值头无法均分",
    "its inner width of {n} can't be shared out evenly": "它的中间维度 {} 无法均分",
    "its inner width of {n} can't be shared out evenly in whole groups of {n}": (
        "它的中间维度 {} 无法按每组 {} 均分"
    ),
    (
        "{}'s weights take {} of GPU {} ({}), where this replica has room for {}; use more cards "
        "(a list), a larger one, or packed weights: er help gpus"
    ): (
        "{0} 的权重占 GPU {2}（{3}）的 {1}，而此副本只有 {4}；请用更多的卡（列表）、更大的卡，或"
        "压缩的权重：er help gpus"
    ),
    'there is {}, and ER runs on NVIDIA GPUs and on the CPU (write gpu = "cpu")': (
        '这里是 {}，而 ER 在 NVIDIA GPU 和 CPU 上运行（写 gpu = "cpu"）'
    ),
    "there is {}, and ER runs on NVIDIA GPUs and on the CPU": (
        "这里是 {}，而 ER 在 NVIDIA GPU 和 CPU 上运行"
    ),
    (
        "{}: its output layer (lm_head) is packed too, of which a reranker's scores are made and "
        "which vLLM reads plain; use a folder that leaves it plain"
    ): (
        "{}：输出层（lm_head）也被压缩了，重排分数由它算出，而 vLLM 按未压缩读取；请用不压缩它的"
        "目录"
    ),
    (
        "its weights are packed as {}, which vLLM is not known to load; use its plain "
        "safetensors, or those packed as AWQ, GPTQ or FP8"
    ): ("权重的压缩格式是 {}，vLLM 未必能加载；请用未压缩的 safetensors，或 AWQ、GPTQ、FP8 格式的"),
    (
        "its weights are packed as {} with {n} bits, and vLLM loads {}; use such a folder, or "
        "the plain one"
    ): ("权重的压缩格式是 {}，{} 位，而 vLLM 支持 {}；请用支持的目录，或未压缩的"),
    (
        "its weights are packed as gptq with sym = false, which vLLM does not load; use a folder "
        "with sym = true, or AWQ"
    ): ("权重是 sym = false 的 gptq，vLLM 不能加载；请用 sym = true 的目录，或 AWQ"),
    "on the CPU ER computes in float32": "ER 在 CPU 上用 float32 计算",
    (
        "{}: weights packed as {} are computed in bfloat16 or float16 alone, and on the CPU ER "
        'computes in float32; write dtype = "bfloat16" in its [[model]], or use the plain folder'
    ): (
        "{}：{} 格式的压缩权重只能用 bfloat16 或 float16 计算，而 ER 在 CPU 上用 float32；请在其 "
        '[[model]] 中写 dtype = "bfloat16"，或用未压缩的目录'
    ),
    (
        "{}: weights packed as {} are computed in bfloat16 or float16 alone, and {}; write dtype "
        '= "bfloat16" in its [[model]], or use the plain folder'
    ): (
        "{}：{} 格式的压缩权重只能用 bfloat16 或 float16 计算，而 {}；请在其 [[model]] 中写 "
        'dtype = "bfloat16"，或用未压缩的目录'
    ),
    "{}: weights packed as {} were not tried with the CPU build of vLLM; the plain folder was": (
        "{}：{} 格式的压缩权重没有在 CPU 版 vLLM 上试过；未压缩的试过"
    ),
    (
        "{} can't load weights packed as {}, which begin with {}; use AWQ or GPTQ, or the plain "
        "folder"
    ): ("{} 不能加载 {} 格式的压缩权重，它要求至少 {}；请用 AWQ 或 GPTQ，或未压缩的目录"),
    "{} can't load weights packed as {}, {}; use AWQ or GPTQ, or the plain folder": (
        "{} 不能加载 {} 格式的压缩权重，{}；请用 AWQ 或 GPTQ，或未压缩的目录"
    ),
    "which begin with {}": "要求至少 {}",
    "{} has no FP8 arithmetic ({} has): weights packed as {} save memory there, not time": (
        "{} 没有 FP8 运算（{} 才有）：{} 格式的压缩权重在那里省显存，不省时间"
    ),
    'write gpu = "cpu" in er.toml, or name replicas that run elsewhere (url)': (
        '请在 er.toml 中写 gpu = "cpu"，或写上在别处运行的副本（url）'
    ),
    "sudo er doctor; if root is refused too: ls -l /dev/nvidia*": (
        "sudo er doctor；如果 root 也被拒绝：ls -l /dev/nvidia*"
    ),
    "if root is refused too: ls -l /dev/nvidia*": "如果 root 也被拒绝：ls -l /dev/nvidia*",
    "{}: the devices are closed to this user": "{}：此用户无权访问设备",
    "{}, MIG with {n} instances, {} of {} in use": "{}，MIG，{} 个实例，已用 {}/{}",
    "{}, MIG with {n} instances, {} of {} in use: {}": "{}，MIG，{} 个实例，已用 {}/{}：{}",
    "{}, MIG with {n} instances": "{}，MIG，{} 个实例",
    "another version": "另一个版本",
    (
        "the driver was upgraded while the old one is still in use: the kernel has {}, the "
        "library is {}. Engines that run go on, and none can be started"
    ): ("驱动已升级，但旧的仍在使用：内核中是 {}，库是 {}。运行中的引擎照常，但无法再启动新的"),
    "reboot; or, if nothing else uses the cards: {}": (
        "请重启机器；如果没有其他程序使用这些卡，也可以：{}"
    ),
    (
        "reboot; or, if nothing else uses the cards: sudo systemctl stop er.target && sudo rmmod "
        "nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia && sudo systemctl "
        "start er.target"
    ): (
        "请重启机器；如果没有其他程序使用这些卡，也可以：sudo systemctl stop er.target && sudo "
        "rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia && sudo "
        "systemctl start er.target"
    ),
    "GPU driver: {}": "GPU 驱动：{}",
    "GPU driver": "GPU 驱动",
    "GPU at {w}: {}": "GPU（{}）：{}",
    "install NVIDIA's driver and reboot: er help gpus says which": (
        "请安装 NVIDIA 驱动并重启：er help gpus 说明用哪个"
    ),
    "there is {}, and no driver is installed": "这里是 {}，但没有安装驱动",
    "there is no card on the PCI bus; a virtual machine is given one by its host": (
        "PCI 总线上没有卡；虚拟机的卡由宿主机分配"
    ),
    "the driver {} is installed, but not loaded into the kernel": (
        "驱动 {} 已安装，但没有加载到内核"
    ),
    "the driver is installed, but not loaded into the kernel": "驱动已安装，但没有加载到内核",
    "the driver{} is installed, but not loaded into the kernel": "驱动{} 已安装，但没有加载到内核",
    "nouveau has the card: blacklist it (modprobe.d), sudo update-initramfs -u, reboot": (
        "nouveau 占用了这块卡：请禁用它（modprobe.d），sudo update-initramfs -u，然后重启"
    ),
    "{} has the card, as for a virtual machine; release it": (
        "{} 占用了这块卡，可能是给虚拟机用的；请释放"
    ),
    (
        "sudo modprobe nvidia says why. After a new kernel: sudo apt-get install "
        "linux-headers-$(uname -r) && sudo dkms autoinstall. With Secure Boot (mokutil "
        "--sb-state) the module must be signed"
    ): (
        "sudo modprobe nvidia 会说明原因。换了新内核之后：sudo apt-get install "
        "linux-headers-$(uname -r) && sudo dkms autoinstall。启用了 Secure Boot（mokutil "
        "--sb-state）时，模块必须签名"
    ),
    (
        "end what runs there, then: sudo nvidia-smi -i {} --gpu-reset; else reboot. Lost again: "
        "its power, seat and heat; nvidia-bug-report.sh for its maker"
    ): (
        "结束上面运行的程序，然后：sudo nvidia-smi -i {} --gpu-reset；不行就重启。再次丢失：检查"
        "供电、插槽和散热；用 nvidia-bug-report.sh 报给厂商"
    ),
    "the card is lost": "卡已丢失",
    "the card is lost: {}": "卡已丢失：{}",
    "the card is lost{}": "卡已丢失{}",
    "{} has it": "被 {} 占用",
    "it stays unused": "它没有被使用",
    "the card is on the bus, and NVIDIA's driver did not take it: {}": (
        "卡在总线上，但 NVIDIA 驱动没有接管：{}"
    ),
    "sudo dmesg | grep -i NVRM says why; then reboot": (
        "sudo dmesg | grep -i NVRM 会说明原因；然后重启"
    ),
    "sudo systemctl restart er-nvidia.service, then restart the replicas: er restart": (
        "sudo systemctl restart er-nvidia.service，然后重启副本：er restart"
    ),
    "{} is missing, and no engine starts without it": "缺少 {}，没有它引擎无法启动",
    "name one of its MIG instances in er.toml; er check lists them": (
        "请在 er.toml 中指定它的一个 MIG 实例；er check 会列出"
    ),
    "GPU {} is in MIG mode and can't be used as a whole; {}": (
        "GPU {} 处于 MIG 模式，不能整块使用；{}"
    ),
    "{}; then: sudo er apply": "{}；然后：sudo er apply",
    "then: sudo er apply": "然后：sudo er apply",
    "left out": "不使用",
    "write the UUID of one of its instances (nvidia-smi -L) as gpu": (
        "请把它一个实例的 UUID（nvidia-smi -L）写作 gpu"
    ),
    "GPU {} ({}) is divided (MIG): {}.": "GPU {}（{}）已划分（MIG）：{}。",
    "{n} of {n} cards": "{1} 块卡中的 {0} 块",
    "the NVIDIA driver says of {}: {}": "NVIDIA 驱动对 {} 的报告：{}",
    "which numbers the others have can't be told": "其余的编号无法得知",
    "GPU {} is not there: {}; there are: {}; see: er doctor": (
        "没有 GPU {}：{}；现有：{}；请看：er doctor"
    ),
    "see: er doctor": "请看：er doctor",
    (
        "is in llama.cpp's format (GGUF), which vLLM does not load here; use the model's own "
        "folder with its *.safetensors, or to save memory one that is packed as AWQ, GPTQ or FP8"
    ): (
        "是 llama.cpp 的格式（GGUF），vLLM 在这里不能加载；请用含 *.safetensors 的模型目录，要省"
        "显存可用 AWQ、GPTQ 或 FP8 压缩的"
    ),
    (
        "{}: is in llama.cpp's format (GGUF), which vLLM does not load here; use the model's own "
        "folder with its *.safetensors, or to save memory one that is packed as AWQ, GPTQ or FP8"
    ): (
        "{}：是 llama.cpp 的格式（GGUF），vLLM 在这里不能加载；请用含 *.safetensors 的模型目录，"
        "要省显存可用 AWQ、GPTQ 或 FP8 压缩的"
    ),
    "a way that it does not name": "没有说明的方式",
    "a card of {}": "{} 的卡",
    # the distribution's systemd and polkit
    "members of group er need sudo to start and stop ER": "er 组成员需要 sudo 才能启动和停止 ER",
    "members of group er may start and stop ER": "er 组成员可以启动和停止 ER",
    (
        "systemd {} runs this machine, and ER's units need {} or newer; upgrade the "
        "distribution, or run the gateway as a container (er help containers)"
    ): (
        "本机的 systemd 是 {}，而 ER 的单元需要 {} 或更新的；请升级发行版，或用容器运行网关（er "
        "help containers）"
    ),
    "is masked: {}": "被屏蔽（masked）：{}",
    "{w}: is masked: {}": "{}: 被屏蔽（masked）：{}",
    "{} knows no rules: {}": "{} 不支持规则：{}",
    "SystemMaxUse of journald; all programs' log": "journald 的 SystemMaxUse；所有程序的日志",
    "not here: a container of the gateway": "这里没有：网关的容器",
    "vLLM of {w}: {}": "{} 的 vLLM：{}",
    "vLLM of {w}": "{} 的 vLLM",
    "er quality run compares its answers with before": "er quality run 会把它的结果与之前比较",
    "{} tells no version: its answers alone count": "{} 没有给出版本：只看它的结果",
    "{} {} in {} is not one that ER knows ({}); run install.sh, which installs one": (
        "{2} 中的 {0} {1} 不是 ER 支持的版本（{3}）；请运行 install.sh 安装支持的版本"
    ),
    "vLLM {} at {} is older than {}, the oldest ER accepts: upgrade it": (
        "{1} 上的 vLLM {0} 比 ER 支持的最旧版本 {2} 还旧：请升级"
    ),
    "vLLM {} at {} is older than {}, the oldest ER accepts": (
        "{1} 上的 vLLM {0} 比 ER 支持的最旧版本 {2} 还旧"
    ),
    "upgrade it": "请升级",
    "vLLM {} at {} is not one that ER was tried with ({})": (
        "{1} 上的 vLLM {0} 不在 ER 试过的版本之内（{2}）"
    ),
    "{} to below {}": "{} 到 {} 之前",
}
