-- Appends messages, each to its channel's log. Constants: CAP, TTL, META_TTL, DEDUP (seconds).
-- KEYS, four a message: meta, log, the two de-duplication hashes.
-- ARGV: 1 replication id that the caller expects, or ''    then seven a message: frame up to gen, digest of (sender, id),
-- channel to notify or '', the channel's name, digest of what must be in the log before it or '', and the gen and seq
-- that it had before Redis lost it, or ''.
-- Reply: {replication id} alone: it is not the one expected. Else {replication id, ts, for each message
-- {0 appended | 1 duplicate, gen, seq, receivers of the notice} or {3: what must be there before it is not}}

local replid = replication_id()
if ARGV[1] ~= '' and ARGV[1] ~= replid then return {replid} end

local seconds = tonumber(time[1])
local ts = string.format('%d%03d', seconds, math.floor(tonumber(time[2]) / 1000))
-- Two buckets in turn instead of a key for each message: a fifth of the memory.
local bucket = math.floor(seconds / DEDUP)
local logs = {}

local function find(digest, current, other)
  local at = redis.call('HGET', current, digest)
  if at then return at, current end
  return redis.call('HGET', other, digest), other
end

local function open(current, other)
  local log = open_log(replid, true)
  if log.bucket and log.bucket < bucket then
    redis.call('UNLINK', current)
    if log.bucket < bucket - 1 then redis.call('UNLINK', other) end
  end
  logs[META] = log
  return log
end

-- Where TTL is long beside a bucket, once a bucket is enough: each call of Redis from here costs.
local function keep(log, current)
  if TTL < 24 * DEDUP then redis.call('EXPIRE', LOG, TTL) end
  if log.bucket ~= bucket then
    log.bucket = bucket
    if TTL >= 24 * DEDUP then redis.call('EXPIRE', LOG, TTL + DEDUP) end
    redis.call('HSET', META, 'b', bucket)
    redis.call('EXPIRE', META, META_TTL)
    redis.call('EXPIRE', current, 2 * DEDUP)
  end
end

local function append(current, other, head, digest, notify, ch, after, lost_gen, lost_seq)
  local log = logs[META] or open(current, other)
  local seen, where = find(digest, current, other)
  if seen then
    local gen, seq, counted = string.match(seen, '(%w+):(%d+)(%+?)')
    local returned = lost_gen ~= '' and counted == '' and not (gen == lost_gen and seq == lost_seq)
    if returned then note_loss(log, lost_gen, tonumber(lost_seq), 1) end
    if returned or where == other then
      -- Counts as back once, whoever brought it. And whoever has this ok may append it again for as long as from the first.
      redis.call('HSET', current, digest, gen .. ':' .. seq .. (returned and '+' or counted))
      keep(log, current)
    end
    return {1, gen, tonumber(seq), 0}
  end
  if after ~= '' and not find(after, current, other) then return {3} end

  local seq = redis.call('HINCRBY', META, 's', 1)
  local frame = head .. ',"gen":"' .. log.gen .. '","seq":' .. seq .. ',"ts":' .. ts .. '}'
  redis.call('XADD', LOG, 'MAXLEN', '~', CAP, seq .. '-0', 'm', frame)
  redis.call('HSET', current, digest, log.gen .. ':' .. seq .. (lost_gen == '' and '' or '+'))
  if lost_gen ~= '' then note_loss(log, lost_gen, tonumber(lost_seq), 1) end
  keep(log, current)
  local receivers = 0
  if notify ~= '' then
    receivers = redis.call('PUBLISH', notify, 'L\t\t' .. log.gen .. '\t' .. seq .. '\t' .. ch .. '\n' .. frame)
  end
  return {0, log.gen, seq, receivers}
end

local reply = {replid, tonumber(ts)}
for i = 0, #KEYS / 4 - 1 do
  META, LOG = KEYS[4 * i + 1], KEYS[4 * i + 2]
  local current, other = KEYS[4 * i + 3 + bucket % 2], KEYS[4 * i + 4 - bucket % 2]
  reply[i + 3] = append(current, other, unpack(ARGV, 7 * i + 2, 7 * i + 8))
end
return reply
