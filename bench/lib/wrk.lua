-- The summary of wrk as one line of JSON. A function for each answer would slow it down: it counts statuses of 400 and above by itself, and
-- others are told by the number of bytes.
function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests":%d,"bytes":%d,"micros":%d,"p50":%d,"p99":%d,"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
