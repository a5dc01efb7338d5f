// Bodies of any size in constant memory through handleRequest, whatever kind of stream they come as.
// SMARTREGISTRY_TEST_MIB sets the size: 256 by default, 1024 in the long form.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'node:test';

const root = fileURLToPath(new URL('../..', import.meta.url));
const size = Number(process.env.SMARTREGISTRY_TEST_MIB ?? 256);

/** Over idle: what the registry may take, and as much for Node. */
const ALLOWED_MIB = 128;

/** Each makes the stream of an upload out of `count` chunks of `chunk` bytes. */
const sources = {
  'a Readable': "Readable.from(chunks(), { objectMode: false })",
  'a Web stream': 'new ReadableStream({ async pull(c) { const { done, value } = await it.next(); done ? c.close() : c.enqueue(value); } })',
  'an async iterable': 'chunks()',
};

const program = (source, chunk) => `
  import { createHash } from 'node:crypto';
  import { Readable } from 'node:stream';
  import { SmartRegistry } from 'smartregistry-native';
  const registry = new SmartRegistry({ storage: { type: 'local', path: process.argv[1], durability: 'relaxed' }, auth: { jwtSecret: 'a secret that is long enough' }, oci: { enabled: true } });
  await registry.init();
  const auth = registry.getAuthManager();
  const token = await auth.createOciToken(await auth.authenticate({ username: 'a', password: 'b' }), ['oci:repository:*:*'], 3600);
  const headers = { authorization: 'Bearer ' + token };
  const one = Buffer.alloc(${chunk}, 7);
  async function* make(count) { for (let n = 0; n < count; n++) yield new Uint8Array(one); }
  const digestOf = (count) => { const hash = createHash('sha256'); for (let n = 0; n < count; n++) hash.update(one); return 'sha256:' + hash.digest('hex'); };
  async function round(count) {
    const chunks = () => make(count);
    const it = chunks();
    const digest = digestOf(count);
    const put = await registry.handleRequest({ method: 'POST', path: '/oci/a/blobs/uploads/', headers, query: { digest }, body: ${source} });
    if (put.status !== 201) throw new Error('push: ' + put.status);
    const get = await registry.handleRequest({ method: 'GET', path: '/oci/a/blobs/' + digest, headers });
    let bytes = 0;
    for await (const piece of get.body) bytes += piece.length;
    if (bytes !== count * ${chunk}) throw new Error('got ' + bytes);
  }
  await round(Math.ceil((16 << 20) / ${chunk}));
  const idle = process.memoryUsage().rss;
  let peak = idle;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 10);
  await round(Math.ceil((${size} << 20) / ${chunk}));
  clearInterval(watch);
  console.log(JSON.stringify({ idle: idle >> 20, peak: peak >> 20 }));
`;

describe(`${size} MiB up and down`, () => {
  for (const [name, source] of Object.entries(sources)) {
    for (const chunk of [64 << 10, 1 << 20]) {
      it(`as ${name} of ${chunk >> 10} KiB chunks`, { timeout: 600_000 }, async (t) => {
        const folder = await mkdtemp(join(tmpdir(), 'smartregistry-memory-'));
        t.after(() => rm(folder, { recursive: true, force: true }));
        const child = spawn(process.execPath, ['--input-type=module', '--eval', program(source, chunk), folder], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
        let [output, errors] = ['', ''];
        child.stdout.on('data', (text) => (output += text));
        child.stderr.on('data', (text) => (errors += text));
        assert.equal(await new Promise((done) => child.on('close', done)), 0, errors);
        const { idle, peak } = JSON.parse(output);
        t.diagnostic(`idle ${idle} MiB, peak +${peak - idle} MiB`);
        assert.ok(peak - idle <= ALLOWED_MIB, `took ${peak - idle} MiB over idle`);
      });
    }
  }
});
