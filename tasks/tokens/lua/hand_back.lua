-- ARGV: account, generation, …   Gives claims back untouched, each to its former place.
for i = 1, #ARGV, 2 do
  local score = claimed_score(ARGV[i], ARGV[i + 1])
  if score then
    redis.call('HDEL', CLAIMS, ARGV[i])
    redis.call('ZADD', DUE, 'XX', score, ARGV[i])
  end
end
return #ARGV / 2
