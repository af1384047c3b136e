-- Shared by read.lua and arrive.lua: what is in the log after a position. Constants: META_TTL, GRACE_MS.

local TAIL = 100  -- longer than ,"gen":"...","seq":...,"ts":...} ever gets

local WHOLE, DOUBTFUL, MISSING = 1, 2, 0

local function in_grace(gen)
  local began = tonumber(string.sub(gen, 1, 8), 16) + tonumber(string.sub(gen, 9, 13), 16) / 1e6
  return tonumber(time[1]) + tonumber(time[2]) / 1e6 < began + GRACE_MS / 1000
end

-- Where to read on from a position, and whether anything is missing there. What was given out and then lost by Redis is
-- appended again by whoever had its ok: until all of it is back there is a doubt, and after the grace a gap.
local function resolve(log, replid, gen, seq, own)
  if gen == '' then return 0, WHOLE end
  if gen == log.gen then
    if seq <= log.seq then return seq, WHOLE end
    -- Ahead of the log: Redis lost what the position had. It must not meet seqs that are given out again.
    if not own then return log.seq, MISSING end
    turn(log, replid)
  end
  if gen > log.gen then return 0, MISSING end
  if own then note_loss(log, gen, seq, 0) end
  local verdict, successor = WHOLE, log.gen
  for entry in string.gmatch(log.past, '%S+') do
    local old, last, known, back = parse_past(entry)
    -- Nobody has spoken of this incarnation yet. If Redis lost it a moment ago, somebody is about to.
    if old < gen then
      if in_grace(successor) then return math.min(seq, last), DOUBTFUL end
      return 0, MISSING
    end
    if old == gen then known = math.max(known, seq) end
    if back < known - last and verdict ~= MISSING then
      verdict = in_grace(successor) and DOUBTFUL or MISSING
    end
    if old == gen then return math.min(seq, last), verdict end
    successor = old
  end
  return 0, MISSING
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
-- oldest seq kept, 1 recovered | 2 in doubt | 0 not, seq after which the frames begin, seq, frame, ...} and the frames' bytes.
local function read_on(replid, gen, seq, limit, bytes, create, own)
  local log = open_log(replid, create)
  if not log then return {replid, '', 0, 1, (gen == '') and 1 or 0, 0}, 0 end
  redis.call('EXPIRE', META, META_TTL)
  local start, verdict = resolve(log, replid, gen, seq, own)
  local oldest = oldest_kept(log.seq)
  if start < oldest - 1 then start, verdict = oldest - 1, MISSING end
  local reply = {replid, log.gen, log.seq, oldest, verdict, start}
  return reply, add_frames(reply, log, start, limit, bytes)
end
