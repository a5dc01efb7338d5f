// Bodies of any size in constant memory: up and down through the listener and through an Express app, and downloads that nobody finishes.
// SMARTREGISTRY_DRILL_MIB sets the size (default 256; 1024 in the long form), SMARTREGISTRY_DRILL_ABORTS the number of aborted downloads (default 500; 10000).
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { describe, it } from 'node:test';
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

/** Chunks that are made as they are sent, and their digest. */
function source(bytes) {
  const hash = createHash('sha256');
  let left = bytes;
  let n = 0;
  return {
    digest: () => `sha256:${hash.digest('hex')}`,
    next() {
      if (left === 0) return null;
      const chunk = Buffer.alloc(Math.min(MIB, left), n++ & 0xff);
      left -= chunk.length;
      hash.update(chunk);
      return chunk;
    },
  };
}

/** Uploads by POST and one streamed PATCH, then PUT: the form whose digest is not known beforehand. */
async function upload(registry, authorization, bytes) {
  const start = await request(registry, 'POST', '/v2/big/blobs/uploads/', { authorization });
  assert.equal(start.status, 202);
  const body = source(bytes);
  const patched = await request(registry, 'PATCH', start.headers.location, { authorization, 'content-length': bytes }, body);
  assert.equal(patched.status, 202, patched.text);
  const digest = body.digest();
  const done = await request(registry, 'PUT', `${patched.headers.location}?digest=${digest}`, { authorization });
  assert.equal(done.status, 201, done.text);
  return digest;
}

async function download(registry, authorization, digest) {
  const hash = createHash('sha256');
  const { status } = await request(registry, 'GET', `/v2/big/blobs/${digest}`, { authorization }, undefined, (chunk) => hash.update(chunk));
  assert.equal(status, 200);
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
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

function request(registry, method, path, headers, body, take) {
  return new Promise((done, fail) => {
    const sent = http.request(new URL(path, registry.url), { method, headers }, (answer) => {
      let text = '';
      answer.on('data', take ?? ((chunk) => void (text += chunk)));
      answer.on('error', fail);
      answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, text }));
    });
    sent.on('error', fail);
    if (!body) return void sent.end();
    const send = () => {
      for (let chunk = body.next(); ; chunk = body.next()) {
        if (chunk === null) return void sent.end();
        if (!sent.write(chunk)) return void sent.once('drain', send);
      }
    };
    send();
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
