-- ARGV: now, blame, reason, least ms until the next probe, '1' from a prober
-- Returns 1 if that is news. What calls from before it was opened have met is not.
local now, blame = tonumber(ARGV[1]), ARGV[2]
local before = probe_due_in(now) and redis.call('HGET', CIRCUIT, 'blame')
if before and ARGV[5] ~= '1' and (before == blame or before ~= 'upstream') then return 0 end
return open_circuit(blame, ARGV[3], now, tonumber(ARGV[4]))
