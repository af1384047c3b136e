-- Shared by presence_*.lua. KEYS[1] sorted set: "node boot" -> unix seconds, by Redis's clock, of its last sign of life.
-- Beside it, in the same slot: for each of those a set of uids, and ':over' for one that others declared dead.
-- Constants: LEASE_MS, RETURN_MS, KEEP_MS.

local INDEX = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local function set_of(boot)
  local name = string.gsub(boot, ' ', ':')
  return INDEX .. ':' .. name
end

local function keep(boot)
  redis.call('ZADD', INDEX, string.format('%.3f', now), boot)
  redis.call('PEXPIRE', set_of(boot), KEEP_MS)
end

-- Those of the users whom no boot has, besides one. A dead boot has its users until they are declared offline.
local function nowhere(uids, besides)
  for _, boot in ipairs(redis.call('ZRANGE', INDEX, 0, -1)) do
    if #uids == 0 then break end
    if boot ~= besides then
      local here, left = redis.call('SMISMEMBER', set_of(boot), unpack(uids)), {}
      for i, uid in ipairs(uids) do
        if here[i] == 0 then left[#left + 1] = uid end
      end
      uids = left
    end
  end
  return uids
end
