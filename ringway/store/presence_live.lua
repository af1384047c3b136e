-- Reply: the boots that have given a sign of life lately.
return redis.call('ZRANGEBYSCORE', INDEX, string.format('%.3f', now - LEASE_MS / 1000), '+inf')
