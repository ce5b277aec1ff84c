"""Chinese: er vllm: versions of the engine, and replicas that name one."""

from __future__ import annotations

SAID: dict[str, str] = {
    "the versions of vLLM that are here: list, install, use, rollback": (
        "本机的 vLLM 版本：list、install、use、rollback"
    ),
    "which vLLM is here and in use; another one, and back": (
        "本机有哪些 vLLM、在用哪个；换一个，或换回"
    ),
    "example: sudo er vllm install 0.26.0. One replica on it, then all: er help vllm": (
        "例如：sudo er vllm install 0.26.0。先让一个副本用它，再全部：er help vllm"
    ),
    "which are here, which is in use, by which replicas": "有哪些、在用哪个、由哪些副本使用",
    "make an environment with that version": "建立该版本的环境",
    "take that version; restarts replicas one by one": "换用该版本；逐个重启副本",
    "take the version that was in use before": "换回之前在用的版本",
    "as er vllm list shows it: 0.26.0": "如 er vllm list 所示：0.26.0",
    "the build for CPUs": "CPU 版",
    "an index of packages in place of pip's own (with a password: the variable PIP_INDEX_URL)": (
        "代替 pip 自己的软件源（有密码时用变量 PIP_INDEX_URL）"
    ),
    "this changes what is root's and needs root: {}": "这会改动 root 的文件，需要 root：{}",
    "{}; which replicas use what is not known": "{}；无法得知哪些副本在用哪个",
    "which replicas use what is not known": "无法得知哪些副本在用哪个",
    "No vLLM below {}. This ER knows {}; sudo er vllm install VERSION": (
        "{} 下没有 vLLM。此 ER 支持 {}；sudo er vllm install VERSION"
    ),
    "version": "版本",
    "build": "编译版",
    "before (er vllm rollback)": "上一个（er vllm rollback）",
    "this ER's own": "此 ER 自带的",
    "half made: sudo er vllm install {}": "没有建完：sudo er vllm install {}",
    "not one that this ER knows ({})": "此 ER 不支持（{}）",
    (
        "A proxy or a mirror is set in pip's own way: /etc/pip.conf, --index-url U, or sudo "
        "PIP_INDEX_URL=… er vllm install"
    ): (
        "代理或镜像按 pip 自己的方式设置：/etc/pip.conf、--index-url U，或 sudo PIP_INDEX_URL=… "
        "er vllm install"
    ),
    (
        "the driver here, {}, does not run what is built for CUDA {}; install NVIDIA's driver {} "
        "or newer"
    ): ("这里的驱动 {} 不能运行为 CUDA {} 编译的程序；请安装 NVIDIA 驱动 {} 或更新的"),
    "the driver here, {}, does not run what is built for CUDA {}": (
        "这里的驱动 {} 不能运行为 CUDA {} 编译的程序"
    ),
    "{}; install NVIDIA's driver {} or newer": "{}；请安装 NVIDIA 驱动 {} 或更新的",
    "install NVIDIA's driver {} or newer": "请安装 NVIDIA 驱动 {} 或更新的",
    "no card here is new enough: this build needs compute capability {}; --cpu": (
        "这里没有足够新的卡：此版本要求 compute capability {}；--cpu"
    ),
    "install.sh or another er vllm is at work; try again when it is done": (
        "install.sh 或另一个 er vllm 正在运行；请等它结束再试"
    ),
    "{} is no version; write it as 0.26.0": "{} 不是版本号；请写成 0.26.0 的样子",
    "vLLM {} is not one that this ER knows ({}); a newer ER may: er help vllm": (
        "此 ER 不支持 vLLM {}（{}）；更新的 ER 或许支持：er help vllm"
    ),
    "vLLM {} is not one that this ER knows ({})": "此 ER 不支持 vLLM {}（{}）",
    "a newer ER may: er help vllm": "更新的 ER 或许支持：er help vllm",
    "--index-url takes an address: https://HOST/simple": (
        "--index-url 要写地址：https://HOST/simple"
    ),
    "take it up: sudo er vllm use {}, or vllm = in er.toml (er help vllm)": (
        "换用它：sudo er vllm use {}，或在 er.toml 中写 vllm =（er help vllm）"
    ),
    "{w} {} is there already, in {}; {}": "{} {} 已有，在 {} 中；{}",
    "{} are needed while it is made": "建立期间需要 {}",
    "{} has {} free, {} are needed while it is made; make room: er disk, sudo er clean": (
        "{} 剩余 {}，建立期间需要 {}；请腾出空间：er disk，sudo er clean"
    ),
    "{} has {} free, {}; make room: er disk, sudo er clean": (
        "{} 剩余 {}，{}；请腾出空间：er disk，sudo er clean"
    ),
    "make room: er disk, sudo er clean": "请腾出空间：er disk，sudo er clean",
    "make room: er disk, sudo er clean. Nothing was changed.": (
        "请腾出空间：er disk，sudo er clean。未作任何改动。"
    ),
    "{}. Nothing was changed": "{}。未作任何改动",
    "{}. Nothing was changed.": "{}。未作任何改动。",
    "{}. Nothing was fetched.": "{}。没有下载任何东西。",
    "the packages that this ER was tested with": "此 ER 测试过的软件包",
    "packages as pip chooses them": "由 pip 选择的软件包",
    "To be made: {}, {w} {}, the packages that this ER was tested with.": (
        "将建立：{}，{} {}，用此 ER 测试过的软件包。"
    ),
    "To be made: {}, {w} {}, packages as pip chooses them.": (
        "将建立：{}，{} {}，用 pip 选择的软件包。"
    ),
    "To be made: {}, {} {}, {}.": "将建立：{}，{} {}，{}。",
    "Fetches gigabytes from {}; {} are free there.": "要从 {} 下载数 GB；那里剩余 {}。",
    "pip's index (its settings: pip config list)": "pip 的软件源（其设置：pip config list）",
    "nothing was made; to have it made: --yes": "没有建立；要建立请加 --yes",
    "Make it?": "建立吗？",
    "nothing was made": "没有建立",
    "interrupted; {} was removed again": "已中断；{} 已删除",
    "{}. {} was removed again; what runs is as it was": "{}。{} 已删除；运行中的不受影响",
    "{w} {} is there; {}": "{} {} 已就位；{}",
    "{} can't make an environment": "{} 无法建立环境",
    "{} {} came in its place": "装上的却是 {} {}",
    "pip could not install it": "pip 无法安装它",
    "{}; its message stands above. {}": "{}；其报错见上。{}",
    "once more, in {n} seconds": "{} 秒后再试一次",
    "{}; correct it first": "{}；请先改正",
    "correct it first": "请先改正",
    "{} {} is another build than {}, which is in use; sudo er vllm install {}": (
        "{} {} 与在用的 {} 不是同一种编译版；sudo er vllm install {}"
    ),
    "{} {} is another build than {}, which is in use": "{} {} 与在用的 {} 不是同一种编译版",
    "vLLM {} is not installed; there are: {}. {}": "没有安装 vLLM {}；现有：{}。{}",
    "no other vLLM was in use before; er vllm list shows which are here": (
        "之前没有用过其他 vLLM；er vllm list 显示有哪些"
    ),
    "{}, which was in use before, is gone; sudo er vllm use VERSION": (
        "之前在用的 {} 不见了；sudo er vllm use VERSION"
    ),
    "{} is half made; sudo er vllm install {}": "{} 没有建完；sudo er vllm install {}",
    "is half made": "没有建完",
    "{} is half made": "{} 没有建完",
    "{} is not one that this ER knows ({})": "此 ER 不支持 {}（{}）",
    "{} is not one that ER knows ({})": "ER 不支持 {}（{}）",
    "Nothing to do: {} is in use.": "无事可做：{} 已在用。",
    "{}, now {}": "{}，现在是 {}",
    "{w}: stays with its own, {}": "{}：保持自己的 {}",
    "nothing was changed; to have it done: --yes": "未作任何改动；要执行请加 --yes",
    "systemd does not run this machine: what runs takes it up when it starts anew": (
        "本机不由 systemd 管理：运行中的要重新启动才会用它"
    ),
    "the former one: sudo er vllm rollback": "换回上一个：sudo er vllm rollback",
    "see er status and er doctor": "请看 er status 和 er doctor",
    "not all replicas run {}; the others were left as they are; {}": (
        "并非所有副本都在用 {}；其余维持原样；{}"
    ),
    "not all replicas run {}": "并非所有副本都在用 {}",
    "the others were left as they are": "其余维持原样",
    "{} is in use": "{} 已在用",
    "{} is in use. Back to the one before: sudo er vllm rollback": (
        "{} 已在用。换回上一个：sudo er vllm rollback"
    ),
    "the CPU": "CPU",
    "{} is there as the {} build, and these run on {}: {}; install the other build: er help vllm": (
        "{} 是 {} 版，而这些副本在 {} 上运行：{}；请安装另一版：er help vllm"
    ),
    "{} is there as the {} build, and these run on {}: {}": (
        "{} 是 {} 版，而这些副本在 {} 上运行：{}"
    ),
    "{}; install the other build: er help vllm": "{}；请安装另一版：er help vllm",
    "install the other build: er help vllm": "请安装另一版：er help vllm",
    'vllm: {} has the {} build, gpu = "{}" needs the {} build; name an environment with that': (
        'vllm：{} 是 {} 版，而 gpu = "{}" 需要 {} 版；请写那一版的环境'
    ),
    'gpu = "{}" needs the {} build; name an environment with that': (
        'gpu = "{}" 需要 {} 版；请写那一版的环境'
    ),
    "vllm: {} has the {} build, {}": "vllm：{} 是 {} 版，{}",
    "{}: er check looks into it": "{}：er check 会查看它",
    "{} can't be looked at as user er: {}": "无法以用户 er 查看 {}：{}",
    "make it readable and its parents passable (chmod o+rX), or move it, to /srv say": (
        "请让它可读、上级目录可通过（chmod o+rX），或移走，比如移到 /srv"
    ),
    "user er may not run {}; {}": "用户 er 无权运行 {}；{}",
    "{} lies in user er's own folder, which replicas don't see; move it, to /srv say": (
        "{} 位于用户 er 自己的目录中，副本看不到；请移走，比如移到 /srv"
    ),
    "{} is a link to {}, which the units don't see; name that path itself": (
        "{} 是指向 {} 的链接，单元看不到它；请直接写那个路径"
    ),
    (
        "{} was made with {}, which the units don't see; make it with the distribution's: "
        "/usr/bin/python3 -m venv"
    ): ("{} 是用 {} 建的，单元看不到它；请用发行版的：/usr/bin/python3 -m venv"),
    'write a version ("0.25.1") or the absolute path of an environment': (
        '请写版本号（"0.25.1"）或环境的绝对路径'
    ),
    "{k} names a program; name its environment: {}": "{} 写的是程序；请写它所在的环境：{}",
    "names a program; name its environment: {}": "写的是程序；请写它所在的环境：{}",
    "waiting for vLLM": "等待 vLLM",
    "{} has no bin/python; name the folder of an environment that has vLLM": (
        "{} 中没有 bin/python；请写含 vLLM 的环境目录"
    ),
}
