// Answers by the ten thousand, read to the end, cancelled, or never touched: what they took is given back.
// SMARTREGISTRY_TEST_ANSWERS sets their number (default 100000).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const answers = Number(process.env.SMARTREGISTRY_TEST_ANSWERS ?? 100_000);

/** What the second half of the answers may leave behind, in MiB: of what Node counts, and of what the process has, which an allocator gives back late. */
const ALLOWED = { counted: 8, resident: 160 };

/** A blob in one piece beside one that comes in several, and the ways in which an application leaves a body. */
const program = `
  import { createHash } from 'node:crypto';
  import { SmartRegistry } from 'smartregistry-native';
  const registry = new SmartRegistry({ storage: { type: 'local', path: process.argv[1] }, auth: { jwtSecret: 'a secret that is long enough' }, oci: { enabled: true } });
  await registry.init();
  const auth = registry.getAuthManager();
  const headers = { authorization: 'Bearer ' + (await auth.createOciToken(await auth.authenticate({ username: 'a', password: 'b' }), ['oci:repository:*:*'], 36000)) };
  const blobs = [];
  for (const size of [20_000, 600_000]) {
    const body = Buffer.alloc(size, size);
    const digest = 'sha256:' + createHash('sha256').update(body).digest('hex');
    const { status } = await registry.handleRequest({ method: 'POST', path: '/oci/a/blobs/uploads/', headers, query: { digest }, body });
    if (status !== 201) throw new Error('push: ' + status);
    blobs.push({ digest, size });
  }
  async function answer(n) {
    // One in ten comes in several pieces; one in ten of all is given up after the first, large and small ones in turn.
    const { digest, size } = blobs[n % 10 === 3 ? 1 : 0];
    const { status, body } = await registry.handleRequest({ method: 'GET', path: '/oci/a/blobs/' + digest, headers });
    if (status !== 200) throw new Error('get: ' + status);
    const reader = body.getReader();
    const aborted = n % 10 === (n % 20 < 10 ? 3 : 7);
    let bytes = 0;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      bytes += piece.value.length;
      if (aborted) return reader.cancel();
    }
    if (bytes !== size) throw new Error('got ' + bytes + ' of ' + size);
  }
  async function some(count) {
    let next = 0;
    const one = async () => { while (next < count) await answer(next++); };
    await Promise.all(Array.from({ length: 16 }, one));
  }
  async function taken() {
    for (let n = 0; n < 3; n++) { globalThis.gc(); await new Promise((done) => setTimeout(done, 100)); }
    const { rss, heapUsed, external } = process.memoryUsage();
    const open = Number(/^smartregistry_open_bodies (\\d+)$/m.exec(registry.metrics())[1]);
    return { resident: rss / 1048576, counted: (heapUsed + external) / 1048576, open };
  }
  await some(${Math.ceil(answers / 10)});
  const warm = await taken();
  await some(${Math.ceil(answers * 0.45)});
  const half = await taken();
  await some(${Math.ceil(answers * 0.45)});
  const end = await taken();
  await registry.destroy();
  console.log(JSON.stringify({ warm, half, end }));
`;

describe(`${answers} streamed answers, a tenth of them given up`, () => {
  it('leave memory flat', { timeout: 600_000 }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'smartregistry-flat-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '--eval', program, folder], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let [output, errors] = ['', ''];
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (errors += text));
    assert.equal(await new Promise((done) => child.on('close', done)), 0, errors);
    const { warm, half, end } = JSON.parse(output);
    t.diagnostic(`resident: warm ${warm.resident.toFixed()} MiB, after half ${half.resident.toFixed()}, at the end ${end.resident.toFixed()}`);
    assert.equal(end.open, 0, 'bodies are still open');
    for (const [kind, allowed] of Object.entries(ALLOWED)) {
      const grown = end[kind] - half[kind];
      assert.ok(grown <= allowed, `${kind} memory grew by ${grown.toFixed()} MiB in the second half`);
    }
  });
});
