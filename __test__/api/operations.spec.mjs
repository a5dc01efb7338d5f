// Operations on a whole registry: verify, stats and events, by the API and by the command line.
import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { cli } from '../../scripts/lib/paths.mjs';
import { login, open, pushBlob, sha256 } from '../support/facade.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

describe('operations', () => {
  let box;
  let data;
  before(async () => {
    box = await sandbox('operations');
    data = join(box.dir, 'data');
  });
  after(() => box.remove());

  const command = (...args) => run([process.execPath, cli, ...args, '--data', data], { cwd: box.dir, env: box.env });

  it('verify and count what is there, and name what is missing', async (t) => {
    const registry = await open(t, { storage: { type: 'local', path: data } });
    const { npm, oci } = await login(registry);
    const answer = await registry.handleRequest({ method: 'PUT', path: '/npm/widget', headers: { ...npm, 'Content-Type': 'application/json' }, query: {}, body: publishDocument('widget', '1.0.0', await tarball('widget', '1.0.0')) });
    assert.equal(answer.status, 201);
    const blob = await pushBlob(registry, oci, sha256('layer'), Buffer.from('layer'));
    assert.equal(blob.status, 201);

    const phases = new Set();
    const whole = await registry.verify({ onProgress: ({ phase }) => phases.add(phase) });
    assert.deepEqual({ ...whole, bytes: 0, objects: 0 }, { names: 2, objects: 0, bytes: 0, problems: 0, findings: [] });
    const counted = await registry.stats();
    assert.deepEqual([counted.protocols.npm.names, counted.protocols.oci.names, counted.protocols.oci.folders.blobs], [1, 1, { objects: 1, bytes: 5 }]);
    const { events, last, gap } = await registry.events('npm');
    assert.deepEqual(events.map(({ event, name, version, actor }) => [event, name, version, actor]), [['publish', 'widget', '1.0.0', 'alice']]);
    assert.deepEqual([last, gap, await registry.events('npm', { since: last })], [1, false, { events: [], last: 1, gap: false }]);
    await assert.rejects(registry.events('cargo'), { status: 404 });

    (await command('verify')).ok().shows(/^everything is there; looked at 2 packages and repositories and \d+ objects, .* read$/m);
    (await command('stats')).ok().shows(/^npm +packages +2 /m).shows(/^oci +blobs +1 +5 bytes$/m);
    assert.equal((await command('stats', '--json')).ok().json().total.objects, (await registry.stats()).total.objects);

    const folder = join(data, 'npm', 'packages', 'widget');
    const [file] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'));
    await writeFile(join(folder, file), 'something else');
    const damaged = await command('verify');
    assert.equal(damaged.code, 1);
    damaged.shows(new RegExp(`^npm widget: the tarball of 1.0.0 does not hash to sha512:.*${file}\\)$`, 'm')).shows(/^problems: 1;/m);
    await rm(join(folder, file));
    const { problems, findings } = (await command('verify', '--shallow', '--json')).json();
    assert.deepEqual([problems, findings[0].problem], [1, 'the tarball of 1.0.0 is missing']);

    await rm(folder, { recursive: true });
    await rm(join(data, '_sr', 'log'), { recursive: true });
    (await command('verify', '--rebuild-index')).ok().shows(/looked at 1 packages/);
  });
});
