-- KEYS[1] the user's away record    ARGV[1] node. Deletes the record if it names that node. Reply: 1 deleted, 0 not.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
