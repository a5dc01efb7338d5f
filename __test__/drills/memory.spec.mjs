// Bodies of any size in constant memory: up and down through the listener and through an Express app, and downloads that nobody finishes.
// SMARTREGISTRY_DRILL_MIB sets the size (default 256; 1024 in the long form), SMARTREGISTRY_DRILL_ABORTS the number of aborted downloads (default 500; 10000).
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { describe, it } from 'node:test';
import { download, upload } from '../support/bulk.mjs';
import { password } from '../support/matrix.mjs';
import { startRegistry } from '../support/registry.mjs';
import { basicAuth } from '../support/wire.mjs';

const MIB = 1 << 20;
const size = Number(process.env.SMARTREGISTRY_DRILL_MIB ?? 256) * MIB;
const aborts = Number(process.env.SMARTREGISTRY_DRILL_ABORTS ?? 500);

/** Over idle, in MiB: what the bodies may cost. A body that passes through JavaScript may cost as much again. */
const allowed = { listener: 64, 'express-stream': 128 };

for (const mode of Object.keys(allowed)) {
  describe(`${size / MIB} MiB up and down, ${mode}`, () => {
    it(`stays within ${allowed[mode]} MiB over idle`, { timeout: 600_000 }, async (t) => {
      const registry = await startRegistry(mode, 'local');
      try {
        await registry.addUser('alice', password);
        const authorization = basicAuth('alice', password);
        const warm = await upload(registry, authorization, 8 * MIB);
        await download(registry, authorization, warm);
        const idle = await memory(registry.pid);
        await resetPeak(registry.pid);
        const digest = await upload(registry, authorization, size);
        const up = await peak(registry.pid);
        await resetPeak(registry.pid);
        await download(registry, authorization, digest);
        const down = await peak(registry.pid);
        t.diagnostic(`idle ${mib(idle)} MiB, up +${mib(up - idle)}, down +${mib(down - idle)}`);
        assert.ok(up - idle <= allowed[mode] * MIB, `uploading took ${mib(up - idle)} MiB over idle`);
        assert.ok(down - idle <= allowed[mode] * MIB, `downloading took ${mib(down - idle)} MiB over idle`);
      } finally {
        await registry.stop();
      }
    });
  });

  describe(`${aborts} aborted downloads, ${mode}`, () => {
    it('leave nothing behind', { timeout: 600_000 }, async () => {
      const registry = await startRegistry(mode, 'local', { limits: { bodyIdleMs } });
      try {
        await registry.addUser('alice', password);
        const authorization = basicAuth('alice', password);
        const digest = await upload(registry, authorization, 16 * MIB);
        for (let n = 0; n < 20; n++) await abort(registry, authorization, digest);
        await settled(registry.pid, Infinity);
        const before = await files(registry.pid);
        for (let n = 0; n < aborts; n += 10) await Promise.all(Array.from({ length: 10 }, () => abort(registry, authorization, digest)));
        const after = await settled(registry.pid, before);
        assert.ok(after <= before, `${after} files are open after ${aborts} aborted downloads, ${before} were before`);
      } finally {
        await registry.stop();
      }
    });
  });
}

/** Reads the first chunk of a download and goes away. */
function abort(registry, authorization, digest) {
  return new Promise((done, fail) => {
    const sent = http.get(`${registry.url}/v2/big/blobs/${digest}`, { headers: { authorization }, agent: false }, (answer) => {
      answer.once('data', () => {
        answer.destroy();
        done();
      });
      answer.on('error', () => {});
    });
    sent.on('error', (error) => (error.code === 'ECONNRESET' ? done() : fail(error)));
  });
}

const mib = (bytes) => Math.round(bytes / MIB);

async function status(pid, name) {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'))[1]) * 1024;
}

const memory = (pid) => status(pid, 'VmRSS');
const peak = (pid) => status(pid, 'VmHWM');
const resetPeak = (pid) => writeFile(`/proc/${pid}/clear_refs`, '5');
const files = async (pid) => (await readdir(`/proc/${pid}/fd`)).length;

/** A source that nobody reads is given up after this: `pipe(res)`, the README's way, does not tell that its client has left. */
const bodyIdleMs = 10_000;

/** The number of open files once it has come down to `wanted`, or else has stopped falling: for two seconds, or for as long as a source is kept. */
async function settled(pid, wanted) {
  let least = Infinity;
  const patience = wanted === Infinity ? 2000 : 2 * bodyIdleMs;
  for (let since = Date.now(); Date.now() - since < patience; ) {
    await new Promise((done) => setTimeout(done, 50));
    const now = await files(pid);
    if (now <= wanted && wanted !== Infinity) return now;
    if (now < least) [least, since] = [now, Date.now()];
  }
  return least;
}
