// A package of 5,000 versions and 16 MB of metadata: what reading it in every form and publishing to it take in memory and time.
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { password } from '../support/matrix.mjs';
import { startRegistry } from '../support/registry.mjs';

const MIB = 1 << 20;
const VERSIONS = 5000;

/** Over idle, in MiB, for a document of 16: the document, its two forms plain and packed, and one copy on its way into the store. */
const ALLOWED = 128;

describe(`${VERSIONS} versions`, () => {
  it(`stay within ${ALLOWED} MiB over idle`, { timeout: 300_000 }, async (t) => {
    const registry = await startRegistry('listener', 'local');
    try {
      await registry.addUser('alice', password);
      const authorization = `Bearer ${await registry.createToken('alice', 'npm')}`;
      await publish(registry, authorization, 'other', '1.0.0');
      const idle = await status(registry.pid, 'VmRSS');
      const folder = join(registry.config.storage.path, 'npm/packages/widget');
      await mkdir(folder, { recursive: true });
      const text = JSON.stringify(document());
      await writeFile(join(folder, 'index.json'), text);
      await writeFile(`/proc/${registry.pid}/clear_refs`, '5');

      const full = await timed(t, 'first GET of the full form', () => get(registry));
      assert.equal(Object.keys(full.versions).length, VERSIONS);
      await timed(t, 'second GET', () => get(registry));
      const short = await timed(t, 'first GET of the abbreviated form', () => get(registry, 'application/vnd.npm.install-v1+json'));
      assert.equal(Object.keys(short.time).length, VERSIONS + 2);
      await Promise.all(Array.from({ length: 20 }, () => get(registry)));
      for (let n = 0; n < 10; n++) await timed(t, 'publish', () => publish(registry, authorization, 'widget', `2.0.${n}`));
      assert.equal(Object.keys((await get(registry)).versions).length, VERSIONS + 10);

      const peak = await status(registry.pid, 'VmHWM');
      t.diagnostic(`document of ${mib(text.length)} MiB, idle ${mib(idle)} MiB, peak +${mib(peak - idle)}`);
      assert.ok(peak - idle <= ALLOWED * MIB, `took ${mib(peak - idle)} MiB over idle`);
    } finally {
      await registry.stop();
    }
  });
});

const mib = (bytes) => Math.round(bytes / MIB);

async function status(pid, field) {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(text)[1]) * 1024;
}

async function timed(t, what, work) {
  const start = performance.now();
  const result = await work();
  t.diagnostic(`${what}: ${Math.round(performance.now() - start)} ms`);
  return result;
}

async function get(registry, accept = 'application/json') {
  const answer = await fetch(`${registry.npm}widget`, { headers: { accept } });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** Versions of 3 kB each, with integrity and without a signature, as a registry that doesn't sign has written them. */
function document() {
  const versions = {};
  const time = { created: '2026-01-01T00:00:00.000Z', modified: '2026-01-01T00:00:00.000Z' };
  for (let n = 0; n < VERSIONS; n++) {
    const version = `1.0.${n}`;
    const scripts = Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`script-${at}`, `node ./scripts/step-${at}.mjs --mode ${(n * 7919 + at) % 997}`]));
    versions[version] = { name: 'widget', version, scripts, dependencies: { other: '^1.0.0' }, dist: { tarball: 'http://old.example.com/w.tgz', shasum: '0'.repeat(40), integrity: `sha512-${'A'.repeat(86)}==` } };
    time[version] = '2026-01-01T00:00:00.000Z';
  }
  return { _id: 'widget', _rev: '5000-x', name: 'widget', 'dist-tags': { latest: '1.0.4999' }, versions, time, maintainers: [{ name: 'alice' }] };
}

async function publish(registry, authorization, name, version) {
  const tarball = tgz(JSON.stringify({ name, version }));
  const body = {
    _id: name,
    name,
    'dist-tags': { latest: version },
    versions: { [version]: { name, version } },
    _attachments: { [`${name}-${version}.tgz`]: { content_type: 'application/octet-stream', data: tarball.toString('base64'), length: tarball.length } },
  };
  const answer = await fetch(`${registry.npm}${name}`, { method: 'PUT', headers: { authorization, 'content-type': 'application/json' }, body: JSON.stringify(body) });
  assert.equal(answer.status, 201, await answer.text());
  assert.ok(gunzipSync(tarball).length > 512);
}

/** A gzipped tar file with a `package/package.json`. */
function tgz(text) {
  const header = Buffer.alloc(512);
  header.write('package/package.json', 0);
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${Buffer.byteLength(text).toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write('0', 156);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const content = Buffer.alloc(Math.ceil(Buffer.byteLength(text) / 512) * 512);
  content.write(text);
  return gzipSync(Buffer.concat([header, content, Buffer.alloc(1024)]));
}
