-- ARGV: now, 'imported' or 'discovered', then account, name, …
-- New accounts are due at once, as if asked for. Returns how many were new.
local now, source = ARGV[1], ARGV[2]
local added = 0
for i = 3, #ARGV, 2 do
  local account, name = ARGV[i], ARGV[i + 1]
  if source == 'imported' then redis.call('SREM', FORGOTTEN, account) end
  if redis.call('SISMEMBER', FORGOTTEN, account) == 0 then
    if redis.call('ZADD', DUE, 'NX', '-' .. now, account) == 1 then
      added = added + 1
      redis.call('ZADD', EXPIRY, '-' .. now, account)
    end
    redis.call('HDEL', ABSENT, account)
    if source == 'imported' then redis.call('HSET', STATE .. account, 'imported', '1') end
    if name ~= '' then redis.call('HSET', STATE .. account, 'name', name) end
  end
end
return added
