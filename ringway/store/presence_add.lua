-- ARGV: 1 boot    2 '1': say who is new    3... users who have a session there now. Reply: those whom nobody had.
local uids = {unpack(ARGV, 3)}
local new = ARGV[2] == '1' and nowhere(uids, nil) or {}
redis.call('SADD', set_of(ARGV[1]), unpack(uids))
keep(ARGV[1])
return new
