-- ARGV: 1 boot    2 '1': say who is gone    3... users who have no session there any more.
-- Reply: those of them whom it had, and nobody has now.
local own, had = set_of(ARGV[1]), {}
for _, uid in ipairs({unpack(ARGV, 3)}) do
  if redis.call('SREM', own, uid) == 1 then had[#had + 1] = uid end
end
keep(ARGV[1])
return ARGV[2] == '1' and nowhere(had, ARGV[1]) or {}
