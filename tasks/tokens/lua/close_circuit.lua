-- A prober was answered: all may call again. Returns whose fault it was, or ''.
local blame = redis.call('HGET', CIRCUIT, 'blame')
redis.call('DEL', CIRCUIT)
if not PROBE_AFTER_MS[blame] then return '' end
emit(blame == 'upstream' and 'upstream.recovered' or 'partner.resumed')
return blame
