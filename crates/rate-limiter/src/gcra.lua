-- The rule of rules.rs, in one atomic step, on the clock of Redis.
-- KEYS[1]  the key's theoretical arrival time (TAT), microseconds since the epoch; absent once it lies in the past
-- ARGV     emission interval in microseconds, burst in units, cost in units
-- answer   {1, units that may follow at once} or {0, microseconds until it would be allowed}
-- Microseconds since the epoch stay below 2^53, where Lua's numbers are exact.
local interval = tonumber(ARGV[1])
local window = interval * tonumber(ARGV[2])
local cost = interval * tonumber(ARGV[3])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local end_of_window = now + window

local tat = tonumber(redis.call('GET', KEYS[1]) or '') or 0
local moved = math.min(math.max(tat, now), end_of_window) + cost
if moved > end_of_window then
  return {0, moved - end_of_window}
end
redis.call('SET', KEYS[1], string.format('%.0f', moved), 'PX', string.format('%.0f', math.ceil((moved - now) / 1000) + 1))
return {1, math.floor((end_of_window - moved) / interval)}
