-- ARGV: 1 boot that stops: from now on it counts as dead.
redis.call('ZADD', INDEX, string.format('%.3f', now - LEASE_MS / 1000 - 0.001), ARGV[1])
return 1
