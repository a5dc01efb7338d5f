// Ports for servers that take theirs by number.
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Ports that nobody listens on, below those that the kernel gives to connections and to servers that ask for any. */
export async function freePorts(count) {
  const held = [];
  while (held.length < count) {
    const server = createServer();
    const listens = new Promise((done) => server.once('listening', () => done(true)).once('error', () => done(false)));
    server.listen(randomInt(10_000, 32_000), '127.0.0.1');
    if (await listens) held.push(server);
  }
  const ports = held.map((server) => server.address().port);
  await Promise.all(held.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
