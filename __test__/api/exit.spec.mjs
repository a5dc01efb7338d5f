// A process with a registry in it ends by itself, whatever is going on, with the code that it asked for.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { startS3 } from '../support/s3.mjs';

/** The programs lie elsewhere: a runtime that takes a module as an argument is not each. */
const entry = new URL('../../index.mjs', import.meta.url);

const prelude = `
  import { SmartRegistry, streamToBuffer } from '${entry}';
  const open = async (more = {}) => {
    const registry = new SmartRegistry({
      storage: { type: 'memory' },
      auth: { jwtSecret: 'a secret that is long enough to sign' },
      npm: { enabled: true },
      ...more,
    });
    await registry.init();
    return registry;
  };
  const provider = { authenticate: (c) => c.username, validateToken: async () => ({ userId: 'u', scopes: ['*:*:*:*'] }), createToken: () => 'x', revokeToken() {}, authorize: () => true };
`;

let dir;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'smartregistry-exit-'));
});
after(() => rm(dir, { recursive: true, force: true }));

/** Runs a program to its end; the test fails when it does not end by itself. */
async function run(program, ms = 20_000) {
  const file = join(dir, 'program.mjs');
  await writeFile(file, prelude + program);
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [file], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (output += text));
    const late = setTimeout(() => child.kill('SIGKILL'), ms);
    child.on('error', fail);
    child.on('close', (code, signal) => {
      clearTimeout(late);
      done({ code, signal, output });
    });
  });
}

const ends = {
  'an idle registry': ['await open();', 0],
  'a registry with a provider and hooks': ['await open({ authProvider: provider, storageHooks: { beforePut: () => ({ allowed: true }) } });', 0],
  'a destroyed registry': ['const r = await open(); await r.destroy();', 0],
  'a request that nobody waits for': ["const r = await open(); r.handleRequest({ method: 'GET', path: '/npm/-/ping' });", 0],
  'a body that nobody reads': ["const r = await open(); await r.getStorage().putObject('x', Buffer.alloc(4 << 20)); await r.getStorage().getObjectStream('x');", 0],
  'a body that was left midway': ["const r = await open(); await r.getStorage().putObject('x', Buffer.alloc(4 << 20)); await (await r.getStorage().getObjectStream('x')).getReader().read();", 0],
  'an upload whose source stalls': ["const r = await open(); r.getStorage().putObject('x', new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(10)) })); setTimeout(() => process.exit(3), 50);", 3],
  'process.exit with everything in flight': [
    `const r = await open({ authProvider: { ...provider, validateToken: () => new Promise(() => {}) } });
     await r.getStorage().putObject('x', Buffer.alloc(4 << 20));
     for (let n = 0; n < 64; n++) r.handleRequest({ method: 'GET', path: '/npm/x', token: 't' }).catch(() => {});
     for (let n = 0; n < 50; n++) (await r.getStorage().getObjectStream('x')).getReader().read();
     setTimeout(() => process.exit(5), 20);`,
    5,
  ],
  'an uncaught error with everything in flight': [
    `const r = await open({ authProvider: { ...provider, validateToken: () => new Promise(() => {}) } });
     for (let n = 0; n < 64; n++) r.handleRequest({ method: 'GET', path: '/npm/x', token: 't' }).catch(() => {});
     setTimeout(() => { throw new Error('on purpose'); }, 20);`,
    1,
  ],
  'a listener that is closed': ["const r = await open(); const s = await r.listen({ port: 0 }); await fetch(s.url + '/npm/-/ping').then((a) => a.text()); await s.close();", 0],
  'a listener that is let go': ["const r = await open(); const s = await r.listen({ port: 0 }); s.unref();", 0],
  'a listener whose registry is destroyed': ['const r = await open(); await r.listen({ port: 0 }); await r.destroy();', 0],
};

async function bucket() {
  const s3 = await startS3('moto');
  return { storage: s3.storage(), stop: () => s3.stop() };
}

describe('a process ends by itself', () => {
  for (const [name, [program, expected]] of Object.entries(ends)) {
    it(`with ${name}`, async () => {
      const { code, signal, output } = await run(program);
      assert.equal(code, expected, `ended with ${signal ?? code}: ${output}`);
    });
  }

  for (const [name, storageOf] of [['folder', async () => ({ storage: { type: 'local', path: join(dir, 'data') }, stop() {} })], ['bucket', bucket]]) {
    it(`after it has written to a ${name} and read from it, destroyed or not`, async () => {
      const { storage, stop } = await storageOf();
      const program = `
        const r = await open({ storage: ${JSON.stringify(storage)} });
        await r.getStorage().putObject('x', Buffer.alloc(6 << 20));
        console.log((await streamToBuffer(await r.getStorage().getObjectStream('x'))).length);`;
      for (const end of ['', 'await r.destroy();']) {
        const { code, signal, output } = await run(program + end);
        assert.deepEqual([signal ?? code, output.trim()], [0, String(6 << 20)]);
      }
      await stop();
    });
  }

  it('and does not while a listener listens', async () => {
    const { signal, output } = await run("const r = await open(); const s = await r.listen({ port: 0 }); console.log('up');", 2000);
    assert.equal(signal, 'SIGKILL', output);
    assert.match(output, /up/);
  });
});

describe('a worker thread', () => {
  const program = `
    const { SmartRegistry } = require('smartregistry-native');
    const { parentPort } = require('node:worker_threads');
    (async () => {
      const registry = new SmartRegistry({
        storage: { type: 'memory' },
        auth: {},
        npm: { enabled: true },
        authProvider: { authenticate: () => null, validateToken: () => new Promise((done) => setTimeout(done, 5, null)), createToken: () => 'x', revokeToken() {}, authorize: () => true },
      });
      await registry.init();
      await registry.getStorage().putObject('x', Buffer.alloc(4 << 20));
      for (;;) {
        for (let n = 0; n < 8; n++) registry.handleRequest({ method: 'GET', path: '/npm/x', token: 't' }).catch(() => {});
        await (await registry.getStorage().getObjectStream('x')).getReader().read();
        parentPort.postMessage('working');
        await new Promise((done) => setTimeout(done, 1));
      }
    })();`;

  it('can be ended in mid-flight, again and again', async () => {
    for (let n = 0; n < 10; n++) {
      const worker = new Worker(program, { eval: true });
      const failed = new Promise((_, fail) => worker.once('error', fail));
      await Promise.race([new Promise((done) => worker.once('message', done)), failed]);
      await worker.terminate();
    }
    const { SmartRegistry } = await import('smartregistry-native');
    const registry = new SmartRegistry({ storage: { type: 'memory' }, auth: {}, npm: { enabled: true } });
    await registry.init();
    assert.equal((await registry.handleRequest({ method: 'GET', path: '/npm/-/ping' })).status, 200);
    await registry.destroy();
  });
});
