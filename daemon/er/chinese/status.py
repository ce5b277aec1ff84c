"""Chinese: er status, wait, doctor, drain, resume: the verdict and its reasons."""

from __future__ import annotations

SAID: dict[str, str] = {
    "ER {w}  {w} {t}: {}": "ER {}  {} {}：{}",
    "{n} of {n} replicas answer": "{1} 个副本中 {0} 个应答",
    "the gateway is {t}: {}": "网关{}：{}",
    "the gateway is {t}; {}": "网关{}；{}",
    "replica {w} is {t}: {}": "副本 {} {}：{}",
    "no reason known": "原因未知",
    "model {} has no replica": "模型 {} 没有副本",
    "{} (and {n} more)": "{}（另有 {} 项）",
    "its unit is {t}": "其单元为 {}",
    "no worker runs; start it: er-gateway": "没有工作进程在运行；启动它：er-gateway",
    "drained by the operator; back with: er resume {}": "由运维人员排空；恢复命令：er resume {}",
    "drained by the operator": "由运维人员排空",
    "back with: {}": "恢复命令：{}",
    "its launcher is stopping it": "启动器正在停止它",
    "its launcher says it answers; the gateway has not looked": "启动器说它能应答；网关尚未检查",
    "ended with {}": "以 {} 结束",
    "its unit is not running; {}": "其单元未运行；{}",
    "its unit is not running": "其单元未运行",
    "nobody has asked {} lately": "最近没有人询问过 {}",
    "er-vllm {w} is not running": "er-vllm {} 未在运行",
    "{}; last error: {}": "{}；最近错误：{}",
    "last error: {}": "最近错误：{}",
    "stopping vLLM": "正在停止 vLLM",
    # states, alone in a cell
    "ok": "正常",
    "up": "正常",
    "down": "不可用",
    "degraded": "部分可用",
    "unknown": "未知",
    "starting": "启动中",
    "waiting": "等待中",
    "failed": "失败",
    "stopped": "已停止",
    "draining": "排空中",
    "drained": "已排空",
    "stopping": "停止中",
    "ready": "就绪",
    "{w}: active": "{}: 运行中",
    "active": "有效",
    "inactive": "未运行",
    "activating": "正在启动",
    "deactivating": "正在停止",
    "reloading": "正在重新加载",
    "gateway": "网关",
    "elsewhere": "别处",
    # the screen
    "{n} worker{s} on {}; {n} of {n} requests in flight, {n} sequences waiting": (
        "{0} 个工作进程，监听 {1}；处理中 {2}/{3} 个请求，{4} 个序列等待"
    ),
    "{n} workers; {n} of {n} replicas up": "{0} 个工作进程；{2} 个副本中 {1} 个正常",
    "{n} tokens in flight": "处理中 {} 个 token",
    "{n} restarts": "重启 {} 次",
    "{w}  ({w}; also {})": "{}  （{}；别名 {}）",
    "{w} ({w}; also {})": "{}（{}；别名 {}）",
    "{w}  ({w}, via {})": "{}  （{}，经由 {}）",
    "{w} ({w}, via {})": "{}（{}，经由 {}）",
    "{w} ({w}, via {}; also {})": "{}（{}，经由 {}；别名 {}）",
    "no replica; add a [[replica]] to er.toml": "没有副本；请在 er.toml 中加一个 [[replica]]",
    "https    {}; refuses every client: {}": "https    {}；拒绝所有客户端：{}",
    "https    {}; the certificate of {} ends on {}, in {n} days": (
        "https    {0}；{1} 的证书于 {2} 到期，还有 {3} 天"
    ),
    "https    {}; the certificate of {} expired on {}": "https    {}；{} 的证书已于 {} 到期",
    "no name": "（无名称）",
    "traffic  not known": "流量     未知",
    "traffic  {n} requests/s, {n} sequences/s, {n} tokens/s": (
        "流量     每秒 {} 个请求，{} 个序列，{} 个 token"
    ),
    "traffic  - requests/s, - sequences/s, - tokens/s": (
        "流量     每秒 - 个请求，- 个序列，- 个 token"
    ),
    "{n} % answered well": "{} % 正常应答",
    "p50/p95/p99 {} ms": "p50/p95/p99 {} 毫秒",
    "refused in the last minute: {}": "最近一分钟拒绝：{}",
    "machine  CPU {n} %, memory {} of {}, load {n}": "本机     CPU {0} %，内存 {1}/{2}，负载 {3}",
    "machine  memory {} of {}, load {n}": "本机     内存 {}/{}，负载 {}",
    "{n} {w} of {n} {w}": "{} {} / {} {}",
    "batches  {n} not over; files of batches take {} of {}": (
        "批处理   {} 个未完成；批处理文件占用 {}/{}"
    ),
    "capacity  {}: {n} texts/s of {n} tokens at p99 {n} ms, measured on {}; er capacity": (
        "承载能力 {0}：每秒 {1} 条 {2} token 的文本，p99 {3} 毫秒，测于 {4}；er capacity"
    ),
    (
        "{} serves while er restart --surge is at work; if none is, the next er restart or sudo "
        "er apply ends it"
    ): (
        "{} 在 er restart --surge 进行期间提供服务；如果没有在进行，下一次 er restart 或 sudo er "
        "apply 会结束它"
    ),
    "er.toml differs from what runs; see: er apply --dry-run, then: sudo er apply": (
        "er.toml 与正在运行的不一致；请看 er apply --dry-run，然后：sudo er apply"
    ),
    "sudo er apply writes it anew": "sudo er apply 会重新写它",
    "the admin process answered {}": "admin 进程返回 {}",
    "all replicas answer, after {}": "所有副本都已应答，用时 {}",
    "the gateway has failed for good; mend its cause, then: sudo er apply": (
        "网关已彻底失败；请排除原因，然后：sudo er apply"
    ),
    "{w} has failed for good; mend its cause, then: sudo er apply": (
        "{} 已彻底失败；请排除原因，然后：sudo er apply"
    ),
    "gave up after {}: {}": "{} 后放弃：{}",
    "interrupted": "已中断",
    # the admin socket
    "the gateway is {t}; start it: {}": "网关{}；启动它：{}",
    "start it: {}": "启动它：{}",
    "{} gave no sensible answer ({})": "{} 没有给出有意义的应答（{}）",
    "it hung up": "对方挂断",
    "no gateway runs here ({} is missing); {}": "这里没有网关在运行（{} 不存在）；{}",
    "no gateway answers at {}; {}": "{} 上没有网关应答；{}",
    "{} is for root and members of group er: use sudo, or: sudo adduser NAME er": (
        "{} 仅限 root 和 er 组成员：请用 sudo，或：sudo adduser NAME er"
    ),
    "the admin process does not answer in time; journalctl -u er-gateway": (
        "admin 进程没有及时应答；journalctl -u er-gateway"
    ),
    "the child process ended without a word": "子进程没有任何输出就结束了",
    # er doctor
    "{} fits this machine": "{} 与本机相符",
    "er check, which shows the lines": "er check，会显示各行",
    "er.toml: says other things than what runs": "er.toml: 与正在运行的不一致",
    "PID 1 is {}, not systemd; run er-gateway and er-vllm NAME in the foreground": (
        "PID 1 是 {}，不是 systemd；请在前台运行 er-gateway 和 er-vllm NAME"
    ),
    "systemctl does not answer": "systemctl 没有应答",
    "look at: systemctl status": "请看：systemctl status",
    "is not installed": "没有安装",
    "{w}: is not installed": "{}: 没有安装",
    "failed ({}) {}": "失败（{}）{}",
    "gateway: answers": "网关：有应答",
    "gateway: {t}: {}": "网关：{}：{}",
    "https: refuses every client: {}": "https: 拒绝所有客户端：{}",
    "the certificate of {} ends on {}": "{} 的证书于 {} 到期",
    "the certificate of {} ends on {}; clients refuse it": "{} 的证书于 {} 到期；客户端会拒绝它",
    "the certificate of {} ends on {} and is not valid yet; clients refuse it": (
        "{} 的证书（到期日 {}）尚未生效；客户端会拒绝它"
    ),
    "renew it: er help tls": "请更换：er help tls",
    "nvidia-smi must work first; see er help faults": "先要让 nvidia-smi 正常；见 er help faults",
    "{}, {} of {} in use": "{}，已用 {}/{}",
    "{}, {} of {} in use: {}": "{}，已用 {}/{}：{}",
    "vLLM: {w} {w} in {w}": "vLLM: {} {}，位于 {}",
    "replica {w}: answers right": "副本 {}：应答正确",
    "replica {w}: its log: {}": "副本 {}：日志：{}",
    "replica {w}: {}": "副本 {}：{}",
    "memory: {} of {} free": "内存：空闲 {}/{}",
    "end what uses it: {}": "结束占用它的进程：{}",
    "disk: {}": "磁盘：{}",
    "{} is missing": "{} 不存在",
    "sudo systemd-tmpfiles --create er.conf, or sudo ./install.sh": (
        "sudo systemd-tmpfiles --create er.conf，或 sudo ./install.sh"
    ),
    "try again with sudo": "请用 sudo 再试",
    "disk: {} free in {}": "磁盘：{1} 剩余 {0}",
    "{} free in {}": "{1} 剩余 {0}",
    "make room: {}": "腾出空间：{}",
    "audit: {}": "审计：{}",
    "raise size in [audit] of er.toml, then: sudo er apply": (
        "在 er.toml 的 [audit] 中调大 size，然后：sudo er apply"
    ),
    "clock: {}": "时钟：{}",
    "{} can't be right": "{} 不可能是对的",
    "set it: timedatectl set-ntp true": "校时：timedatectl set-ntp true",
    "{} is before ER's own files; was it set back?": "{} 早于 ER 自己的文件；时钟被往回调过吗？",
    "permissions: {}": "权限：{}",
    "{} is closed to you": "你无权访问 {}",
    "use sudo": "请用 sudo",
    "{} is not user er's": "{} 不属于用户 er",
    "{} has mode {n}, not 0640": "{} 的权限是 {}，不是 0640",
    "permissions: of ER's state files": "权限：ER 的状态文件都正确",
    "of ER's state files": "ER 的状态文件",
    "keys: {}": "密钥：{}",
    "there is none: every request gets 401": "一个也没有：每个请求都会得到 401",
    "{n} in force": "{} 个有效",
    "Nothing wrong found.": "没有发现问题。",
    "{n} wrong.": "{} 处有问题。",
    "{} is loopback, which no container reaches": "{} 是回环地址，容器无法访问",
    "ufw is on, and only root can read whether it lets them pass": (
        "ufw 已启用，只有 root 能查看它是否放行"
    ),
    "ufw keeps those behind {} ({}) from port {}: they wait": (
        "ufw 挡住了 {}（{}）后面的容器访问端口 {}：它们会一直等待"
    ),
    "those behind {} reach {}": "{} 后面的容器可访问 {}",
    "{}; ufw lets them pass": "{}；ufw 放行",
    "containers: {}": "容器：{}",
    "listens at {}, which is public: keys and texts can be read on the way": (
        "监听公网地址 {}：密钥和文本在途中可被读取"
    ),
    "HTTPS (er help tls), or in [gateway] listen an address of your own network alone": (
        "用 HTTPS（er help tls），或在 [gateway] 的 listen 中只写内网地址"
    ),
    "plain HTTP: {}": "明文 HTTP：{}",
    "plain HTTP": "明文 HTTP",
    "at no public address of this machine": "不在本机的公网地址上",
    "{} records a day take {}": "每天 {} 条记录，占用 {}",
    '{}; size = "{}" keeps {} days of that': '{}；size = "{}" 可保留 {} 天',
    '{}, {} for keep = "{}"': '{}，{}，keep = "{}"',
    "too little": "太少",
    "enough": "足够",
    "sudo, or membership in group systemd-journal: sudo adduser NAME systemd-journal": (
        "sudo，或加入 systemd-journal 组：sudo adduser NAME systemd-journal"
    ),
    (
        "there is no journal of the audit here (namespace er-audit): nothing was recorded yet, "
        "or er-gateway does not run under systemd; then its records are the lines that begin "
        "with { on its standard output"
    ): (
        "这里没有审计日志（命名空间 er-audit）：还没有记录，或 er-gateway 不由 systemd 运行；那样"
        "的话，记录就是它标准输出中以 { 开头的行"
    ),
    "the audit's journal can't be read by you; this takes {}": "你无法读取审计日志；需要 {}",
    # er drain, er resume
    "{w} gets nothing new. Back with: er resume {}": "{} 不再接收新请求。恢复命令：er resume {}",
    "{w} gets nothing new; {n} tokens still in flight. Back with: er resume {}": (
        "{} 不再接收新请求；还有 {} 个 token 在处理。恢复命令：er resume {}"
    ),
    "{w} is in use again": "{} 已恢复使用",
    "{w} is in use again (still drained by the {})": "{} 已恢复使用（仍由{}排空）",
    "operator": "运维人员",
    "launcher": "启动器",
    "no replica {}; er status lists them": "没有副本 {}；er status 会列出它们",
    "no replica {}": "没有副本 {}",
    "refuses every client: {}": "拒绝所有客户端：{}",
    "says other things than what runs": "与正在运行的不一致",
    "answers right": "应答正确",
    # what the admin process refuses
    "user {} only reads here; ask as root (sudo) or as a member of group {}": (
        "用户 {} 在这里只能读；请以 root（sudo）或 {} 组成员的身份再试"
    ),
    "what runs has no [gateway.tls]; sudo er apply": (
        "正在运行的配置没有 [gateway.tls]；sudo er apply"
    ),
    "only root exchanges credentials: sudo er tls renew": "只有 root 能更换证书：sudo er tls renew",
    "these are no credentials": "这不是证书和私钥",
    "the old ones stay: {}": "继续用旧的：{}",
    "another reload is under way; wait for its end": "另一次 reload 正在进行；请等它结束",
    "{}, so it can't be asked; er status says why": "{}，因此无法询问；er status 会说明原因",
    "replica {} does not answer": "副本 {} 没有应答",
    "replica {} does not answer, so it can't be asked; er status says why": (
        "副本 {} 没有应答，因此无法询问；er status 会说明原因"
    ),
    "no replica answers": "没有副本应答",
    "no replica answers, so it can't be asked; er status says why": (
        "没有副本应答，因此无法询问；er status 会说明原因"
    ),
    "never looked at": "从未测过",
    "started or changed": "刚启动或有变化",
    "tried again": "再试",
    "{n}:{n}:{n}  gateway: {}": "{}:{}:{}  网关：{}",
    "--timeout {}: {}": "--timeout {}：{}",
}

# Lone words that are heard in a cell or within a sentence: states, and what stands for no value.
LONE = frozenset(
    (
        *("ok", "up", "down", "degraded", "unknown", "starting", "waiting", "failed", "stopped"),
        *("draining", "drained", "stopping", "ready", "active", "inactive", "activating"),
        *("deactivating", "reloading", "elsewhere", "operator", "launcher", "all", "never"),
        *(
            "silent",
            "away",
            "default",
            "off",
            "revoked",
            "expired",
            "nobody",
            "interrupted",
            "changed",
            "gone",
        ),
        *("error", "warning", "gateway", "total", "enough", "removed", "none"),
    )
)
