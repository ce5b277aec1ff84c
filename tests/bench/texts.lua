-- wrk's requests: embeddings of one text each, words drawn at random, so that no cache helps;
-- or with BENCH_KNOWN each of so many texts in turn, the same ones in every run.
local get = os.getenv
local words, seed = {}, tonumber(get("BENCH_SEED"))
for word in io.lines(get("BENCH_WORDS")) do words[#words + 1] = word end
math.randomseed(seed)
local count, each, random = #words, tonumber(get("BENCH_EACH")), math.random
local key = get("BENCH_KEY")
local head, before, after, picked = "", '{"model":"embed","input":"', "", {}

local texts, turn = {}, 0

local function text()
    for i = 1, each do picked[i] = words[random(count)] end
    return table.concat(picked, " ")
end

function init(args)
    head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n"
    if key ~= "" then head = head .. "Authorization: Bearer " .. key .. "\r\n" end
    head = head .. "Content-Type: application/json\r\nContent-Length: "
    local same = tonumber(get("BENCH_KNOWN"))
    if same > 0 then math.randomseed(7) end
    for i = 1, same do texts[i] = text() end
    after = '","encoding_format":"' .. get("BENCH_ENCODING") .. '"}'
end

function request()
    turn = turn + 1
    local body = before .. (texts[1] and texts[(turn - 1) % #texts + 1] or text()) .. after
    return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
    local e = summary.errors
    local bad = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format("BENCH %d %d %d %d %d\n", summary.requests, summary.duration, bad,
        latency:percentile(50), latency:percentile(99)))
end
