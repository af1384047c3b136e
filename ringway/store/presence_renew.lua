-- ARGV: 1 boot. Reply: how many users it has here; -1: it was declared dead meanwhile, and its users offline.
redis.call('ZREMRANGEBYSCORE', INDEX, '-inf', now - KEEP_MS / 1000)
keep(ARGV[1])
if redis.call('DEL', set_of(ARGV[1]) .. ':over') == 1 then return -1 end
return redis.call('SCARD', set_of(ARGV[1]))
