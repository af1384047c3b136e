-- KEYS[1] the user's cursors    ARGV: 1 channel    2 gen    3 seq    Constant: TTL
-- Cursors only go forward: later seq of the same incarnation, or any seq of a later one. Reply: 1 moved, 0 not.
local gen, seq = ARGV[2], tonumber(ARGV[3])
local old = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], TTL)
if old then
  local old_gen, old_seq = string.match(old, '^(.*):(%d+)$')
  if gen < old_gen or (gen == old_gen and seq <= tonumber(old_seq)) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], gen .. ':' .. ARGV[3])
redis.call('EXPIRE', KEYS[1], TTL)
return 1
