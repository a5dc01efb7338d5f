// Garbage collection by API and command line, on the data of a registry that may run.
import assert from 'node:assert/strict';
import { mkdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readdir } from 'node:fs/promises';
import { SmartRegistry } from '../../index.js';
import { cli } from '../../scripts/lib/paths.mjs';
import { digestOf } from '../support/oci.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';

const auth = { jwtSecret: 'a secret that is long enough', tokenStore: 'memory' };
const provider = {
  authenticate: async () => 'user',
  validateToken: async (token) => (token === 'good' ? { userId: 'user', scopes: ['*:*:*:*'], type: 'oci' } : null),
  createToken: async () => 'good',
  revokeToken: async () => {},
  authorize: async () => true,
};

describe('garbage collection', () => {
  let box;
  before(async () => {
    box = await sandbox('gc');
  });
  after(() => box.remove());

  const open = async (storage, oci = {}) => {
    const registry = new SmartRegistry({ storage, auth, authProvider: provider, oci: { enabled: true, basePath: '/oci', ...oci }, maintenance: { enabled: false } });
    await registry.init();
    return registry;
  };
  const send = (registry, method, path, body, type = 'application/octet-stream') =>
    registry.handleRequest({ method, path, headers: { authorization: 'Bearer good', 'content-type': type }, query: {}, body });

  async function fill(registry) {
    const blobs = { config: Buffer.from('{}'), layer: Buffer.from('layer'), dead: Buffer.alloc(3000, 'dead') };
    for (const bytes of Object.values(blobs)) {
      const pushed = await send(registry, 'POST', `/v2/a/blobs/uploads/?digest=${digestOf(bytes)}`, bytes);
      assert.equal(pushed.status, 201);
    }
    const descriptor = (bytes, mediaType) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const manifest = { schemaVersion: 2, mediaType, config: descriptor(blobs.config, 'a/b'), layers: [descriptor(blobs.layer, 'a/c')] };
    const pushed = await send(registry, 'PUT', '/v2/a/manifests/v', Buffer.from(JSON.stringify(manifest)), mediaType);
    assert.equal(pushed.status, 201);
    return blobs;
  }

  /** Makes everything in a folder two days old. */
  async function age(folder) {
    const old = new Date(Date.now() - 48 * 3_600_000);
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) await utimes(join(entry.parentPath ?? entry.path, entry.name), old, old);
    }
  }

  it('says what would go, removes that, and tells how far it is', async () => {
    const path = join(box.dir, 'api');
    await mkdir(path);
    const registry = await open({ type: 'local', path });
    try {
      const blobs = await fill(registry);
      assert.deepEqual((await registry.gc()).protocols.oci.removed, {}, 'all of it is young');
      await age(path);
      const planned = await registry.gc({ dryRun: true });
      assert.deepEqual([planned.dryRun, planned.protocols.oci.removed, planned.protocols.oci.bytes], [true, { blobs: 1, links: 1 }, 3000]);
      const phases = new Set();
      const done = await registry.gc({ onProgress: ({ phase }) => phases.add(phase) });
      assert.deepEqual([done.dryRun, done.protocols.oci.removed, done.protocols.oci.bytes], [false, { blobs: 1, links: 1 }, 3000]);
      assert.ok(phases.has('waiting for objections'), [...phases].join());
      assert.equal((await send(registry, 'GET', `/v2/a/blobs/${digestOf(blobs.layer)}`)).status, 200);
      assert.equal((await send(registry, 'GET', `/v2/a/blobs/${digestOf(blobs.dead)}`)).status, 404);
      assert.match(registry.metrics(), /smartregistry_maintenance_removed_total\{part="oci",kind="blobs"\} 1/);
    } finally {
      await registry.destroy();
    }
    await assert.rejects(registry.gc(), { code: 'DESTROYED' });
  });

  it('lets one process collect at a time', async () => {
    const path = join(box.dir, 'twice');
    const [one, two] = [await open({ type: 'local', path }), await open({ type: 'local', path })];
    try {
      await fill(one);
      await age(path);
      const both = await Promise.all([one.gc(), two.gc()]);
      assert.deepEqual(both.map(({ protocols }) => protocols.oci.removed.blobs ?? 0).sort(), [0, 1]);
    } finally {
      await Promise.all([one.destroy(), two.destroy()]);
    }
  });

  it('runs from the command line', async () => {
    const path = join(box.dir, 'cli');
    const registry = await open({ type: 'local', path });
    await fill(registry);
    await registry.destroy();
    await age(path);
    const command = (...args) => run([process.execPath, cli, 'gc', '--data', path, ...args], { cwd: box.dir, env: box.env });
    (await command('--dry-run')).ok().shows(/^oci: would remove 1 blob, 1 link, which would free 2\.9 KiB$/m);
    const report = (await command('--dry-run', '--json')).ok().json();
    assert.deepEqual(report.protocols.oci.removed, { blobs: 1, links: 1 });
    const done = (await command()).ok().shows(/^waiting for objections$/m);
    assert.equal(done.stdout, 'npm: removed nothing\noci: removed 1 blob, 1 link, which frees 2.9 KiB\n');
    assert.equal((await command()).ok().stdout, 'npm: removed nothing\noci: removed nothing\n');
    (await run([process.execPath, cli, 'gc', '--help'], { cwd: box.dir, env: box.env })).ok().shows(/--dry-run/).shows(/oci\.retention/);
  });

  it('takes tags by rule', async () => {
    const path = join(box.dir, 'rules');
    const registry = await open({ type: 'local', path }, { retention: [{ tags: ['v*'], keepLastPushed: 0 }] });
    try {
      await fill(registry);
      await age(path);
      const planned = await registry.gc({ dryRun: true });
      assert.deepEqual(planned.protocols.oci.details[0], { kind: 'tags', name: 'a:v', reason: 'of `v*` are kept the 0 pushed last' });
      const done = await registry.gc();
      assert.deepEqual(done.protocols.oci.removed, planned.protocols.oci.removed);
      assert.equal((await send(registry, 'GET', '/v2/a/manifests/v')).status, 404);
    } finally {
      await registry.destroy();
    }
    await assert.rejects(open({ type: 'local', path }, { retention: [{ keepLast: 1 }] }), /option `oci\.retention\[0\]\.keepLast`: unknown field/);
  });
});
