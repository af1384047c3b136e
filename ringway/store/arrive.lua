-- All that a node wants of Redis when users connect, for several of them in one call: what each one's inbox holds after
-- a position or after the read cursor, and which groups the user belongs to. The cursors live on. Constant: CURSOR_TTL.
-- KEYS, four a user: meta and log of the inbox, read cursors, groups.
-- ARGV: 1 most frames a user    2 bytes after which to stop    then three a user: inbox, gen and seq of the position;
-- gen '*': the read cursor. Reply, for each user: {reply of read_on, groups}

local UNREAD = '*'

local function cursor(key, ch)
  local at = redis.call('HGET', key, ch)
  if not at then return '', 0 end
  local gen, seq = string.match(at, '^(.*):(%d+)$')
  return gen, tonumber(seq)
end

local replid = replication_id()
local limit, left, replies = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 0, #KEYS / 4 - 1 do
  META, LOG = KEYS[4 * i + 1], KEYS[4 * i + 2]
  local ch, gen, seq = ARGV[3 * i + 3], ARGV[3 * i + 4], tonumber(ARGV[3 * i + 5])
  redis.call('EXPIRE', KEYS[4 * i + 3], CURSOR_TTL)
  if gen == UNREAD then gen, seq = cursor(KEYS[4 * i + 3], ch) end
  local reply, size = read_on(replid, gen, seq, limit, left, true, false)
  -- Written into a Redis that was wiped and whose clock is behind: no ack would ever be later than it.
  if ARGV[3 * i + 4] == UNREAD and gen > reply[2] then redis.call('HDEL', KEYS[4 * i + 3], ch) end
  left = math.max(left - size, 1)  -- those who come later in a full answer read on
  replies[i + 1] = {reply, redis.call('SMEMBERS', KEYS[4 * i + 4])}
end
return replies
