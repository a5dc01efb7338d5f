// A verdaccio that npm has published to is taken over, from its folder and by its URL; npm then finds everything here as it was there.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { cli } from '../../scripts/lib/paths.mjs';
import { writePackage, writeProject } from '../support/packages.mjs';
import { freePorts } from '../support/ports.mjs';
import { run, startServer } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';

const CONFIG = `storage: ./storage
auth:
  htpasswd:
    file: ./htpasswd
packages:
  '**':
    access: $all
    publish: $all
    unpublish: $all
log: { type: stdout, format: pretty, level: warn }
`;

describe('a verdaccio is taken over', () => {
  let box;
  let npm;
  let theirs;
  let server;
  before(async () => {
    box = await sandbox('verdaccio');
    const [{ argv }, verdaccio] = await Promise.all([client('npm'), client('verdaccio')]);
    const file = join(box.dir, 'verdaccio.yaml');
    await writeFile(file, CONFIG);
    const [port] = await freePorts(1);
    theirs = `http://127.0.0.1:${port}/`;
    server = await startServer([...verdaccio.argv, '--config', file, '--listen', `127.0.0.1:${port}`], { cwd: box.dir, env: box.env, ready: /http address/ });
    npm = (registry, args, cwd = box.dir) => run([...argv, ...args, `--registry=${registry}`, `--//127.0.0.1:${new URL(registry).port}/:_authToken=anything`], { cwd, env: box.env });
    for (const [name, version, tag] of [['widget', '1.0.0', 'latest'], ['widget', '2.0.0', 'latest'], ['widget', '3.0.0-rc.1', 'next'], ['@acme/tool', '0.1.0', 'latest']]) {
      const { folder } = await writePackage(await box.folder(`${name}-${version}`), { name, version, description: `the ${name}` });
      (await npm(theirs, ['publish', `--tag=${tag}`], folder)).ok();
    }
    (await npm(theirs, ['deprecate', 'widget@1.0.0', 'too old'])).ok();
  });
  after(async () => {
    await server?.stop();
    await box.remove();
  });

  const view = async (registry, name) => {
    const { versions, 'dist-tags': tags, time, deprecated } = (await npm(registry, ['view', name, '--json'])).ok().json();
    const { modified: _, ...times } = time;
    return { versions, tags, deprecated, times };
  };
  const facts = async (registry, spec) => (await npm(registry, ['view', spec, 'dist.integrity', 'deprecated', '--json'])).ok().json();

  for (const [way, from] of [['from its folder', () => join(box.dir, 'storage')], ['by its URL', () => theirs]]) {
    it(way, async () => {
      const data = join(box.dir, way.replaceAll(' ', '-'));
      const command = (...args) => run([process.execPath, cli, ...args, '--data', data], { cwd: box.dir, env: box.env });
      (await command('import', 'npm', from())).ok().shows(/^2 packages: 4 imported, 0 here already$/m);
      (await command('import', 'npm', from())).ok().shows(/^2 packages: 0 imported, 4 here already$/m);
      (await command('verify')).ok();
      const ours = await startServer([process.execPath, cli, 'serve', '--port', '0', '--data', data], { cwd: box.dir, env: box.env, ready: /listening on (http:\/\/127\.0\.0\.1:\d+)/ });
      try {
        const url = `${ours.match[1]}/npm/`;
        for (const name of ['widget', '@acme/tool']) {
          assert.deepEqual(await view(url, name), await view(theirs, name));
        }
        for (const spec of ['widget@1.0.0', 'widget@next', '@acme/tool']) assert.deepEqual(await facts(url, spec), await facts(theirs, spec));
        const project = await box.folder(`project-${way.length}`);
        await writeProject(project, { widget: '^2.0.0', '@acme/tool': '*' });
        (await npm(url, ['install', '--no-audit', '--no-fund'], project)).ok();
        (await npm(url, ['search', 'widget', '--json'])).ok().shows(/the widget/);
      } finally {
        await ours.stop();
      }
    });
  }
});
