-- KEYS[1] as in ring.lua    ARGV: 1 document that must not stand there. Reply: 1 it stood there and is gone, 0 not.
if redis.call('HGET', KEYS[1], 'doc') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
