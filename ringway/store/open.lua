-- Shared by append.lua, read.lua and arrive.lua: which incarnation of the channel's log is this, and where does it stand?
-- KEYS[1] meta hash: g gen, s head seq, r replication id under which the gen began, p past, b de-duplication bucket
-- KEYS[2] log stream, entry id = seq, field m = the frame
-- `past` lists the incarnations that this one carries on, newest first: "gen:last gen:last!known/back ..." with the seq
-- up to which each survived; `known`: messages up to that seq had been given out and were lost by Redis; `back` of
-- those are in the log again. Constant: GRACE_MS, in which those who have such messages append them again.

local META, LOG = KEYS[1], KEYS[2]
local KEPT_PAST = 16
local time = redis.call('TIME')

-- Redis may have forgotten its last messages when it starts again (AOF everysec) or a replica is promoted; their seqs
-- would be given out twice. Its replication id changes in just these cases. (run_id would not do: a master that was
-- replaced, resynchronised and promoted again has the same one, and other data.)
local function replication_id()
  return string.sub(string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)'), 1, 16)
end

local function oldest_kept(head)
  local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  return first and tonumber(string.match(first[1], '^%d+')) or head + 1
end

-- Gens sort by age as text: seconds and microseconds in hex, then three characters of the replication id.
local function new_gen(replid, previous)
  local seconds, micros = tonumber(time[1]), tonumber(time[2])
  local gen = string.format('%08x%05x', seconds, micros)
  if previous and gen <= string.sub(previous, 1, 13) then
    gen = string.format('%08x%05x', tonumber(string.sub(previous, 1, 8), 16) + 1, micros)
  end
  return gen .. string.sub(replid, 1, 3)
end

local function parse_past(entry)
  local gen, last, known, back = string.match(entry, '^(%w+):(%d+)!?(%d*)/?(%d*)$')
  last = tonumber(last)
  return gen, last, tonumber(known) or last, tonumber(back) or 0
end

-- A new incarnation that carries on the one that stands in `log`.
local function turn(log, replid)
  local past, kept, oldest = log.gen .. ':' .. log.seq, 1, oldest_kept(log.seq)
  for entry in string.gmatch(log.past, '%S+') do
    local _, last = parse_past(entry)
    if kept < KEPT_PAST and last >= oldest - 1 then
      past, kept = past .. ' ' .. entry, kept + 1
    end
  end
  log.gen, log.past = new_gen(replid, log.gen), past
  redis.call('HSET', META, 'g', log.gen, 's', log.seq, 'r', replid, 'p', past)
end

-- Messages of an incarnation that is over are known to have existed, up to `known_now`, or are back in the log.
-- Redis may have lost all of it, and that it ever began: then it is written down here. As what Redis holds is always the
-- beginning of what it held, the incarnation had all that survived of the one before. One that is later than the log's
-- own is of a Redis with another clock, and says nothing.
local function note_loss(log, gen, known_now, back_now)
  if gen > log.gen then return end
  local entries, at, last, known, back = {}, nil, 0, 0, 0
  for entry in string.gmatch(log.past, '%S+') do
    local old, old_last, old_known, old_back = parse_past(entry)
    if not at and old <= gen then
      at, last, known = #entries + 1, old_last, old_last
      if old == gen then known, back = old_known, old_back end
    end
    if old ~= gen then entries[#entries + 1] = entry end
  end
  if known_now > last then known, back = math.max(known, known_now), back + back_now end
  local entry = gen .. ':' .. last .. (known > last and '!' .. known .. '/' .. back or '')
  table.insert(entries, at or #entries + 1, entry)
  local past = table.concat(entries, ' ')
  if past ~= log.past then
    log.past = past
    redis.call('HSET', META, 'p', past)
  end
end

-- The log whose meta is gone (evicted): what stood in it is in its last frame.
local function from_last_frame()
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  if not last then return nil end
  local gen, seq = string.match(last[2][2], ',"gen":"(%w+)","seq":(%d+),"ts":%d+}$')
  return gen and {gen = gen, seq = tonumber(seq), past = ''}
end

local function open_log(replid, create)
  local meta = redis.call('HMGET', META, 'g', 's', 'r', 'p', 'b')
  if meta[1] then
    local log = {gen = meta[1], seq = tonumber(meta[2]), past = meta[4], bucket = meta[5] and tonumber(meta[5])}
    if meta[3] ~= replid then turn(log, replid) end
    return log
  end
  local log = from_last_frame()
  if log then
    turn(log, replid)
  elseif create then
    log = {gen = new_gen(replid), seq = 0, past = ''}
    redis.call('HSET', META, 'g', log.gen, 's', 0, 'r', replid, 'p', '')
  end
  return log
end
