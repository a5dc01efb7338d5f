// Listens where the environment says, and ends in good order.
import { registry } from './registry.mjs';

const { PORT = '5000', HOST = '127.0.0.1' } = process.env;

/** @param {import('node:http').Server} server */
export function start(server) {
  server.listen(Number(PORT), HOST, () => console.log(`listening on http://${HOST}:${server.address().port}`));
  // What runs is finished; then nothing holds the process any more.
  process.once('SIGTERM', () => {
    server.close(() => registry.destroy());
    server.closeIdleConnections();
  });
}
