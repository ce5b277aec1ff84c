"""Chinese: the Try page: the fields, the answer, what a refusal means."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # Fields and keys.
    "documents": "文档",
    "document": "文档",
    "one a line": "每行一条",
    "query": "查询",
    "instruction": "指令",
    "dimensions": "维度",
    "side": "用途",
    "as the model has it": "按模型设置",
    "written as": "协议",
    "the question that documents are ranked for": "据此为文档排序的问题",
    "the task in a sentence; empty: the model's own": "用一句话说明任务；留空用模型自带的",
    "the first so many numbers; empty: all": "只取前若干个数；留空取全部",
    "send": "发送",
    "next line": "下一行",
    "leave": "离开",
    "curl elsewhere": "异地 curl",
    "write it as clients of OpenAI, Cohere or TEI do": (
        "换协议：按 OpenAI、Cohere 或 TEI 客户端的格式发送"
    ),
    # What is still missing.
    "no model is known yet": "还不知道有哪些模型",
    "a rerank needs a query": "重排需要一个查询",
    "type a text": "请输入文本",
    "type the documents, one a line": "请输入文档，每行一条",
    "enter sends it": "按 enter 发送",
    "asking, {n} s (esc gives up)": "等待应答，{n} 秒（按 esc 放弃）",
    # The answer.
    "in {ms} ms": "用时 {ms} 毫秒",
    "no server-timing": "没有 server-timing",
    "{n} token": "{n} 个 token",
    "{n} tokens": "{n} 个 token",
    "request id {id}": "请求 ID {id}",
    "encode, rest": "编码及其他",
    "again in {seconds} s (retry-after)": "{seconds} 秒后再试（retry-after）",
    "rank": "名次",
    "score": "得分",
    "no vector came back": "没有返回向量",
    "{n} vector of {size} numbers": "{n} 个向量，每个 {size} 个数",
    "{n} vectors of {size} numbers": "{n} 个向量，每个 {size} 个数",
    "norm": "长度",
    "to 1st": "与首个",
    "first numbers": "前几个数",
    "text": "文本",
    # What a refusal means.
    "The gateway did not take the key.": "网关不接受这个密钥。",
    "This key may not use this model, or this address.": "这个密钥不能使用该模型或该地址。",
    "There is no such model or address here; m takes a model that there is.": (
        "这里没有这个模型或地址；按 m 选用已有的模型。"
    ),
    "The request is larger than er.toml allows (max_body).": (
        "请求超过 er.toml 允许的大小（max_body）。"
    ),
    "Asked too often: clients that wait as long as retry-after says are served.": (
        "请求过于频繁：按 retry-after 等待后即可得到服务。"
    ),
    "No replica of this model answers now; page 2 says why.": (
        "该模型目前没有副本应答；原因见第 2 页。"
    ),
    "More is asked than can be computed in time; later it may be served.": (
        "请求多于能及时算完的数量；稍后可能得到服务。"
    ),
    "It was not computed within the time that er.toml gives (timeout).": (
        "未能在 er.toml 规定的时间（timeout）内算完。"
    ),
    "A fault of ER's own; page 5 has the lines of this request.": (
        "ER 自身出错；该请求的日志见第 5 页。"
    ),
    "The request is wrong: correct it, sending it again as it is does not help.": (
        "请求有误：请先改正，原样重发没有用。"
    ),
    # The curl lines.
    "here (y copies)": "本机（按 y 复制）",
    "elsewhere, with a key in ER_API_KEY (Y copies)": "其他机器，密钥放在 ER_API_KEY（按 Y 复制）",
    "curl line sent to the terminal's clipboard": "curl 命令已送到终端剪贴板",
    "curl line sent to the terminal's clipboard; set ER_API_KEY there": (
        "curl 命令已送到终端剪贴板；请在那边设置 ER_API_KEY"
    ),
    # Why it can't be asked.
    "the gateway did not answer within {limit} s": "网关在 {limit} 秒内没有应答",
    "the gateway's answer can't be read": "无法读懂网关的应答",
}
