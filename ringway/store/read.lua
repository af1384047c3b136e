-- ARGV: 1 gen and 2 seq of the position ('' and 0: everything kept)    3 most frames    4 bytes after which to stop
-- 5 '1': make the log where there is none, so that a position in it can be given
-- 6 '1': the position is a node's own. A client's may be invented; it must not raise an alarm for everybody else.
-- Reply: as read_on.

local reply = read_on(replication_id(), ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]),
  ARGV[5] == '1', ARGV[6] == '1')
return reply
