-- For wrk: POST $BENCH_BODY as JSON, and print what was counted as one line of JSON.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\nCOUNTED {"requests": %d, "duration_us": %d, "refused": %d, "broken": %d, "p50_us": %.1f, "p99_us": %.1f}\n',
      summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
