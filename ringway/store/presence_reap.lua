-- Takes users from a boot that is dead for good, each of them once, whoever calls.
-- ARGV: 1 the caller's boot    2 how many users at most.
-- Reply: {0 no boot is dead | 1 one was, ask again, users whom nobody has now ...}
local dead = redis.call('ZRANGEBYSCORE', INDEX, '-inf', string.format('%.3f', now - (LEASE_MS + RETURN_MS) / 1000),
  'LIMIT', 0, 2)
local boot = dead[1] == ARGV[1] and dead[2] or dead[1]
if not boot or boot == ARGV[1] then return {0} end
local users = set_of(boot)
redis.call('SET', users .. ':over', '1', 'PX', KEEP_MS)
local gone = nowhere(redis.call('SPOP', users, ARGV[2]), boot)
if redis.call('EXISTS', users) == 0 then redis.call('ZREM', INDEX, boot) end
table.insert(gone, 1, 1)
return gone
