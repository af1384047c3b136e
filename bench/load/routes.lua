-- wrk: a route for each of 10,000 users in turn.
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/route?uid=user-" .. n % 10000)
end
