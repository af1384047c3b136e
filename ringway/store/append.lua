-- KEYS[3], KEYS[4]: the two de-duplication hashes. ARGV:
-- 1 run id that the caller knows, or ''    2 frame up to gen    3 digest of (sender, id)    4 channel to notify, or ''
-- 5 the channel's name    6 cap    7 TTL of the log    8 TTL of meta    9 seconds of de-duplication
-- Reply: {0 appended | 1 duplicate | 2 refused: this is another Redis process than the caller knows, run, gen, seq, ts,
-- receivers of the notice}

local run = run_id()
if ARGV[1] ~= '' and ARGV[1] ~= run then return {2, run} end
local log = open_log(run, true)

-- Two buckets in turn instead of a key for each message: a fifth of the memory.
local seconds = tonumber(time[1])
local bucket = math.floor(seconds / ARGV[9])
local current, other = KEYS[3 + bucket % 2], KEYS[4 - bucket % 2]
if log.bucket and log.bucket < bucket then
  redis.call('UNLINK', current)
  if log.bucket < bucket - 1 then redis.call('UNLINK', other) end
end
local seen = redis.call('HGET', current, ARGV[3]) or redis.call('HGET', other, ARGV[3])
if seen then
  local gen, seq = string.match(seen, '(%w+):(%d+)')
  return {1, run, gen, tonumber(seq), 0, 0}
end

local seq = redis.call('HINCRBY', KEYS[1], 's', 1)
local ts = string.format('%d%03d', seconds, math.floor(tonumber(time[2]) / 1000))
local frame = ARGV[2] .. ',"gen":"' .. log.gen .. '","seq":' .. seq .. ',"ts":' .. ts .. '}'
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], seq .. '-0', 'm', frame)
redis.call('HSET', current, ARGV[3], log.gen .. ':' .. seq)
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('EXPIRE', KEYS[1], ARGV[8])
if log.bucket ~= bucket then
  redis.call('HSET', KEYS[1], 'b', bucket)
  redis.call('EXPIRE', current, 2 * ARGV[9])
end
local receivers = 0
if ARGV[4] ~= '' then
  receivers = redis.call('PUBLISH', ARGV[4], 'L\t\t' .. log.gen .. '\t' .. seq .. '\t' .. ARGV[5] .. '\n' .. frame)
end
return {0, run, log.gen, seq, tonumber(ts), receivers}
