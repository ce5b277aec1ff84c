"""Chinese: er embed on the hosts of a Ray cluster."""

from __future__ import annotations

SAID: dict[str, str] = {
    "with Ray, from and to folders or s3://, also of Parquet (er help bulk)": (
        "用 Ray：输入输出为目录或 s3://，也可是 Parquet（er help bulk）"
    ),
    'HOST:PORT, "auto" for the one this host is in, "local" for this machine alone': (
        'HOST:PORT；"auto" 为本机所在的集群；"local" 只用本机'
    ),
    "bytes of input that are done as a whole (default: 64MiB)": (
        "作为一个整体完成的输入字节数（默认 64MiB）"
    ),
    "how many embed at once (default: one a host, with --vllm one a GPU)": (
        "同时有多少个在嵌入（默认每台主机一个，用 --vllm 时每块 GPU 一个）"
    ),
    "that the gateways have, for the cost; with --vllm: that an actor takes (default: 1)": (
        "网关共有的 GPU 数，用于计费；用 --vllm 时为每个 actor 占用的（默认 1）"
    ),
    "the model's folder on each host: vLLM in the actors, no gateway": (
        "各主机上的模型目录：在 actor 里运行 vLLM，不经网关"
    ),
    "another service than Amazon's (default: the variable AWS_ENDPOINT_URL)": (
        "不用 Amazon 时的服务地址（默认：变量 AWS_ENDPOINT_URL）"
    ),
    "several --url go": "多个 --url",
    "--{} goes": "--{} ",
    "er embed: {} with --ray": "er embed: {}要与 --ray 合用",
    "er embed: several --url go with --ray": "er embed: 多个 --url 要与 --ray 合用",
    "er embed: --{} goes with --ray": "er embed: --{} 要与 --ray 合用",
    "several --url go with --ray": "多个 --url 要与 --ray 合用",
    "--{} goes with --ray": "--{} 要与 --ray 合用",
    "standard input is no input for --ray; name files, a folder or s3://…": (
        "--ray 不能读标准输入；请写明文件、目录或 s3://…"
    ),
    "--ray ray://…: run the command on a host of the cluster: --ray auto": (
        "--ray ray://…：请在集群的主机上运行该命令：--ray auto"
    ),
    "--actors {}: it must be over 0": "--actors {}：必须大于 0",
    "--gpus {}: 0 or more": "--gpus {}：0 或更多",
    "--part {}: at least {} bytes": "--part {}：至少 {} 字节",
    "--part {}: {}": "--part {}：{}",
    "put the key of S3 into AWS_ACCESS_KEY_ID and its like, not into s3://": (
        "请把 S3 的密钥放入 AWS_ACCESS_KEY_ID 等变量，不要写在 s3:// 里"
    ),
    "--vllm computes by itself: leave out --url, --key-file and --model": (
        "--vllm 自己计算：请去掉 --url、--key-file 和 --model"
    ),
    "{} is there already, and not from er embed --ray; name another": (
        "{} 已存在，且不是 er embed --ray 写的；请换个名称"
    ),
    "{} has no file that ends in one of: {}": "{} 中没有以下列结尾的文件：{}",
    "no gateway answers at {} ({})": "{} 上没有网关应答（{}）",
    "{}; start it, name one by --url, or name the --model": (
        "{}；请启动它，用 --url 指定一个，或写明 --model"
    ),
    "no gateway answers at {} ({}); start it, name one by --url, or name the --model": (
        "{} 上没有网关应答（{}）；请启动它，用 --url 指定一个，或写明 --model"
    ),
    "Ray gave the work up: {}": "Ray 放弃了这项工作：{}",
    "Ray gave the work up ({}); once more": "Ray 放弃了这项工作（{}）；再来一次",
    "begin anew with --force": "请用 --force 从头开始",
    "parts differ in their {}: {}; {}": "各部分的 {} 不同：{}；{}",
    "{n} of {n} rows, {n} %, {n} of {n} parts": "{}/{} 行，{} %，{}/{} 部分",
    "{n} of {n} rows, {n} %, {n} of {n} parts, {n} rows/s, {n} tokens/s, {} left": (
        "{}/{} 行，{} %，{}/{} 部分，每秒 {} 行，每秒 {} 个 token，还剩 {}"
    ),
    (
        "{n} of {n} rows, {n} %, {n} of {n} parts, {n} rows/s, {n} tokens/s, {} left, {n} GPU-hours"
    ): "{}/{} 行，{} %，{}/{} 部分，每秒 {} 行，每秒 {} 个 token，还剩 {}，{} GPU 小时",
    (
        "{n} of {n} rows, {n} %, {n} of {n} parts, {n} rows/s, {n} tokens/s, {} left, "
        "{n} GPU-hours, {n} {} of {n}"
    ): (
        "{}/{} 行，{} %，{}/{} 部分，每秒 {} 行，每秒 {} 个 token，还剩 {}，"
        "{} GPU 小时，{} {}，共 {}"
    ),
    "{n} of {n} parts": "{}/{} 部分",
    "a host is gone, and nothing came from the others": "一台主机不见了，其他主机也没有结果",
    "{} is no Parquet file: {}": "{} 不是 Parquet 文件：{}",
    "{} has no column {}; name one by --field: {}": "{} 没有列 {}；请用 --field 指定：{}",
    "{}: the column {} is of {}, not of texts; see --field": (
        "{}：列 {} 的类型是 {}，不是文本；见 --field"
    ),
    "has a column {}, as the vectors' would be; choose --vector NAME": (
        "有列 {}，与向量的列同名；请用 --vector NAME 另选"
    ),
    "{}: its plan can't be read; {}": "{}：其计划无法读取；{}",
    "reading {}: {} of {} parts": "正在读取 {}：{}/{} 部分",
    "reading {}: {n} of {n} parts": "正在读取 {}：{}/{} 部分",
    "Ray gave the reading up: {}; try again": "Ray 放弃了读取：{}；请再试",
    "over 1000 different fields; a table is not for that: write .jsonl": (
        "有 1000 多个不同的字段；表格不适合：请写成 .jsonl"
    ),
    "{}: over 1000 different fields; {}": "{}：有 1000 多个不同的字段；{}",
    "make an environment for it, see er help bulk": "请为它建一个环境，见 er help bulk",
    "Ray is not installed beside this er (er[ray]); {}": "这个 er 旁没有安装 Ray（er[ray]）；{}",
    "start it (ray start --head), have its token (RAY_AUTH_TOKEN), or name another": (
        "请启动它（ray start --head），带上它的令牌（RAY_AUTH_TOKEN），或另写一个"
    ),
    "no Ray answers at {} ({}); {}": "{} 上没有 Ray 应答（{}）；{}",
    "another er embed is writing this output; wait for its end": (
        "另一个 er embed 正在写这个输出；请等它结束"
    ),
    "no host of this Ray has a CPU to compute with": "这个 Ray 没有一台主机有可用的 CPU",
    "install er[ray] in the Python that Ray runs on there": (
        "请在那里 Ray 所用的 Python 中安装 er[ray]"
    ),
    "{} can't run ER ({}); {}": "{} 无法运行 ER（{}）；{}",
    "{} has ER {}, and this is {}; make them equal": "{} 的 ER 是 {}，这里是 {}；请使两者相同",
    "Ray has no GPU to compute with": "Ray 没有可用的 GPU",
    "Ray has no free CPU": "Ray 没有空闲的 CPU",
    "does not see {}: the output must be a folder that all hosts share": (
        "看不到 {}：输出必须是所有主机共享的目录"
    ),
    "{}: no such file or folder": "{}：没有这个文件或目录",
    "vLLM answered with no vector: {}": "vLLM 返回的不是向量：{}",
    "install vllm in the Python that Ray runs on there": ("请在那里 Ray 所用的 Python 中安装 vllm"),
    "vLLM can't be had ({}); {}": "无法使用 vLLM（{}）；{}",
    "vLLM does not start with {}: {}": "vLLM 无法用 {} 启动：{}",
    "the service answers as {} now, and as {} a moment ago": "服务现在返回的是 {}，刚才是 {}",
    "{} was begun anew by somebody else meanwhile": "{} 在此期间被他人从头开始了",
    "{n} GPU-hours": "{} GPU 小时",
    "{n} GPU-hours, {n} {}": "{} GPU 小时，{} {}",
    "{}; {n} GPU-hours": "{}；{} GPU 小时",
    "{}; {n} GPU-hours, {n} {}": "{}；{} GPU 小时，{} {}",
}
