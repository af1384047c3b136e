-- Shared by read.lua and arrive.lua: what is in the log after a position. Constant: META_TTL.

local TAIL = 100  -- longer than ,"gen":"...","seq":...,"ts":...} ever gets

-- Where to read on from a position, and whether nothing before it is missing.
local function resolve(log, replid, gen, seq, own)
  if gen == '' then return 0, true end
  if gen == log.gen then
    if seq <= log.seq then return seq, true end
    -- Ahead of the log: Redis lost what the position had. It must not meet seqs that are given out again.
    local stands = log.seq
    if own then turn(log, replid, true) end
    return stands, false
  end
  local torn = false
  for old, last, mark in each_past(log.past) do
    last = tonumber(last)
    if old == gen and seq > last then
      if mark == '' and own then
        log.past = string.gsub(log.past, old .. ':' .. last, '%0!')
        redis.call('HSET', META, 'p', log.past)
      end
      return last, false
    end
    torn = torn or mark == '!'
    if old == gen then return seq, not torn end
  end
  return 0, false
end

-- Frames of earlier incarnations are handed out under the gen that carries them on, so that positions only go up:
-- a client that is at (new gen, 7) gets (new gen, 8), whenever 8 was written.
local function under(gen, frame)
  local body, tail = string.sub(frame, 1, -TAIL - 1), string.sub(frame, -TAIL)
  return body .. string.gsub(tail, ',"gen":"%w+",("seq":%d+,"ts":%d+})$', ',"gen":"' .. gen .. '",%1')
end

-- Returns the bytes that were added.
local function add_frames(reply, log, start, limit, bytes)
  local size, left, carried = 0, limit, tonumber(string.match(log.past, ':(%d+)')) or 0
  while left > 0 do
    local entries = redis.call('XRANGE', LOG, string.format('%.0f', start + 1), '+', 'COUNT', math.min(left, 64))
    if #entries == 0 then return size end
    for _, entry in ipairs(entries) do
      start = tonumber(string.match(entry[1], '^%d+'))
      local frame = start <= carried and under(log.gen, entry[2][2]) or entry[2][2]
      size = size + #frame
      reply[#reply + 1], reply[#reply + 2] = start, frame
      if size >= bytes then return size end
    end
    left = left - #entries
  end
  return size
end

-- The log of META and LOG after (gen, seq); gen '' means everything kept. Two results: {replication id, gen, head seq,
-- oldest seq kept, 1 recovered | 0 not, seq after which the frames begin, seq, frame, ...} and the frames' bytes.
local function read_on(replid, gen, seq, limit, bytes, create, own)
  local log = open_log(replid, create)
  if not log then return {replid, '', 0, 1, (gen == '') and 1 or 0, 0}, 0 end
  redis.call('EXPIRE', META, META_TTL)
  local start, recovered = resolve(log, replid, gen, seq, own)
  local oldest = oldest_kept(log.seq)
  if start < oldest - 1 then start, recovered = oldest - 1, false end
  local reply = {replid, log.gen, log.seq, oldest, recovered and 1 or 0, start}
  return reply, add_frames(reply, log, start, limit, bytes)
end
