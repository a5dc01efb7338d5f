// Imports: from another registry over HTTP, and from a folder as verdaccio keeps it. What comes over is compared byte by byte.
import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer, json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { cli } from '../../scripts/lib/paths.mjs';
import { login, open, pushBlob, sha256 } from '../support/facade.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

describe('imports', () => {
  let box;
  before(async () => {
    box = await sandbox('import');
  });
  after(() => box.remove());

  const get = (registry, path, headers = {}) => registry.handleRequest({ method: 'GET', path, headers, query: {} });
  const publish = async (registry, headers, name, version) => {
    const path = `/npm/${name.replace('/', '%2f')}`;
    const { status } = await registry.handleRequest({ method: 'PUT', path, headers: { ...headers, 'Content-Type': 'application/json' }, query: {}, body: publishDocument(name, version, await tarball(name, version, 20_000)) });
    assert.equal(status, 201);
  };

  it('take packages over with times, tags and owners, and can be run again', async (t) => {
    const source = await open(t);
    const { npm } = await login(source);
    for (const [name, version] of [['widget', '1.0.0'], ['widget', '2.0.0'], ['@acme/tool', '0.1.0']]) await publish(source, npm, name, version);
    const tag = await source.handleRequest({ method: 'PUT', path: '/npm/-/package/widget/dist-tags/old', headers: { ...npm, 'Content-Type': 'application/json' }, query: {}, body: '"1.0.0"' });
    assert.equal(tag.status, 201);
    const server = await source.listen({ port: 0 });
    const target = await open(t);
    const standings = [];
    const report = await target.import({ protocol: 'npm', from: `${server.url}/npm/`, onProgress: (standing) => standings.push(standing) });
    assert.deepEqual(report, { names: 2, imported: 3, present: 0, missing: 0, problems: [] });
    assert.deepEqual(standings.at(-1), { phase: 'packages', done: 2, total: 2 });
    const [theirs, ours] = await Promise.all([source, target].map(async (registry) => json((await get(registry, '/npm/widget')).body)));
    assert.deepEqual(ours['dist-tags'], theirs['dist-tags']);
    assert.deepEqual(ours.maintainers, theirs.maintainers);
    for (const version of ['1.0.0', '2.0.0']) {
      assert.equal(ours.time[version], theirs.time[version]);
      assert.equal(ours.versions[version].dist.integrity, theirs.versions[version].dist.integrity);
      const path = `/npm/widget/-/widget-${version}.tgz`;
      const [one, other] = await Promise.all([source, target].map(async (registry) => buffer((await get(registry, path)).body)));
      assert.ok(one.equals(other));
    }
    assert.deepEqual(await target.import({ protocol: 'npm', from: `${server.url}/npm` }), { names: 2, imported: 0, present: 3, missing: 0, problems: [] });
    // Another version under the same number is nobody's to replace.
    const other = await open(t);
    const { npm: others } = await login(other);
    const body = publishDocument('widget', '1.0.0', await tarball('widget', '1.0.0', 5000));
    await other.handleRequest({ method: 'PUT', path: '/npm/widget', headers: { ...others, 'Content-Type': 'application/json' }, query: {}, body });
    const partly = await other.import({ protocol: 'npm', from: `${server.url}/npm`, names: ['widget', 'nothing'] });
    assert.deepEqual([partly.imported, partly.problems.map(({ name, version }) => [name, version])], [1, [['nothing', undefined], ['widget', '1.0.0']].sort((a) => (a[0] === partly.problems[0].name ? -1 : 1))]);
  });

  it('read the folder of a verdaccio, by the command line', async () => {
    const folder = join(box.dir, 'verdaccio');
    const bytes = await tarball('widget', '1.0.0');
    const document = publishDocument('widget', '1.0.0', bytes);
    const far = structuredClone(document.versions['1.0.0']);
    far.dist.tarball = 'http://registry.example.com/widget/-/widget-1.1.0.tgz';
    const packument = {
      name: 'widget', 'dist-tags': { latest: '1.0.0' }, time: { created: '2020-01-01T00:00:00.000Z', modified: '2020-01-02T00:00:00.000Z', '1.0.0': '2020-01-01T00:00:00.000Z' },
      versions: { '1.0.0': document.versions['1.0.0'], '1.1.0': { ...far, version: '1.1.0', deprecated: 'only known from elsewhere' } },
      _attachments: { 'widget-1.0.0.tgz': { shasum: far.dist.shasum } }, _uplinks: {}, _distfiles: {}, _rev: '3-x', users: { bob: true }, readme: '# widget',
    };
    await mkdir(join(folder, 'widget'), { recursive: true });
    await mkdir(join(folder, 'empty'));
    await writeFile(join(folder, 'widget', 'package.json'), JSON.stringify(packument));
    await writeFile(join(folder, 'widget', 'widget-1.0.0.tgz'), bytes);
    const command = (...args) => run([process.execPath, cli, ...args, '--data', join(box.dir, 'data')], { cwd: box.dir, env: box.env });
    (await command('import', 'npm', folder)).ok().shows(/^1 packages: 1 imported, 0 here already, 1 without their tarball$/m);
    (await command('verify')).ok().shows(/^everything is there; looked at 1 /m);
    await rm(join(folder, 'widget', 'widget-1.0.0.tgz'));
    await writeFile(join(folder, 'widget', 'widget-1.0.0.tgz'), 'damaged');
    const damaged = await run([process.execPath, cli, 'import', 'npm', folder, '--data', join(box.dir, 'other')], { cwd: box.dir, env: box.env });
    assert.equal(damaged.code, 1);
    damaged.shows(/^widget@1\.0\.0: .+/m);
    const nowhere = await command('import', 'npm', join(box.dir, 'nowhere'));
    assert.equal(nowhere.code, 1);
  });

  it('take repositories over with all that refers to them', async (t) => {
    const auth = { jwtSecret: 'a secret of the tests, long enough to sign', tokenStore: 'memory', ociTokens: { enabled: true }, visibility: [{ pattern: 'oci:repository:*', visibility: 'private' }] };
    const source = await open(t, { auth });
    const { oci } = await login(source);
    const layer = Buffer.alloc(300_000, 'layer');
    for (const blob of [Buffer.from('{}'), layer]) assert.equal((await pushBlob(source, oci, sha256(blob), blob)).status, 201);
    const descriptor = (bytes, mediaType) => ({ mediaType, digest: sha256(bytes), size: bytes.length });
    const image = { schemaVersion: 2, mediaType: MANIFEST, config: descriptor(Buffer.from('{}'), 'application/vnd.oci.image.config.v1+json'), layers: [descriptor(layer, 'application/vnd.oci.image.layer.v1.tar')] };
    const put = async (reference, manifest) => {
      const bytes = Buffer.from(JSON.stringify(manifest));
      const { status } = await source.handleRequest({ method: 'PUT', path: `/v2/team/app/manifests/${reference}`, headers: { ...oci, 'Content-Type': manifest.mediaType }, query: {}, rawBody: bytes, body: bytes });
      assert.equal(status, 201);
      return bytes;
    };
    const pushed = await put('v1', image);
    const index = await put('multi', { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [descriptor(pushed, MANIFEST)] });
    const signature = { ...image, artifactType: 'application/vnd.example.signature', layers: [], subject: descriptor(pushed, MANIFEST) };
    const signed = await put(sha256(JSON.stringify(signature)), signature);
    const server = await source.listen({ port: 0 });
    const target = await open(t);
    await assert.rejects(target.import({ protocol: 'cargo', from: server.url }), { code: 'INVALID_OPTION' });
    const report = await target.import({ protocol: 'oci', from: server.url, username: 'alice', password: 'correct-horse-7' });
    assert.deepEqual([report.names, report.problems], [1, []]);
    const { oci: reader } = await login(target);
    for (const [reference, bytes] of [['v1', pushed], ['multi', index], [sha256(signed), signed]]) {
      const answer = await get(target, `/v2/team/app/manifests/${reference}`, reader);
      assert.ok((await buffer(answer.body)).equals(bytes), reference);
    }
    const referrers = await json((await get(target, `/v2/team/app/referrers/${sha256(pushed)}`, reader)).body);
    assert.deepEqual(referrers.manifests.map(({ digest }) => digest), [sha256(signed)]);
    assert.deepEqual((await target.verify()).findings, []);
    const again = await target.import({ protocol: 'oci', from: server.url, names: ['team/app'], username: 'alice', password: 'correct-horse-7' });
    assert.deepEqual([again.bytes, again.problems], [0, []]);
    const refused = await target.import({ protocol: 'oci', from: server.url, names: ['team/app'] });
    assert.equal(refused.problems.length, 1);
  });
});
