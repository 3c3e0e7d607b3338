-- ARGV: name, by how much, …   Adds what a worker process has counted.
for i = 1, #ARGV, 2 do add(METRICS, ARGV[i], tonumber(ARGV[i + 1])) end
