// Yarn 4: puts the attachment first in what it publishes, computes tarball paths by itself, and waits a day before it takes a new version.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { people } from '../support/npm-config.mjs';
import { assertInstalled, assertIntegrity, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('yarn-berry');

const yarn = (site, args, { cwd = site.box.dir, as = 'owner', age = '0', ...more } = {}) =>
  run([...argv, ...args], { cwd, env: { ...site.as(as), YARN_NPM_MINIMAL_AGE_GATE: age, YARN_GLOBAL_FOLDER: join(site.box.home, 'yarn') }, ...more });

const setUp = (site) => people(site, (url, token) => ({
  '.yarnrc.yml': [
    `npmRegistryServer: "${url}"`,
    ...(token ? [`npmAuthToken: "${token}"`, 'npmAlwaysAuth: true'] : []),
    'unsafeHttpWhitelist: ["127.0.0.1"]',
    'nodeLinker: node-modules',
    'enableTelemetry: false',
    'httpRetry: 0',
    '',
  ].join('\n'),
}));

matrix('yarn berry', { protocol: 'npm', setUp }, (step) => {
  /** An empty lock file makes a folder a project of its own. */
  const packageOf = async (site, folder, manifest) => {
    const made = await writePackage(await site.box.folder(folder), manifest);
    await write(made.folder, { 'yarn.lock': '' });
    (await yarn(site, ['install'], { cwd: made.folder })).ok();
    return made;
  };

  const projectOf = async (site, folder, dependencies) => {
    const project = await site.box.folder(folder);
    await writeProject(project, dependencies);
    await write(project, { 'yarn.lock': '' });
    return project;
  };

  const publish = (site, made, args = [], options = {}) => yarn(site, ['npm', 'publish', ...args], { cwd: made.folder, ...options });

  const publishing = async (site, manifest, args) => {
    const made = await packageOf(site, `${manifest.name}-${manifest.version}`, manifest);
    (await publish(site, made, args)).ok().shows(/Package archive published/);
    return made;
  };

  step('says who is logged in, and who is not', async (site) => {
    (await yarn(site, ['npm', 'whoami'])).ok().shows(/alice/);
    (await yarn(site, ['npm', 'whoami'], { as: 'liar' })).refused(/Invalid authentication/);
  });

  step('publishes unscoped, scoped, again and under a tag', async (site) => {
    site.widget = await publishing(site, { name: 'widget', version: '1.0.0' });
    site.gadget = await publishing(site, { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, ['--access', 'public']);
    site.newer = await publishing(site, { name: 'widget', version: '1.1.0' });
    site.beta = await publishing(site, { name: 'widget', version: '2.0.0-beta.1' }, ['--tag', 'beta']);
    await assertIntegrity(site.registry.npm, '@acme/gadget', '0.1.0');
    const { 'dist-tags': tags } = await assertIntegrity(site.registry.npm, 'widget', '2.0.0-beta.1');
    assert.deepEqual(tags, { latest: '1.1.0', beta: '2.0.0-beta.1' });
  });

  step('shows a package', async (site) => {
    const shown = (await yarn(site, ['npm', 'info', 'widget', '--json'], { cwd: site.widget.folder })).json();
    assert.equal(shown.version, '1.1.0');
    assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
  });

  step('lists, sets and removes tags', async (site) => {
    const { folder: cwd } = site.widget;
    (await yarn(site, ['npm', 'tag', 'add', 'widget@1.0.0', 'stable'], { cwd })).ok();
    (await yarn(site, ['npm', 'tag', 'list', 'widget'], { cwd })).ok().shows(/beta.*2\.0\.0-beta\.1/).shows(/latest.*1\.1\.0/).shows(/stable.*1\.0\.0/);
    (await yarn(site, ['npm', 'tag', 'remove', 'widget', 'stable'], { cwd })).ok();
    (await yarn(site, ['npm', 'tag', 'list', 'widget'], { cwd })).ok().hides(/stable/);
  });

  step('installs into a fresh project', async (site) => {
    site.project = await projectOf(site, 'project', { '@acme/gadget': '^0.1.0' });
    (await yarn(site, ['install'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.newer);
    (await yarn(site, ['add', 'widget@beta'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.beta);
  });

  step('installs what the lock file says, with an empty cache', async (site) => {
    await rm(join(site.project, 'node_modules'), { recursive: true });
    await rm(join(site.box.home, 'yarn'), { recursive: true });
    (await yarn(site, ['install', '--immutable'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.beta);
  });

  step('knows when each version was published', async (site) => {
    const project = await projectOf(site, 'young', { widget: '^1.0.0' });
    (await yarn(site, ['install'], { cwd: project, age: '1d' })).refused(/quarantined/);
  });

  step('is told that a version exists', async (site) => {
    const changed = await packageOf(site, 'changed', { name: 'widget', version: '1.1.0', description: 'something else' });
    (await publish(site, changed)).refused(/You cannot publish over the previously published versions: 1\.1\.0/);
    await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
  });

  step('is told why a publish without rights fails', async (site) => {
    const made = await packageOf(site, 'denied', { name: 'denied', version: '1.0.0' });
    (await publish(site, made, [], { as: 'nobody' })).refused(/No authentication configured/);
    (await publish(site, made, [], { as: 'liar' })).refused(/Invalid authentication/);
    (await publish(site, made, [], { as: 'reader' })).refused(/YN0035|403|Forbidden/);
    assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
  });

  step('is told that a package or a version is missing', async (site) => {
    const project = await projectOf(site, 'missing', {});
    (await yarn(site, ['add', 'no-such-package'], { cwd: project })).refused(/no-such-package[^]*(Package not found|404)/);
    (await yarn(site, ['add', 'widget@9.9.9'], { cwd: project })).refused(/widget@npm:9\.9\.9/);
  });

  step('reads a private package only with a token', async (site) => {
    const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
    const project = await projectOf(site, 'private', { '@private/secret': '1.0.0' });
    (await yarn(site, ['install'], { cwd: project, as: 'nobody' })).refused(/@private\/secret/);
    (await yarn(site, ['install'], { cwd: project })).ok();
    await assertInstalled(project, secret);
  });

  step('logs in with user and password, and out', async (site) => {
    const answers = [
      [/username/i, 'alice'],
      [/password/i, password],
    ];
    (await yarn(site, ['npm', 'login'], { cwd: site.widget.folder, as: 'fresh', answers, terminal: true })).ok().shows(/Successfully logged in/);
    (await yarn(site, ['npm', 'whoami'], { cwd: site.widget.folder, as: 'fresh' })).ok().shows(/alice/);
    (await yarn(site, ['npm', 'logout'], { cwd: site.widget.folder, as: 'fresh' })).ok();
    (await yarn(site, ['npm', 'whoami'], { cwd: site.widget.folder, as: 'fresh' })).refused(/No authentication configured/);
  });
});
