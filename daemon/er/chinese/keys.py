"""Chinese: er keys, and the key file."""

from __future__ import annotations

SAID: dict[str, str] = {
    (
        "nothing to change: give --name, --expires, --rate-limit, --models, --scopes, --team, "
        "--concurrency, --token-limit, --quota, --networks or --weight"
    ): (
        "没有要改的：请给出 --name、--expires、--rate-limit、--models、--scopes、--team、"
        "--concurrency、--token-limit、--quota、--networks 或 --weight"
    ),
    (
        "note: the key file is of version 2 from now on; for an ER that reads version 1 alone "
        "there is {}: er help keys"
    ): ("注意：密钥文件从现在起为版本 2；只能读版本 1 的 ER 可用 {}：er help keys"),
    "there is no folder {} (or it is closed to you); run install.sh, or use sudo": (
        "没有目录 {}（或你无权访问）；请运行 install.sh，或用 sudo"
    ),
    "{} lies on a read-only file system; no key changed, remount it (findmnt)": (
        "{} 位于只读文件系统上；密钥未变，请重新挂载（findmnt）"
    ),
    "this reads {}, which needs root or user er: sudo er keys {} …": (
        "这要读取 {}，需要 root 或用户 er：sudo er keys {} …"
    ),
    "this changes {}, which needs root or user er: sudo er keys {} …": (
        "这要修改 {}，需要 root 或用户 er：sudo er keys {} …"
    ),
    "a key needs a name: er keys create --name web": "密钥需要名称：er keys create --name web",
    "New key {w} ({v}).": "新密钥 {}（{}）。",
    "New secret of key {w} ({v}); the old secret is good until {}.": (
        "密钥 {}（{}）的新密文；旧密文有效至 {}。"
    ),
    "New secret of key {w} ({v}); the old one is out.": "密钥 {}（{}）的新密文；旧密文已失效。",
    "New key": "新密钥",
    "New secret of key": "新密文，密钥",
    "the old secret is good until {}": "旧密文有效至 {}",
    "the old one is out": "旧密文已失效",
    "Its secret, shown this once and stored nowhere:": "密文，只显示这一次，不保存在任何地方：",
    "Clients send it as:  Authorization: Bearer SECRET": (
        "客户端这样发送：  Authorization: Bearer SECRET"
    ),
    "Key {w} ({v}) revoked: refused from now on.": "密钥 {}（{}）已吊销：从现在起拒绝。",
    "Key {w} ({v}) changed.": "密钥 {}（{}）已修改。",
    "Key {w} ({v}) {}.": "密钥 {}（{}）{}。",
    "revoked: refused from now on": "已吊销：从现在起拒绝",
    '--concurrency and --weight: write a whole number, as in 8 (or "off")': (
        '--concurrency 和 --weight：请写整数，例如 8（或 "off"）'
    ),
    '--models: write names with commas between them, or "all"': (
        '--models：请写模型名，用逗号分隔，或 "all"'
    ),
    "note: er.toml has no model {}; it has: {}": "注意：er.toml 中没有模型 {}；现有：{}",
    "No keys. Make one: sudo er keys create --name web": (
        "没有密钥。新建一个：sudo er keys create --name web"
    ),
    "* more bounds: er keys show KEY": "* 还有其他限制：er keys show KEY",
    "{w} (its secret was another server's)": "{}（密文来自其他服务）",
    # heads and words of its tables
    "ID": "ID",
    "NAME": "名称",
    "TEAM": "团队",
    "STATE": "状态",
    "RATE": "限速",
    "MODELS": "模型",
    "EXPIRES": "到期",
    "CREATED": "创建",
    "LAST USED": "上次使用",
    "all": "全部",
    "never": "永不",
    "default": "默认",
    "off": "关",
    "revoked": "已吊销",
    "expired": "已到期",
    "rotating until {}": "轮换中，至 {}",
    "rate limit": "限速",
    "token limit": "token 限额",
    "last used": "上次使用",
    "its old secret is still used by": "仍在使用旧密文的",
    "nobody": "无人",
    # import
    "standard input": "标准输入",
    "{} is larger than {} MiB; is it a file of keys?": "{} 超过 {} MiB；它是密钥文件吗？",
    "not in     {}: {}": "未导入     {}：{}",
    "{n} key{s} would come in.": "将导入 {} 个密钥。",
    "{n} key{s} would come in, {n} were in already.": "将导入 {} 个密钥，{} 个已有。",
    "{n} key{s} would come in, {n} did not.": "将导入 {} 个密钥，{} 个不行。",
    "{n} key{s} would come in, {n} were in already, {n} did not.": (
        "将导入 {} 个密钥，{} 个已有，{} 个不行。"
    ),
    "{n} key{s} came in.": "已导入 {} 个密钥。",
    "{n} key{s} came in, {n} were in already.": "已导入 {} 个密钥，{} 个已有。",
    "{n} key{s} came in, {n} did not.": "已导入 {} 个密钥，{} 个不行。",
    "{n} key{s} came in, {n} were in already, {n} did not.": (
        "已导入 {} 个密钥，{} 个已有，{} 个不行。"
    ),
    "would come in": "将导入",
    "came in": "已导入",
    "{n} were in already": "{} 个已有",
    "{n} did not": "{} 个不行",
    "{} still holds the secrets in plain text, as it was; when all is well:": (
        "{} 原样保留，其中仍有明文密文；确认无误后："
    ),
    "scopes: {} is none; there are: {}": "scopes：没有 {}；现有：{}",
    "team: a name of 1 to 64 visible characters, as in --team search": (
        "team：1 到 64 个可见字符的名称，例如 --team search"
    ),
    "concurrency: write how many requests at once, 1 to {}": "concurrency：同时的请求数，1 到 {}",
    "weight: write 1 to {}, how much more than another key it gets when busy": (
        "weight：1 到 {}，繁忙时相对其他密钥的份额"
    ),
    "networks: name 1 to {}, or leave them out for all addresses": (
        "networks：写 1 到 {} 个，不写表示所有地址"
    ),
    'token_limit: {}: write tokens and a time, as "1000000/minute"': (
        'token_limit：{}：请写 token 数和时间，如 "1000000/minute"'
    ),
    "quota: {}: {}": "quota：{}：{}",
    'networks: {} is none; write "10.0.0.0/8", "192.0.2.7" or "fd00::/8"': (
        'networks：{} 不是网段；请写 "10.0.0.0/8"、"192.0.2.7" 或 "fd00::/8"'
    ),
    "networks: {} names a host within a network; write {}": (
        "networks：{} 是网段中的一台主机；请写 {}"
    ),
    "key {} is revoked; create a new one": "密钥 {} 已吊销；请新建一个",
    "key {} is expired; create a new one": "密钥 {} 已到期；请新建一个",
    "key {} is {}; create a new one": "密钥 {} {}；请新建一个",
    "create a new one": "请新建一个",
    "key {} is already {}": "密钥 {} 已经{}",
    "revoked since {} UTC": "于 {} UTC 吊销",
    "expired since {} UTC": "于 {} UTC 到期",
    "put the last good one back with: cp -p {} {}": "恢复最近一份完好的：cp -p {} {}",
    "{} is gone; {}": "{} 不见了；{}",
    "{} is {}; correct it, or {}": "{} {}；请改正，或{}",
    "{}: {}; are you root or user er?": "{}：{}；你是 root 或用户 er 吗？",
    "make room in {} and try again": "请在 {} 中腾出空间再试",
    "try again as root (sudo)": "请以 root（sudo）再试",
    "look at {}": "请查看 {}",
    "{} can't be written: {}; no key changed; {}": "{} 无法写入：{}；密钥未变；{}",
    "the file": "文件",
    "it begins as JSON does, and is none": "开头像 JSON，其实不是",
    "row {n}": "第 {} 行",
    "line {n}": "第 {} 行",
    "its key has blanks or characters beyond ASCII": "密钥中有空格或非 ASCII 字符",
    "a key has {n} to {n} characters; this has {n}": "密钥有 {} 到 {} 个字符；这个有 {} 个",
    "the same key as {}": "与 {} 是同一密钥",
    "it was key {}, and is revoked; a revoked key stays out": (
        "它曾是密钥 {}，已吊销；吊销的密钥不再导入"
    ),
    "its {n} characters can be guessed; give it a new key, or import it with --allow-weak": (
        "只有 {} 个字符，容易被猜到；请换新密钥，或加 --allow-weak 导入"
    ),
    "last uses of keys are not kept: {}": "没有保存密钥的上次使用时间：{}",
    "there is no key yet; make one on the server with: er keys create --name NAME": (
        "还没有密钥；请在服务器上新建：er keys create --name NAME"
    ),
    "this is not a key of this server (they look like sk-er-kxxxxxxxx-…)": (
        "这不是本服务器的密钥（形如 sk-er-kxxxxxxxx-…）"
    ),
    "key {} was revoked": "密钥 {} 已吊销",
    "key {} expired at {} UTC": "密钥 {} 已于 {} UTC 到期",
    "key {} was rotated; this secret ended {} UTC": "密钥 {} 已轮换；此密文已于 {} UTC 失效",
    "no such key; `er keys list` on the server shows the keys there are": (
        "没有这个密钥；在服务器上用 `er keys list` 查看"
    ),
    "is gone": "不见了",
    (
        "{} is gone; the last good one ({n} keys) stays in force. Correct it, or put it back "
        "with: cp -p {} {}"
    ): ("{} 不见了；最近一份完好的（{} 个密钥）继续有效。请改正，或恢复它：cp -p {} {}"),
    (
        "{} can't be read: {}; the last good one ({n} keys) stays in force. Correct it, or put "
        "it back with: cp -p {} {}"
    ): ("{} 无法读取：{}；最近一份完好的（{} 个密钥）继续有效。请改正，或恢复它：cp -p {} {}"),
    (
        "{} {}; the last good one ({n} keys) stays in force. Correct it, or put it back with: cp "
        "-p {} {}"
    ): ("{} {}；最近一份完好的（{} 个密钥）继续有效。请改正，或恢复它：cp -p {} {}"),
    "not a key file ({})": "不是密钥文件（{}）",
    "of version {}, and this ER reads versions {} and {}": "版本为 {}，而此 ER 读取版本 {} 和 {}",
    "of version {}, and this ER reads versions {}": "版本为 {}，而此 ER 读取版本 {}",
    "key id {} is not k and 8 of a-z2-7": "密钥 id {} 不是 k 加 8 个 a-z2-7 的字符",
    "key {}: sha256 is not 64 of 0-9a-f": "密钥 {}：sha256 不是 64 个 0-9a-f 的字符",
    "key {}: times must end in Z": "密钥 {}：时间必须以 Z 结尾",
    "key {w}: {}": "密钥 {}：{}",
    "two keys have the same id": "两个密钥的 id 相同",
    "name a key by its id or its name; `er keys list` shows them": (
        "请用 id 或名称指定密钥；`er keys list` 可查看"
    ),
    "no key {}; `er keys list` shows the ids and names": (
        "没有密钥 {}；`er keys list` 可查看 id 和名称"
    ),
    "{n} keys are named {} ({}); give the id": "有 {} 个密钥叫 {}（{}）；请给出 id",
    "expires {} is in the past": "expires {} 已经过去",
    "a name is 1 to 64 visible characters, as in --name web": (
        "名称为 1 到 64 个可见字符，例如 --name web"
    ),
    "the name {} looks like a key's id; take another": "名称 {} 像是密钥的 id；请另取一个",
    "key {} is already named {}; names are unique": "密钥 {} 已叫 {}；名称不能重复",
    "rate limit {}: {}": "限速 {}：{}",
    "name at least one model, or leave models out for all of them": (
        "请至少写一个模型，不写 models 表示全部"
    ),
    "name": "名称",
    "state": "状态",
    "scopes": "权限",
    "models": "模型",
    "networks": "网段",
    "concurrency": "并发",
    "quota": "配额",
    "weight": "权重",
    "created": "创建",
    "expires": "到期",
    "id": "id",
    "{}, line {n}": "{} 第 {} 行",
    "{}, row {n}": "{} 第 {} 行",
    "new        {}  ({})": "新         {}  （{}）",
}
