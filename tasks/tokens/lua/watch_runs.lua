-- ARGV: now
return ripe_runs(tonumber(ARGV[1]))
