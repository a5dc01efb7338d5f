// A herd before a cold cache: 200 clients ask at once for one file of 100 MB that is not here. It is fetched once, everybody gets it whole, and the
// registry's memory does not notice. SMARTREGISTRY_DRILL_CLIENTS and SMARTREGISTRY_DRILL_MB set the numbers.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { describe, it } from 'node:test';
import { startRegistry } from '../support/registry.mjs';

const MIB = 1 << 20;
const clients = Number(process.env.SMARTREGISTRY_DRILL_CLIENTS ?? 200);
const size = Number(process.env.SMARTREGISTRY_DRILL_MB ?? 100) * 1_000_000;

/** Over idle, in MiB. */
const ALLOWED = 64;

const small = Buffer.from('a small file, so that everything is warm that has nothing to do with size');

/** What is fetched: where it is upstream and here. */
const files = {
  npm: { there: '/big/-/big-1.0.0.tgz', here: '/npm/big/-/big-1.0.0.tgz' },
  oci: { there: (digest) => `/v2/big/image/blobs/${digest}`, here: (digest) => `/v2/big/image/blobs/${digest}` },
};

describe('a herd before a cold cache', { concurrency: 1 }, () => {
  for (const protocol of Object.keys(files)) {
    it(`${clients} clients and ${size / 1_000_000} MB, ${protocol}`, { timeout: 900_000 }, async (t) => {
      const big = randomBytes(size);
      const origin = await serve(protocol, { big, small });
      const upstreams = { [protocol]: { upstreams: [{ id: 'origin', url: origin.url, priority: 1, enabled: true }] } };
      const registry = await startRegistry('listener', 'local', { upstreams });
      try {
        await get(registry.url, origin.here('small'), small);
        const idle = await status(registry.pid, 'VmRSS');
        await writeFile(`/proc/${registry.pid}/clear_refs`, '5');
        const started = performance.now();
        await Promise.all(Array.from({ length: clients }, () => get(registry.url, origin.here('big'), big)));
        const peak = await status(registry.pid, 'VmHWM');
        t.diagnostic(`${Math.round((performance.now() - started) / 1000)} s, idle ${mib(idle)} MiB, peak +${mib(peak - idle)} MiB`);
        assert.equal(origin.asked('big'), 1, 'one fetch');
        await get(registry.url, origin.here('big'), big);
        assert.equal(origin.asked('big'), 1);
        assert.ok(peak - idle <= ALLOWED * MIB, `took ${mib(peak - idle)} MiB over idle`);
      } finally {
        await registry.stop();
        origin.stop();
      }
    });
  }
});

const mib = (bytes) => Math.round(bytes / MIB);

async function status(pid, field) {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(text)[1]) * 1024;
}

/** An upstream with two files that counts who asks for which. */
async function serve(protocol, contents) {
  const asked = {};
  const routes = new Map();
  const here = {};
  for (const [name, bytes] of Object.entries(contents)) {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const path = (form) => (typeof form === 'function' ? form(digest) : form.replaceAll('big', name));
    routes.set(path(files[protocol].there), { name, bytes });
    here[name] = path(files[protocol].here);
  }
  const server = http.createServer((request, response) => {
    const found = routes.get(request.url);
    if (found) {
      if (request.method === 'GET') asked[found.name] = (asked[found.name] ?? 0) + 1;
      response.writeHead(200, { 'content-length': found.bytes.length });
      return void response.end(request.method === 'GET' ? found.bytes : undefined);
    }
    const name = request.url.slice(1);
    if (protocol !== 'npm' || !contents[name]) return void response.writeHead(404).end('{}');
    const dist = { tarball: `${url}/${name}/-/${name}-1.0.0.tgz`, integrity: `sha512-${createHash('sha512').update(contents[name]).digest('base64')}` };
    response.end(JSON.stringify({ name, 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': { name, version: '1.0.0', dist } }, time: {} }));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, here: (name) => here[name], asked: (name) => asked[name] ?? 0, stop: () => server.close().closeAllConnections() };
}

/** Reads a file and compares it, piece by piece. */
function get(url, path, expected) {
  return new Promise((done, fail) => {
    const sent = http.get(url + path, { agent: false }, (answer) => {
      let at = 0;
      if (answer.statusCode !== 200) return fail(new Error(`${path} was answered ${answer.statusCode}`));
      answer.on('data', (chunk) => {
        if (!chunk.equals(expected.subarray(at, at + chunk.length))) fail(new Error(`${path} has other bytes at ${at}`));
        at += chunk.length;
      });
      answer.on('error', fail);
      answer.on('end', () => (at === expected.length ? done() : fail(new Error(`${path} ended after ${at} bytes`))));
    });
    sent.on('error', fail);
  });
}
