// GETs: one whose bytes are looked at, and many by wrk.
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { run } from '../../__test__/support/process.mjs';
import { client } from '../../scripts/clients.mjs';
import { StepError } from '../../scripts/lib/run.mjs';

/** Every server is asked under one name, so that links in documents, and with them all bytes, are the same. */
export const HOST = 'registry.example.com';

/** Answer headers take this much at most: what is read beyond bodies and this was not asked for. */
const HEAD = 2048;

/** One answer, whole: `{ status, headers, body }`. */
export function get(port, path, headers = {}) {
  return new Promise((done, fail) => {
    http
      .get({ host: '127.0.0.1', port, path, headers: { host: HOST, ...headers }, agent: false }, (res) => {
        const chunks = [];
        res.on('data', (chunk) => chunks.push(chunk));
        res.on('end', () => done({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks) }));
        res.on('error', fail);
      })
      .on('error', fail);
  });
}

/** Asks once and compares byte by byte. */
export async function check(server, path, headers, expected) {
  const { status, body } = await get(server.port, path, headers);
  if (status !== 200) throw new StepError(`${server.name} answered ${path} with ${status}: ${body.toString('utf8', 0, 300)}`);
  if (!body.equals(expected)) throw new StepError(`${server.name} answered ${path} with ${body.length} other bytes than the ${expected.length} expected`);
}

/**
 * Asks for `seconds` on `connections` connections.
 *
 * @returns {Promise<{ requests: number, bytes: number, seconds: number, p50: number, p99: number }>} latencies in milliseconds
 */
export async function load(server, path, headers, { connections, seconds, size, box }) {
  const { argv } = await client('wrk');
  // wrk adds a Host of its own unless it finds one in this spelling.
  const flags = Object.entries({ Host: HOST, ...headers }).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const script = fileURLToPath(new URL('wrk.lua', import.meta.url));
  const command = [...argv, '-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '30s', '-s', script, ...flags, `http://127.0.0.1:${server.port}${path}`];
  const finished = (await run(command, { cwd: box.dir, env: box.env, seconds: seconds + 60 })).ok();
  const summary = JSON.parse(finished.stdout.trim().split('\n').pop());
  const { requests, bytes, errors, micros, p50, p99 } = summary;
  const wrong = Object.entries(errors).filter(([, count]) => count > 0);
  if (wrong.length) throw new StepError(`${server.name} failed under load at ${path}: ${wrong.map(([kind, count]) => `${count} ${kind} errors`).join(', ')}`);
  // What is under way when the time is over has been read in part.
  if (requests === 0 || bytes < requests * size || bytes > (requests + connections) * (size + HEAD)) {
    throw new StepError(`${server.name} sent ${bytes} bytes in ${requests} answers at ${path}, each of which has ${size}`);
  }
  return { requests, bytes, seconds: micros / 1e6, p50: p50 / 1000, p99: p99 / 1000 };
}
