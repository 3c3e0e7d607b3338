-- ARGV: lane, now, rate, burst, want   Returns {granted, first µs, spacing µs, wait µs}.
local now, rate, burst = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
return { reserve(ARGV[1], now, rate, burst, tonumber(ARGV[5])) }
