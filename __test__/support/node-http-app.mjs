// A registry under node:http by nodeHandler(), in a process that tells how long its event loop was kept waiting.
// Argument: a file with the IRegistryConfig. `GET /loop` answers with milliseconds since it was last asked: `{ p50, p99, max }`.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { SmartRegistry } from 'smartregistry-native';

const registry = new SmartRegistry(JSON.parse(readFileSync(process.argv[2], 'utf8')));
await registry.init();
const handler = registry.nodeHandler();
// Each sample is what lies between two turns that are a millisecond apart.
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();

const server = http.createServer((req, res) => {
  if (req.url !== '/loop') return handler(req, res);
  const [p50, p99, max] = [delay.percentile(50), delay.percentile(99), delay.max].map((nanoseconds) => nanoseconds / 1e6);
  delay.reset();
  res.setHeader('content-type', 'application/json').end(JSON.stringify({ p50, p99, max }));
});
server.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
process.on('SIGTERM', () => {
  delay.disable();
  server.close(() => registry.destroy());
  server.closeAllConnections();
});
