-- A prober was answered: all may call again. Returns whose fault it was, or ''.
local blame = redis.call('HGET', CIRCUIT, 'blame')
redis.call('DEL', CIRCUIT)
if not PROBE_AFTER_MS[blame] then return '' end
tell_of_circuit(blame, 'upstream.recovered', 'partner.resumed')
return blame
