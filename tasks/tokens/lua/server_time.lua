-- The server's clock in µs: the limiter counts in it. (A cluster's pipelines take no TIME.)
return string.format('%.0f', server_us())
