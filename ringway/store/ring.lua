-- KEYS[1] hash: gen, epoch, doc    ARGV: 1 gen    2 epoch    3 document    4 pub/sub channel
-- The mirror never goes back: only a later (gen, epoch) is stored and told. Reply: 1 stored, 0 not.
local old = redis.call('HMGET', KEYS[1], 'gen', 'epoch')
local gen, epoch = tonumber(ARGV[1]), tonumber(ARGV[2])
if old[1] then
  local old_gen, old_epoch = tonumber(old[1]), tonumber(old[2])
  if gen < old_gen or (gen == old_gen and epoch <= old_epoch) then return 0 end
end
redis.call('HSET', KEYS[1], 'gen', ARGV[1], 'epoch', ARGV[2], 'doc', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 1
