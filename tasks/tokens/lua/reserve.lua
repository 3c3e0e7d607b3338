-- ARGV: rate, burst, want   Returns {granted, first µs, spacing µs, wait µs}.
return { reserve(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])) }
