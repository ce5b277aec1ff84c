"""Chinese: a machine's models, GPUs, ports, vLLM and certificates."""

from __future__ import annotations

SAID: dict[str, str] = {
    # models' folders
    "{} has no weights ({}); copy the whole model folder again": (
        "{} 没有权重（{}）；请重新复制整个模型目录"
    ),
    "{}: not reachable for this user; {}": "{}：此用户无法到达；{}",
    "{}: is not a folder; name the folder that holds config.json": (
        "{}：不是目录；请指定含 config.json 的目录"
    ),
    "{}: no such folder; put the model's files there": "{}：没有此目录；请把模型文件放到那里",
    (
        "if it is there now, it came after er-gateway was started, which does not see it so: "
        "sudo systemctl restart er-gateway (no request is lost)"
    ): (
        "如果现在有了，那是在 er-gateway 启动之后放的，它看不到：sudo systemctl restart "
        "er-gateway（不会丢请求）"
    ),
    "{}/config.json: {} is missing; is this the folder of a text model, copied whole?": (
        "{}/config.json：缺少 {}；这是完整复制的文本模型目录吗？"
    ),
    (
        "{}/config.json: {} is {}, not a whole number above 0; is this the folder of a text "
        "model, copied whole?"
    ): ("{}/config.json：{} 为 {}，不是大于 0 的整数；这是完整复制的文本模型目录吗？"),
    "is missing": "缺失",
    "is {}, not a whole number above 0": "为 {}，不是大于 0 的整数",
    "is this the folder of a text model, copied whole?": "这是完整复制的文本模型目录吗？",
    (
        '{}: do_lower_case is true, but tokenizer.json keeps capital letters; add {"type": '
        '"Lowercase"} to its normalizer'
    ): (
        "{}：do_lower_case 为 true，但 tokenizer.json 保留大写字母；请在其 normalizer 中加入 "
        '{"type": "Lowercase"}'
    ),
    "{}: names {}, which ER's engines don't have; use a model of sentence-transformers' {} alone": (
        "{}：其中有 {}，ER 的引擎没有；请只用由 sentence-transformers 的 {} 组成的模型"
    ),
    "{}: has a Dense module behind Normalize, which no engine does": (
        "{}：Normalize 之后还有 Dense 模块，没有引擎支持"
    ),
    "{}: pools by {}; engines can do one of {}": "{}：池化方式为 {}；引擎只支持 {} 之一",
    (
        "{}: include_prompt is false: the prompt's own tokens are left out of the mean, which no "
        "engine does"
    ): ("{}：include_prompt 为 false：求平均时不计 prompt 的 token，没有引擎支持"),
    "none, which means Tanh": "空，即 Tanh",
    "{}/config.json: activation_function is {}; engines can do {}": (
        "{}/config.json：activation_function 为 {}；引擎支持 {}"
    ),
    "{}: not JSON ({}); copy the file again": "{}：不是 JSON（{}）；请重新复制该文件",
    "{}: not a JSON {}; copy the file again": "{}：不是 JSON {}；请重新复制该文件",
    "{}: missing; copy the whole model folder again": "{}：缺失；请重新复制整个模型目录",
    "{}: not readable for this user; {}": "{}：此用户无法读取；{}",
    "make it readable for user er, for example: chmod -R o+rX {}": (
        "请让用户 er 可读，例如：chmod -R o+rX {}"
    ),
    # GPUs and ports
    "the NVIDIA driver says: {}": "NVIDIA 驱动报告：{}",
    "the NVIDIA driver sees no GPU": "NVIDIA 驱动没有发现 GPU",
    "no NVIDIA driver is installed (its library libnvidia-ml is missing)": (
        "未安装 NVIDIA 驱动（缺少 libnvidia-ml 库）"
    ),
    "the NVIDIA driver does not answer: {}": "NVIDIA 驱动没有应答：{}",
    "no GPU is visible to this process": "此进程看不到任何 GPU",
    "GPU {} is not there: {}; see nvidia-smi, then: sudo er apply": (
        "没有 GPU {}：{}；请看 nvidia-smi，然后：sudo er apply"
    ),
    'GPU {} is not there; there are: {}; correct gpu = … in er.toml, or "cpu"': (
        '没有 GPU {}；现有：{}；请修正 er.toml 中的 gpu = …，或写 "cpu"'
    ),
    "see nvidia-smi, then: sudo er apply": "请看 nvidia-smi，然后：sudo er apply",
    "GPU {} is not there: {}": "没有 GPU {}：{}",
    "a process": "某个进程",
    "a socket unit": "某个 socket 单元",
    "a process of another user (as root this command names it)": (
        "其他用户的进程（以 root 运行此命令可看到）"
    ),
    "a process of another user (as root this command names it) in {}": (
        "{} 中其他用户的进程（以 root 运行此命令可看到）"
    ),
    "{w} (pid {}) in {}": "{}（pid {}），属于 {}",
    # the installed vLLM
    "{} can't be run ({}); install vLLM with install.sh, or set ER_VLLM_PYTHON": (
        "{} 无法运行（{}）；请用 install.sh 安装 vLLM，或设置 ER_VLLM_PYTHON"
    ),
    "no output": "没有输出",
    "{} does not work ({}); run install.sh again": "{} 不能工作（{}）；请重新运行 install.sh",
    "{} has no vLLM; install it with install.sh, or set ER_VLLM_PYTHON": (
        "{} 中没有 vLLM；请用 install.sh 安装，或设置 ER_VLLM_PYTHON"
    ),
    "{} {} in {} is not one that ER knows ({} to below {}); run install.sh, which installs one": (
        "{2} 中的 {0} {1} 不是 ER 支持的版本（{3} 到 {4} 之前）；请运行 install.sh 安装支持的版本"
    ),
    "{} {} in {} is not whole (its server is missing); run install.sh again": (
        "{2} 中的 {0} {1} 不完整（缺少服务程序）；请重新运行 install.sh"
    ),
    # before a start
    "waiting for the model": "等待模型",
    "if it is there now, run: sudo er apply": "如果现在有了，请运行：sudo er apply",
    (
        "{}: is a link to a file that is missing; copy the model's folder again with what its "
        "links name: cp -rL {} FOLDER"
    ): ("{}：是指向缺失文件的链接；请连同链接指向的内容重新复制模型目录：cp -rL {} FOLDER"),
    (
        "{}: {}; make it readable for the user this runs as, for example: chmod -R o+rX {} (its "
        "parent folders need x)"
    ): ("{}：{}；请让运行它的用户可读，例如：chmod -R o+rX {}（上级目录需要 x 权限）"),
    "{}: has no weights; copy its *.safetensors files there": (
        "{}：没有权重；请把它的 *.safetensors 文件复制到那里"
    ),
    "{}/config.json: its sizes are not whole numbers; {}": "{}/config.json：其中的尺寸不是整数；{}",
    "waiting for GPU {}": "等待 GPU {}",
    "GPU {}: {} is missing; {}": "GPU {}：缺少 {}；{}",
    "{} makes it": "可用 {} 创建",
    "nvidia-modprobe -u -c=0 makes it": "可用 nvidia-modprobe -u -c=0 创建",
    "GPU {}: {} can't be opened ({}); let the unit have it: sudo er apply": (
        "GPU {}：无法打开 {}（{}）；让单元可以使用它：sudo er apply"
    ),
    (
        'gpu = "cpu", but the vLLM here ({}) is the build for GPUs; name a GPU in er.toml, or '
        "install the other build: install.sh --cpu"
    ): (
        'gpu = "cpu"，但这里的 vLLM（{}）是 GPU 版；请在 er.toml 中指定 GPU，或安装另一版：'
        "install.sh --cpu"
    ),
    (
        'gpu = {}, but the vLLM here ({}) is the build for CPUs; write gpu = "cpu" in er.toml, '
        "or run install.sh again"
    ): (
        'gpu = {}，但这里的 vLLM（{}）是 CPU 版；请在 er.toml 中写 gpu = "cpu"，或重新运行 '
        "install.sh"
    ),
    "taken by {}": "已被 {} 占用",
    "stop that ({} names it to root), or change port = … in er.toml": (
        "请停止它（root 可用 {} 查看），或在 er.toml 中修改 port = …"
    ),
    "port {} is {}; {}": "端口 {} {}；{}",
    "port {} is {}": "端口 {} {}",
    "another er-vllm runs this replica already (pid {}); stop that one first": (
        "另一个 er-vllm 已在运行此副本（pid {}）；请先停止它"
    ),
    # HTTPS
    "the key does not belong to the certificate": "私钥与证书不匹配",
    "the certificate's key is too small; RSA needs 2048 bits, or take ECDSA": (
        "证书的私钥太短；RSA 需要 2048 位，或改用 ECDSA"
    ),
    "the certificate is signed with a hash that clients refuse; get a new one": (
        "证书的签名算法会被客户端拒绝；请换新的"
    ),
    "it is not PEM (-----BEGIN …)": "不是 PEM（-----BEGIN …）",
    "decrypt it: openssl pkey -in KEY -out NEW": "请解密：openssl pkey -in KEY -out NEW",
    "the key is encrypted, and nobody is there to type its password; {}": (
        "私钥已加密，启动时没有人输入密码；{}"
    ),
    "client_ca has no certificate in it; it must be PEM": "client_ca 中没有证书；必须是 PEM",
    "the {} is not PEM (-----BEGIN …); it is half written, or another format": (
        "{} 不是 PEM（-----BEGIN …）；只写了一半，或是其他格式"
    ),
    "certificate and key can't be used ({})": "证书和私钥无法使用（{}）",
    "no PEM in them": "其中没有 PEM",
    "the certificate is not PEM, or it is damaged": "证书不是 PEM，或已损坏",
    "the server's certificate is damaged": "服务器的证书已损坏",
    "put it there; er check says which": "请把它放到那里；er check 会说明是哪一个",
    "a file was missing when the gateway was started; {}": "网关启动时缺少一个文件；{}",
    "put it there, or make one: er tls self-signed": (
        "请把它放到那里，或生成一个：er tls self-signed"
    ),
    "{} {} is missing; {}": "{} {} 不存在；{}",
    "{} {} can't be read: {}": "{} {} 无法读取：{}",
    "{} {} is over {} MiB; it is no PEM file of that kind": "{} {} 超过 {} MiB；不是这种 PEM 文件",
    "--name {}: neither a host's name nor an address": "--name {}：既不是主机名，也不是地址",
    "{} would be written over; --force does so": "{} 会被覆盖；要覆盖请加 --force",
    "choose another place in er.toml, or use sudo": "请在 er.toml 中换个位置，或用 sudo",
    # what the system says
    "No such file or directory": "没有这个文件或目录",
    "Permission denied": "权限不足",
    "No space left on device": "设备空间不足",
    "Connection refused": "连接被拒绝",
    "Is a directory": "是一个目录",
    "Not a directory": "不是目录",
    "Read-only file system": "只读文件系统",
    "File exists": "文件已存在",
    # the summary
    "{} error, {} warning": "{} 个错误，{} 个警告",
    "{} errors, {} warnings": "{} 个错误，{} 个警告",
    "error": "错误",
    "warning": "警告",
    "{}: pools by nothing; engines can do one of {}": "{}：没有池化；引擎只支持 {} 之一",
    "a process (pid {n})": "某个进程（pid {}）",
    "a process (pid {n}) in {}": "某个进程（pid {}），属于 {}",
    "stop that (ss -ltnp 'sport = :{n}' names it to root), or change port = … in er.toml": (
        "请停止它（root 可用 ss -ltnp 'sport = :{}' 查看），或在 er.toml 中修改 port = …"
    ),
    "[Errno {n}] {}": "[Errno {}] {}",
}
