-- ARGV: lane, now, rate, burst, want, holder   Returns {granted, first µs, spacing µs, wait µs};
-- while the circuit is open, to all but its prober, {-1, blame, reason}.
local now, rate, burst = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local circuit = redis.call('HMGET', CIRCUIT, 'blame', 'reason', 'prober')
if probe_due_in(now) and circuit[3] ~= ARGV[6] then return { -1, circuit[1], circuit[2] } end
return { reserve(ARGV[1], now, rate, burst, tonumber(ARGV[5])) }
