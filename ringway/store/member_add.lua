-- KEYS: 1 the user's groups    2 the user's cursors    ARGV: 1 group    2 its channel    3 its log's head ('': no log)
-- Constant: TTL. Who is new begins with what comes from now on. Reply: 1 new, 0 was there.
local new = redis.call('SADD', KEYS[1], ARGV[1])
if new == 1 and ARGV[3] ~= '' then
  redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
  redis.call('EXPIRE', KEYS[2], TTL)
end
return new
