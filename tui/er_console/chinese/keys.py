"""Chinese: the Keys page and its boxes; the Quality page; what the gateway says of keys."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "; ": "；",
    "{span} ago": "{span}前",
    # The list.
    "keys": "密钥",
    "expires soon": "即将到期",
    "used now": "当前用量",
    "per min": "每分钟",
    "never": "从不",
    "default": "默认",
    "reading the keys": "正在读取密钥",
    "no key yet: N makes one": "还没有密钥：按 N 新建",
    "no key passes the filter": "没有符合筛选的密钥",
    "the keys can't be read now": "现在读不到密钥",
    "the list is of {time}": "列表读取于 {time}",
    "Secrets are stored nowhere: a lost one is replaced with O (rotate).": (
        "密文不在任何地方保存：丢失后按 O 轮换，换一个新的。"
    ),
    "Without the gateway: {command}": "没有网关时：{command}",
    "new": "新建",
    "edit": "编辑",
    "rotate": "轮换",
    "revoke": "吊销",
    "copy id": "复制 ID",
    "edit name, limit, expiry and models": "编辑名称、限额、到期时间和模型",
    "bounds": "约束",
    "edit team, scopes, networks, tokens, quota and weight": (
        "编辑团队、权限、网络、token、配额和权重"
    ),
    # The key under the cursor.
    "what it uses now is not known (the gateway is older than this console)": (
        "当前用量未知（网关比这个控制台旧）"
    ),
    "no limit": "不限额",
    "{used} of {limit} used now": "限额 {limit}，当前已用 {used}",
    "{n} request in the last minute": "最近一分钟 {n} 个请求",
    "{n} requests in the last minute": "最近一分钟 {n} 个请求",
    "{n} of them refused by the limit": "其中 {n} 个因超限被拒",
    "made {time}": "创建于 {time}",
    "it never expires": "永不过期",
    "it expires {time}": "{time} 到期",
    "it expired {time}": "已于 {time} 过期",
    "it opens all models": "可用全部模型",
    "it opens {models}": "可用模型：{models}",
    "team {team}": "团队 {team}",
    "for {value} alone": "仅限 {value}",
    "from {value}": "来自 {value}",
    "{value} requests at once": "同时 {value} 个请求",
    "{value} tokens": "{value} 个 token",
    "quota {value}": "配额 {value}",
    "weight {value}": "权重 {value}",
    "the old secret is valid until {time}": "旧密文有效至 {time}",
    "who still uses it is not known": "不知道谁还在用",
    "nobody has used it since": "轮换后没有人再用过",
    "still used by {who}": "仍在使用：{who}",
    "still used by {who} and {n} more": "仍在使用：{who}，另有 {n} 个",
    # What was done.
    "key {key} is made": "密钥 {key} 已创建",
    "{key} is changed: {what}": "{key} 已修改：{what}",
    "{key} is revoked": "{key} 已吊销",
    "{key} has a new secret; the old one has ended": "{key} 已换新密文，旧密文已失效",
    "{key} has a new secret; the old one is valid until {time}": (
        "{key} 已换新密文，旧密文有效至 {time}"
    ),
    "{key} is {state}; N makes a new one": "{key} {state}；按 N 新建一个",
    "{key} sent to the terminal's clipboard": "{key} 已发送到终端的剪贴板",
    "nothing was changed": "没有任何改动",
    "meanwhile it was changed to {value}": "期间已被别人改为 {value}",
    "save again to set yours": "再保存一次则以您的为准",
    "the gateway went away before it answered": "网关在答复之前断开了",
    "It may have been done all the same: look again": "操作可能已经生效：请再看一次列表",
    # Boxes.
    "Cancel (esc)": "取消 (esc)",
    "Close (esc)": "关闭 (esc)",
    "To do it, type {name} below.": "要执行，请在下面输入 {name}。",
    "wait: the gateway was asked and has not answered yet": "请稍候：已向网关提出，尚未答复",
    "New key": "新建密钥",
    "Edit key {key}": "编辑密钥 {key}",
    "Bounds of key {key}": "密钥 {key} 的约束",
    "Create": "创建",
    "Save": "保存",
    "whom it is for": "给谁用",
    "as in: web": "例如：web",
    "rate limit": "限额",
    "the gateway's; 600/minute, or off": "默认用网关的；600/minute，或 off",
    "the gateway's ({limit}); 600/minute, or off": "默认用网关的（{limit}）；600/minute，或 off",
    "never; 2027-01-31, or 90d": "默认永不过期；2027-01-31，或 90d",
    "all; names with commas between": "默认全部；多个名称用逗号分隔",
    "team": "团队",
    "whose it is, for lists and usage": "归谁所有，用于列表和用量统计",
    "scopes": "权限",
    "inference, metrics; or admin-read": "默认 inference, metrics；另有 admin-read",
    "networks": "来源网络",
    "all; 10.0.0.0/8, 2001:db8::/32": "默认不限；10.0.0.0/8, 2001:db8::/32",
    "requests at once": "并发请求",
    "any number; 8": "默认不限；8",
    "no limit; 1000000/minute": "默认不限；1000000/minute",
    "quota": "配额",
    "none; 50M tokens/month": "默认没有；50M tokens/month",
    "weight": "权重",
    "1; its share beside other keys when busy": "默认 1；繁忙时相对其他密钥的份额",
    "Give it a name: it stands in lists and logs.": "请起个名称：列表和日志里用它。",
    "Nothing was changed.": "没有改动。",
    "Empty is the default. It holds from the next request on.": (
        "留空即为默认。从下一个请求起生效。"
    ),
    "New secret for {key}?": "为 {key} 换新密文？",
    "New secret": "新密文",
    "It keeps its id and gets a new secret. The old one stays valid for a while: "
    "Enter takes {grace}, 0 ends it at once.": (
        "ID 不变，换一个新密文。旧密文还要有效多久？按 Enter 取 {grace}；0 表示立即失效。"
    ),
    "another": "其他时长",
    "An older one is still valid (until {time}); it ends at once": (
        "还有一个更旧的密文有效（至 {time}），它会立即失效"
    ),
    "The old secret ends at once: every client gets 401 until it has the new one. "
    "Choose 0 once more to do it.": (
        "旧密文会立即失效：客户端换上新密文之前都会得到 401。再选一次 0 执行。"
    ),
    # The secret, once.
    "The secret of {key}, shown this ONCE:": "{key} 的密文，只显示这一次：",
    "c copies it to the terminal's clipboard; test by pasting": (
        "c 复制到终端的剪贴板；请粘贴一下确认"
    ),
    "(in tmux that needs: {setting})": "（在 tmux 中需要：{setting}）",
    "f saves it to a file that only you can read": "f 保存到只有您能读的文件",
    "I have stored it": "我已存好",
    "Sent to the terminal. Paste it somewhere before you go on.": (
        "已发送到终端。请先粘贴确认，再继续。"
    ),
    "It can't be shown again. esc once more to go.": "之后不能再次显示。再按一次 esc 离开。",
    "Not saved: there is a file {path} already; move it away first": (
        "未保存：已有文件 {path}；请先移走它"
    ),
    "Not saved: {path}: {why}": "未保存：{path}：{why}",
    "Saved to {path}, which only you can read": "已保存到 {path}，只有您能读",
    # Quality.
    "Quality": "质量",
    "quality": "质量",
    "proof": "证明",
    "last found right": "最近一次确认正确",
    "wrong": "错误",
    "fingerprint": "指纹",
    "why out": "停用原因",
    "no row passes the filter": "没有符合筛选的行",
    "never yet": "尚未有过",
    "by a request {span} ago": "{span}前由请求确认",
    "by a probe {span} ago": "{span}前由探测确认",
    "by a probe {span} ago, {ms} ms": "{span}前由探测确认，{ms} ms",
    "the gateway is older than this console and has no canary": "网关比本控制台旧，没有金丝雀测试",
    "the gateway is older than this console and takes no feedback": "网关比本控制台旧，不接受反馈",
    "This gateway has no canary: nothing compares its answers with ones known to be good.": (
        "这个网关没有金丝雀测试：没有把答案与已知的好答案对比。"
    ),
    "This gateway takes no feedback: no client says how good a result was.": (
        "这个网关不接受反馈：客户端不会告诉结果好不好。"
    ),
    "canary": "金丝雀",
    "feedback": "反馈",
    "good": "良好",
    "drifted": "已漂移",
    "drift": "漂移",
    "tolerated": "容许",
    "last": "最近",
    "history": "历史",
    "nDCG@10": "nDCG@10",
    "MRR": "MRR",
    "off": "关闭",
    "told of": "有反馈",
    "clicked": "点击率",
    "satisfied": "满意度",
    "is out": "已停用",
    "goes on serving": "继续服务",
    "The canary has {queries} questions ({languages}) and {pairs} judged documents.": (
        "金丝雀测试有 {queries} 个问题（{languages}）、{pairs} 篇已评分文档。"
    ),
    "It asks each replica every {span} in idle time.": "空闲时每 {span}向每个副本提问一次。",
    "It runs when somebody asks for it: er quality run": "仅在有人要求时运行：er quality run",
    "Your own sets: {each}": "您自己的题集：{each}",
    "{name} {state}, for {span}": "{name} {state}，已 {span}",
    "largest drift {n}": "最大漂移 {n}",
    "reference: {kind}, {span} old": "参考：{kind}，{span}前",
    "next in {span}": "{span}后再测",
    "{n} feedback in {span}": "{span}内 {n} 条反馈",
    "{n} feedbacks in {span}": "{span}内 {n} 条反馈",
    "click on rank {n}": "点击第 {n} 名",
    "rating {n}": "评分 {n}",
    "This gateway has no canary and no feedback yet: nothing compares its answers with ones known "
    "to be good, and no client says how good a result was. What is known follows.": (
        "这个网关还没有金丝雀测试和反馈：没有把答案与已知的好答案对比，客户端也不会告诉结果好不好。"
        "以下是目前已知的。"
    ),
    "Every answer is checked for its size, for numbers that are none, each vector's length and "
    "each score's range. A replica with a wrong one is out until it has answered right again.": (
        "每个答案都会检查：大小、非数值、向量长度、得分范围。给出错误答案的副本会停用，"
        "直到再次答对。"
    ),
    "{model} is served by engines that differ: {each}": "{model} 由不同的引擎服务：{each}",
    "Such engines' numbers may differ in their last digits, and the cache is off for them.": (
        "这些引擎的数值末几位可能不同，并且它们的缓存已停用。"
    ),
    "No call had a wrong answer since the gateway began.": "网关启动以来没有调用得到错误答案。",
    "{n} call had a wrong answer since the gateway began, and was asked again elsewhere.": (
        "网关启动以来有 {n} 次调用答案错误，已改问其他副本。"
    ),
    "{n} calls had a wrong answer since the gateway began, and were asked again elsewhere.": (
        "网关启动以来有 {n} 次调用答案错误，已改问其他副本。"
    ),
}
# What the admin API refuses a key with.
RATE = '写成 "100/minute"、"5/second"、"1000/hour" 或 "off"'
HEARD: dict[str, str] = {
    'write a rate as "100/minute", "5/second", "1000/hour", or "off"': RATE,
    "rate limit {said}: {why}": "限额 {said}：{why}",
    "expires {at} is in the past": "到期时间 {at} 已经过去",
    "expires: {why}": "到期时间：{why}",
    "grace: {why}": "保留时长：{why}",
    'write a time as "600s", "10m", "2h", "30d" or "250ms"': (
        '写成 "600s"、"10m"、"2h"、"30d" 或 "250ms"'
    ),
    '{said} is not a time; write a span ("30d", "12h"), a date ("2027-01-31"), a moment '
    '("2027-01-31T18:00:00Z") or "never"': (
        '{said} 不是时间；写时长（"30d"、"12h"）、日期（"2027-01-31"）、时刻'
        '（"2027-01-31T18:00:00Z"）或 "never"'
    ),
    "{said} is already over; write a time in the future": "{said} 已经过去；请写将来的时间",
    "a name is 1 to 64 visible characters, as in --name web": "名称为 1 到 64 个可见字符，例如 web",
    "the name {name} looks like a key's id; take another": "名称 {name} 像是密钥 ID，请换一个",
    "key {key} is already named {name}; names are unique": "密钥 {key} 已用名称 {name}；名称须唯一",
    "name at least one model, or leave models out for all of them": (
        "至少写一个模型，或留空表示全部模型"
    ),
    "key {key} is {end}; create a new one": "密钥 {key} {end}；请新建一个",
    "key {key} is already {end}": "密钥 {key} 已经{end}",
    "revoked since {time} UTC": "于 {time} UTC 吊销",
    "expired since {time} UTC": "于 {time} UTC 过期",
    "no key {ref}; `er keys list` shows the ids and names": (
        "没有密钥 {ref}；`er keys list` 可查看 ID 和名称"
    ),
}
