// npm publishes on kept connections. The client writes requests made beforehand straight to sockets: it shares the cores with the server.
import { connect } from 'node:net';
import { publishDocument, tarball } from '../../__test__/support/wire.mjs';
import { StepError } from '../../scripts/lib/run.mjs';
import { HOST } from './get.mjs';

/** The requests of one sample, each a package of its own. */
export async function requests(count, prefix, size, token) {
  const list = [];
  for (let i = 0; i < count; i += 1) {
    const name = `${prefix}-${i}`;
    const body = Buffer.from(JSON.stringify(publishDocument(name, '1.0.0', await tarball(name, '1.0.0', size))));
    const head = [`PUT /npm/${name} HTTP/1.1`, `Host: ${HOST}`, `Authorization: Bearer ${token}`, 'Content-Type: application/json', `Content-Length: ${body.length}`, '', ''];
    list.push(Buffer.concat([Buffer.from(head.join('\r\n')), body]));
  }
  return list;
}

/**
 * Sends the requests, each connection one after another, until all are sent or the time is over.
 *
 * @returns {Promise<{ seconds: number, latencies: number[] }>} latencies in milliseconds
 */
export async function send(server, list, { connections, seconds }) {
  const latencies = [];
  const start = performance.now();
  let next = 0;
  const more = () => (next < list.length && performance.now() - start < seconds * 1000 ? list[next++] : undefined);
  await Promise.all(Array.from({ length: connections }, () => connection(server, more, latencies)));
  return { seconds: (performance.now() - start) / 1000, latencies };
}

function connection(server, more, latencies) {
  return new Promise((done, fail) => {
    const socket = connect(server.port, '127.0.0.1').setNoDelay(true);
    let [received, sent] = [Buffer.alloc(0), 0];
    const write = () => {
      const request = more();
      if (!request) {
        socket.destroy();
        return done();
      }
      sent = performance.now();
      socket.write(request);
    };
    socket.on('connect', write).on('data', (chunk) => {
      received = received.length ? Buffer.concat([received, chunk]) : chunk;
      const end = received.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = received.toString('latin1', 0, end);
      const length = Number(head.match(/^content-length: *(\d+)$/im)?.[1] ?? NaN);
      if (received.length < end + 4 + length) return;
      if (!head.startsWith('HTTP/1.1 201 ') || received.length !== end + 4 + length) {
        socket.destroy();
        return fail(new StepError(`${server.name} answered a publish with: ${received.toString('utf8', 0, 600)}`));
      }
      latencies.push(performance.now() - sent);
      received = Buffer.alloc(0);
      write();
    });
    socket.on('error', fail).on('end', () => fail(new StepError(`${server.name} ended the connection of a publish`)));
  });
}
