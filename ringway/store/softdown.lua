-- KEYS[1] sorted set: node -> unix seconds, by Redis's clock, until which it is marked
-- ARGV: 1 'mark' | 'unmark' | 'list'    2 node    3 seconds. Reply: the nodes marked now.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[1] == 'mark' then
  redis.call('ZADD', KEYS[1], 'GT', now + ARGV[3], ARGV[2])
elseif ARGV[1] == 'unmark' then
  redis.call('ZREM', KEYS[1], ARGV[2])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
