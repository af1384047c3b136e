-- KEYS[3], KEYS[4]: the two de-duplication hashes. Constants: CAP, TTL, META_TTL, DEDUP (seconds).
-- ARGV: 1 replication id that the caller expects, or ''    2 frame up to gen    3 digest of (sender, id)
-- 4 channel to notify, or ''    5 the channel's name    6 digest of what must be in the log before it, or ''
-- 7 gen and 8 seq that the message had before Redis lost it, or ''
-- Reply: {0 appended | 1 duplicate | 2 refused: not the replication id expected | 3 refused: what must be there before
-- it is not, replication id, gen, seq, ts, receivers of the notice}

local replid = replication_id()
if ARGV[1] ~= '' and ARGV[1] ~= replid then return {2, replid} end
local log = open_log(replid, true)

-- Two buckets in turn instead of a key for each message: a fifth of the memory.
local seconds = tonumber(time[1])
local bucket = math.floor(seconds / DEDUP)
local current, other = KEYS[3 + bucket % 2], KEYS[4 - bucket % 2]
if log.bucket and log.bucket < bucket then
  redis.call('UNLINK', current)
  if log.bucket < bucket - 1 then redis.call('UNLINK', other) end
end
local function find(digest)
  local at = redis.call('HGET', current, digest)
  if at then return at, current end
  return redis.call('HGET', other, digest), other
end

local lost_gen, lost_seq = ARGV[7], tonumber(ARGV[8])
local seen, where = find(ARGV[3])
if seen then
  local gen, seq, counted = string.match(seen, '(%w+):(%d+)(%+?)')
  if lost_gen ~= '' and counted == '' and not (gen == lost_gen and tonumber(seq) == lost_seq) then
    redis.call('HSET', where, ARGV[3], gen .. ':' .. seq .. '+')  -- counts as back once, whoever brought it
    note_loss(log, lost_gen, lost_seq, 1)
  end
  return {1, replid, gen, tonumber(seq), 0, 0}
end
if ARGV[6] ~= '' and not find(ARGV[6]) then return {3, replid} end

local seq = redis.call('HINCRBY', KEYS[1], 's', 1)
local ts = string.format('%d%03d', seconds, math.floor(tonumber(time[2]) / 1000))
local frame = ARGV[2] .. ',"gen":"' .. log.gen .. '","seq":' .. seq .. ',"ts":' .. ts .. '}'
redis.call('XADD', KEYS[2], 'MAXLEN', '~', CAP, seq .. '-0', 'm', frame)
redis.call('HSET', current, ARGV[3], log.gen .. ':' .. seq .. (lost_gen == '' and '' or '+'))
if lost_gen ~= '' then note_loss(log, lost_gen, lost_seq, 1) end
redis.call('EXPIRE', KEYS[2], TTL)
redis.call('EXPIRE', KEYS[1], META_TTL)
if log.bucket ~= bucket then
  redis.call('HSET', KEYS[1], 'b', bucket)
  redis.call('EXPIRE', current, 2 * DEDUP)
end
local receivers = 0
if ARGV[4] ~= '' then
  receivers = redis.call('PUBLISH', ARGV[4], 'L\t\t' .. log.gen .. '\t' .. seq .. '\t' .. ARGV[5] .. '\n' .. frame)
end
return {0, replid, log.gen, seq, tonumber(ts), receivers}
