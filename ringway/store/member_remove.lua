-- KEYS: 1 the user's groups    2 the user's cursors    ARGV: 1 group    2 its channel
-- The cursor goes too: who is added again has nothing to do with what was said meanwhile. Reply: 1 removed, 0 was not there.
local gone = redis.call('SREM', KEYS[1], ARGV[1])
if gone == 1 then redis.call('HDEL', KEYS[2], ARGV[2]) end
return gone
