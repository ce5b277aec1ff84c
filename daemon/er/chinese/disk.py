"""Chinese: er disk, clean, backup, restore."""

from __future__ import annotations

SAID: dict[str, str] = {
    "place": "位置",
    "takes": "占用",
    "at most": "上限",
    "held by": "由什么限制",
    "what frees it": "怎样释放",
    "programs": "程序",
    "vectors": "向量",
    "batches": "批处理",
    "audit": "审计",
    "usage": "用量",
    "feedback": "反馈",
    "hours": "每小时记录",
    "engines": "引擎",
    "replaced": "被替换的",
    "closed to you": "你无权查看",
    "{} of {} free on the disk of {}": "{2} 所在磁盘剩余 {0}/{1}",
    "That is little: sudo er clean, a smaller size in er.toml, or {}": (
        "空间不多了：sudo er clean，在 er.toml 中调小 size，或 {}"
    ),
    "With sudo none of it is closed.": "用 sudo 可以全部看到。",
    "oldest go by themselves": "最旧的会自动删除",
    "oldest go by themselves; a smaller size in er.toml, then: sudo er apply": (
        "最旧的会自动删除；或在 er.toml 中调小 size，然后：sudo er apply"
    ),
    "a smaller size in er.toml, then: sudo er apply": "在 er.toml 中调小 size，然后：sudo er apply",
    "quota in [batches]; results for {}": "[batches] 的 quota；结果保留 {}",
    "{}, keep in [feedback]": "{}，[feedback] 的 keep",
    "versions: the one in use and one before": "版本：在用的和上一个",
    "size in [cache]": "[cache] 的 size",
    "size in [audit]": "[audit] 的 size",
    "{n} days": "{} 天",
    "14 months": "14 个月",
    "what vLLM compiles": "vLLM 的编译结果",
    "what er restore replaced": "er restore 所替换的",
    # clean
    "this removes root's files and needs root: sudo er clean (or --dry-run)": (
        "这会删除 root 的文件，需要 root：sudo er clean（或 --dry-run）"
    ),
    "{} uses what --engines removes: first {}": "{} 正在使用 --engines 要删除的内容：请先 {}",
    "install.sh is at work; try again when it is done. Nothing was removed.": (
        "install.sh 正在运行；请等它结束再试。没有删除任何东西。"
    ),
    "{}: {}; what was said as removed is gone": "{}：{}；显示为已删除的已经没有了",
    "Nothing to remove; er disk shows what takes how much.": "没有可删除的；er disk 显示各占多少。",
    "nothing was removed; to have it done: --yes": "没有删除任何东西；要删除请加 --yes",
    "Remove them?": "删除它们吗？",
    "nothing was removed": "没有删除任何东西",
    "removed {}": "已删除 {}",
    "half made": "没有建完",
    "a version that nothing runs from": "没有在用的版本",
    "what er restore replaced; er restore --undo needs the newest": (
        "er restore 所替换的；er restore --undo 需要最新的一份"
    ),
    "what vLLM compiled; its next start takes longer": "vLLM 的编译结果；下次启动会更久",
    "{}: half made, {}": "{}：没有建完，{}",
    "{}: a version that nothing runs from, {}": "{}：没有在用的版本，{}",
    "{}: what er restore replaced; er restore --undo needs the newest, {}": (
        "{}：er restore 所替换的；er restore --undo 需要最新的一份，{}"
    ),
    "{}: what vLLM compiled; its next start takes longer, {}": (
        "{}：vLLM 的编译结果；下次启动会更久，{}"
    ),
    # backup
    "{}: {}; nothing has changed, make room there and try again": (
        "{}：{}；未作任何改动，请在那里腾出空间再试"
    ),
    "nothing has changed, make room there and try again": "未作任何改动，请在那里腾出空间再试",
    "{}: {}; nothing has changed, try sudo er {} {}": "{}：{}；未作任何改动，请试 sudo er {} {}",
    "{} lies on a read-only file system; nothing has changed, take another place": (
        "{} 位于只读文件系统上；未作任何改动，请换个位置"
    ),
    "{}: {}; nothing has changed": "{}：{}；未作任何改动",
    "nothing has changed": "未作任何改动",
    "{} is a folder; name a file in it, as {}": "{} 是目录；请写其中的文件，如 {}",
    "there is no folder {}; make it, or name another": "没有目录 {}；请创建它，或另写一个",
    "{} is there already, and no backup of ER; name another file": (
        "{} 已存在，且不是 ER 的备份；请另写一个文件"
    ),
    "this needs root or group er: sudo er backup FILE": "这需要 root 或 er 组：sudo er backup FILE",
    "{} can't be read; {}": "{} 无法读取；{}",
    "{}. Then make the backup": "{}。然后再做备份",
    "Then make the backup": "然后再做备份",
    "--with-tls: {} can't be used ({}); er check": "--with-tls：{} 无法使用（{}）；er check",
    "--with-tls: {} has no [gateway.tls]; leave it out": (
        "--with-tls：{} 中没有 [gateway.tls]；请去掉此选项"
    ),
    (
        "--with-tls: {} does not lie in {}, where a restore could put it back; back it up with "
        "what makes it, and leave --with-tls out"
    ): ("--with-tls：{} 不在 {} 中，恢复时无法放回；请用生成它的工具备份，并去掉 --with-tls"),
    "--with-tls: there is no {}; er tls show": "--with-tls：没有 {}；er tls show",
    "there is nothing to back up in {} and {}; is ER installed here?": (
        "{} 和 {} 中没有可备份的；这里装了 ER 吗？"
    ),
    "there is nothing to back up in {}; is ER installed here?": (
        "{} 中没有可备份的；这里装了 ER 吗？"
    ),
    "{}, {}: a backup of {n} file{s}, {}: {}.": "{}，{}：备份了 {} 个文件，{}：{}。",
    "{}, {}: a backup of {}.": "{}，{}：备份了 {}。",
    "It holds hashes of the keys, and all that er.toml, feedback and batches say:": (
        "其中有密钥的哈希，以及 er.toml、反馈和批处理的全部内容："
    ),
    (
        "It holds the private key of HTTPS, hashes of the keys, and all that er.toml, feedback "
        "and batches say:"
    ): ("其中有 HTTPS 的私钥、密钥的哈希，以及 er.toml、反馈和批处理的全部内容："),
    "the private key of HTTPS,": "HTTPS 的私钥，",
    "It holds {}hashes of the keys, and all that er.toml, feedback and batches say:": (
        "其中有{}密钥的哈希，以及 er.toml、反馈和批处理的全部内容："
    ),
    "its owner alone can read it (0600). Keep it so, and on another machine too.": (
        "只有其所有者可读（0600）。请保持这样，并在另一台机器上也存一份。"
    ),
    "{} differs from what is applied, and was taken as it is": "{} 与已应用的不同，按现状备份",
    "batches have {} MiB, over {}, and are left out: copy {} with the gateway stopped": (
        "批处理有 {} MiB，超过 {}，没有备份：请在网关停止时复制 {}"
    ),
    "batches have {} MiB, over {}, and are left out": "批处理有 {} MiB，超过 {}，没有备份",
    "{}: copy {} with the gateway stopped": "{}：请在网关停止时复制 {}",
    "{} is a link, which ER never makes; look at it": "{} 是链接，ER 不会创建链接；请查看",
    "{} is no plain file; look at it": "{} 不是普通文件；请查看",
    "{} is larger than {} MiB; is it ER's?": "{} 超过 {} MiB；它是 ER 的吗？",
    "{n} file{s}, {}: {}": "{} 个文件，{}：{}",
    "{n} file{s}": "{} 个文件",
    # restore
    "name the backup: er restore FILE; or --undo, without one": (
        "请写备份文件：er restore FILE；或只写 --undo"
    ),
    "there is no folder {}, or it is closed to you; {}": "没有目录 {}，或你无权访问；{}",
    "install ER first (./install.sh), or use sudo": "请先安装 ER（./install.sh），或用 sudo",
    "{} lies on a read-only file system; {}": "{} 位于只读文件系统上；{}",
    "nothing has changed, remount it (findmnt)": "未作任何改动，请重新挂载（findmnt）",
    "this writes in {}, which needs root: sudo er restore …": (
        "这要写入 {}，需要 root：sudo er restore …"
    ),
    "{} is no plain file; name one that er backup wrote": (
        "{} 不是普通文件；请写 er backup 生成的文件"
    ),
    "{}: a backup of {} of {},": "{}：{} 的备份，做于 {}，",
    "by ER {}: {n} file{s}, {}: {}.": "由 ER {} 生成：{} 个文件，{}：{}。",
    "by ER {}: {}.": "由 ER {} 生成：{}。",
    "Nothing has changed (--dry-run).": "未作任何改动（--dry-run）。",
    "Restored. What was there before comes back with: sudo er restore --undo": (
        "已恢复。找回之前的内容：sudo er restore --undo"
    ),
    "{} {}; nothing has changed": "{} {}；未作任何改动",
    "has keys that this ER can't read ({} is {})": "其中的密钥此 ER 无法读取（{} {}）",
    "Nothing of that is in {} now.": "{} 中现在没有这些。",
    "It takes the place of {n} file{s} in {} ({}),": "它将替换 {1} 中的 {0} 个文件（{2}），",
    "It takes the place of {} in {} ({}),": "它将替换 {1} 中的 {0}（{2}），",
    "which are kept in {}.": "原文件保留在 {}。",
    "{n} MiB are needed in {}, and {n} MiB are free": "{1} 中需要 {0} MiB，剩余 {2} MiB",
    "nothing has changed. To agree: --yes": "未作任何改动。同意请加 --yes",
    "Nothing has changed.": "未作任何改动。",
    "there is no {} in {} and {}: nothing to undo": "{1} 和 {2} 中没有 {0}：没有可撤销的",
    "{n} files come back from {};": "{} 个文件将从 {} 找回；",
    "what is there now is kept in {}.": "现有的保留在 {}。",
    "It is as before. What was there comes back with: sudo er restore --undo": (
        "已回到之前。找回刚才的内容：sudo er restore --undo"
    ),
    "An earlier er restore was killed amid its work: what it had changed is as before it.": (
        "之前有一次 er restore 中途被杀死：它改动过的已恢复原状。"
    ),
    "user er could not do it: {}; nothing has changed": "用户 er 无法完成：{}；未作任何改动",
    "There is no {} in it: write one (er help configuration).": (
        "其中没有 {}：请写一个（er help configuration）。"
    ),
    "{} does not fit this ER as it is: er check says where.": (
        "{} 不适合这个 ER：er check 会说明在哪里。"
    ),
    "Next: er check, sudo er apply, sudo systemctl start er.target": (
        "接下来：er check，sudo er apply，sudo systemctl start er.target"
    ),
    "stop it first: sudo systemctl stop er.target": "请先停止：sudo systemctl stop er.target",
    "an er apply or er reload is under way; nothing has changed, wait for it": (
        "有 er apply 或 er reload 正在进行；未作任何改动，请等它结束"
    ),
    "er-gateway runs with {}, and writes what would be replaced": (
        "er-gateway 正在使用 {}，会写入将被替换的内容"
    ),
    "er-gateway runs with {}, and writes what would be replaced; nothing has changed, {}": (
        "er-gateway 正在使用 {}，会写入将被替换的内容；未作任何改动，{}"
    ),
    "{}; nothing has changed, {}": "{}；未作任何改动，{}",
    # the archive
    "{} is no backup of ER; name a file that er backup wrote": (
        "{} 不是 ER 的备份；请写 er backup 生成的文件"
    ),
    "is no backup of ER; name a file that er backup wrote": (
        "不是 ER 的备份；请写 er backup 生成的文件"
    ),
    "is damaged: it ends too early; take another backup, or copy it here anew": (
        "已损坏：结束得太早；请用另一个备份，或重新复制过来"
    ),
    "{} is damaged: it ends too early; take another backup, or copy it here anew": (
        "{} 已损坏：结束得太早；请用另一个备份，或重新复制过来"
    ),
    "{} was changed while it was read; try again": "{} 在读取时被改动；请再试",
    "is damaged, or made by others: {}": "已损坏，或不是 ER 生成的：{}",
    "{} is not plain": "{} 不是普通文件",
    "is damaged: something stands behind its end": "已损坏：结尾之后还有内容",
    "is damaged: {} is not what was written": "已损坏：{} 与写入时不同",
    "is damaged ({}); take another backup": "已损坏（{}）；请用另一个备份",
    "{} is damaged, or made by others: {}": "{} 已损坏，或不是 ER 生成的：{}",
    "{} is damaged: something stands behind its end": "{} 已损坏：结尾之后还有内容",
    "{} is damaged: {} is not what was written": "{} 已损坏：{} 与写入时不同",
    "{} is damaged ({}); take another backup": "{} 已损坏（{}）；请用另一个备份",
    "{} is damaged: its manifest is not one ({})": "{} 已损坏：清单无效（{}）",
    (
        "was made by ER {}, which is newer than this one ({}) and may keep what this one can't "
        "read; upgrade ER here first (install.sh of that version), then restore it"
    ): (
        "由 ER {} 生成，比这个（{}）新，其中可能有这个读不懂的内容；请先升级这里的 ER（用那个版本"
        "的 install.sh），再恢复"
    ),
    (
        "{} was made by ER {}, which is newer than this one ({}) and may keep what this one "
        "can't read; upgrade ER here first (install.sh of that version), then restore it"
    ): (
        "{} 由 ER {} 生成，比这个（{}）新，其中可能有这个读不懂的内容；请先升级这里的 ER（用那个"
        "版本的 install.sh），再恢复"
    ),
    "is damaged: its manifest is not one ({})": "已损坏：清单无效（{}）",
    "it has a part {}, which no ER has": "其中有 {} 部分，ER 没有这种",
    "it has a file {}, which no backup has": "其中有文件 {}，备份里不会有",
    "the size or mode of {} can't be": "{} 的大小或权限不可能",
    "the checksum of {} is none": "{} 的校验和无效",
    "it has a file twice": "有一个文件出现两次",
    "it would take {} GiB": "它要占用 {} GiB",
    "{} has no {}, so a restore did not end there": "{} 中没有 {}，因此那次恢复没有完成",
    "{} is damaged ({})": "{} 已损坏（{}）",
    "{}; nothing has changed, make room there and try again": (
        "{}；未作任何改动，请在那里腾出空间再试"
    ),
}
