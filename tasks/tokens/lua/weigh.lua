-- ARGV: now, calls that the upstream answered, calls that it failed, the last reason
-- Opens the circuit where, of late, hardly any call was answered. Returns 1 if that is news.
local WINDOW_MS, FAILURES, FAILED_PER_ANSWERED = 10000, 20, 10
local now = tonumber(ARGV[1])
if probe_due_in(now) then return 0 end
local since = tonumber(redis.call('HGET', CIRCUIT, 'since'))
if not since or since + WINDOW_MS <= now or since > now then
  redis.call('DEL', CIRCUIT)
  redis.call('HSET', CIRCUIT, 'since', now)
end
add(CIRCUIT, 'answered', tonumber(ARGV[2]))
add(CIRCUIT, 'failed', tonumber(ARGV[3]))
local answered = tonumber(redis.call('HGET', CIRCUIT, 'answered'))
local failed = tonumber(redis.call('HGET', CIRCUIT, 'failed'))
if failed < FAILURES or failed < FAILED_PER_ANSWERED * answered then return 0 end
return open_circuit('upstream', ARGV[4], now, 0)
