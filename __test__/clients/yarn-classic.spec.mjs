// Yarn 1: asks for the abbreviated document everywhere, and needs a truthy answer to all it sends.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('yarn-classic');

/** For root its home is a folder of the whole machine, unless root is not a real one. */
const ownHome = { FAKEROOTKEY: '1' };

const yarn = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: { ...site.as(as), ...ownHome }, ...more });

const setUp = (site) => people(site, (url, token) => ({
  // Without always-auth this client keeps its token to itself when it reads unscoped packages.
  '.npmrc': npmrc(url, token, { 'always-auth': Boolean(token) }),
  '.yarnrc': `registry "${url}"\ndisable-self-update-check true\n`,
}));

/** Its JSON output is one document per line. */
const lines = (finished) => finished.ok().stdout.trim().split('\n').map((line) => JSON.parse(line));

matrix('yarn classic', { protocol: 'npm', setUp }, (step) => {
  const publish = (site, made, args = [], options = {}) =>
    yarn(site, ['publish', '--non-interactive', '--no-git-tag-version', '--new-version', made.version, ...args], { cwd: made.folder, ...options });

  const publishing = async (site, manifest, args) => {
    const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
    (await publish(site, made, args)).ok().shows(/Published/);
    return made;
  };

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
    const [{ data: shown }] = lines(await yarn(site, ['info', 'widget', '--json']));
    assert.equal(shown.version, '1.1.0');
    assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
  });

  step('lists, sets and removes tags', async (site) => {
    (await yarn(site, ['tag', 'add', 'widget@1.0.0', 'stable'])).ok().shows(/stable/);
    (await yarn(site, ['tag', 'list', 'widget'])).ok().shows(/beta.*2\.0\.0-beta\.1/).shows(/latest.*1\.1\.0/).shows(/stable.*1\.0\.0/);
    (await yarn(site, ['tag', 'remove', 'widget', 'stable'])).ok();
    (await yarn(site, ['tag', 'list', 'widget'])).ok().hides(/stable/);
  });

  step('installs into a fresh project', async (site) => {
    site.project = await site.box.folder('project');
    await writeProject(site.project, { '@acme/gadget': '^0.1.0' });
    (await yarn(site, ['install'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.newer);
    (await yarn(site, ['add', 'widget@beta'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.beta);
  });

  step('installs what the lock file says, with an empty cache', async (site) => {
    await rm(join(site.project, 'node_modules'), { recursive: true });
    const args = ['install', '--frozen-lockfile', '--cache-folder', join(site.box.home, 'empty-cache')];
    (await yarn(site, args, { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.beta);
  });

  step('is told that a version exists', async (site) => {
    const changed = await writePackage(await site.box.folder('changed'), { name: 'widget', version: '1.1.0', description: 'something else' });
    (await publish(site, changed)).refused(/You cannot publish over the previously published versions: 1\.1\.0/);
    await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
  });

  step('is told why a publish without rights fails', async (site) => {
    const made = await writePackage(await site.box.folder('denied'), { name: 'denied', version: '1.0.0' });
    (await publish(site, made, [], { as: 'liar' })).refused(/Couldn't publish package/);
    (await publish(site, made, [], { as: 'reader' })).refused(/Couldn't publish package/);
    assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
  });

  step('publishes with user and password, logging in and out by itself', async (site) => {
    const made = await writePackage(await site.box.folder('by-password'), { name: 'by-password', version: '1.0.0' });
    const answers = [
      [/question npm username/i, 'alice'],
      [/question npm email/i, 'alice@example.com'],
      [/question npm password/i, password],
    ];
    const args = ['publish', '--no-git-tag-version', '--new-version', '1.0.0'];
    (await yarn(site, args, { cwd: made.folder, as: 'fresh', answers, terminal: true })).ok().shows(/Logged in/).shows(/Published/).shows(/Revoked login token/);
  });

  step('is told that a package or a version is missing', async (site) => {
    const project = await site.box.folder('missing');
    await writeProject(project, {});
    (await yarn(site, ['add', 'no-such-package'], { cwd: project })).refused(/no-such-package: Not found/);
    (await yarn(site, ['add', 'widget@9.9.9'], { cwd: project })).refused(/Couldn't find any versions for "widget" that matches "9\.9\.9"/);
  });

  step('reads a private package only with a token', async (site) => {
    const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
    const project = await site.box.folder('private');
    await writeProject(project, { '@private/secret': '1.0.0' });
    (await yarn(site, ['install'], { cwd: project, as: 'nobody' })).refused(/@private/);
    (await yarn(site, ['install'], { cwd: project })).ok();
    await assertInstalled(project, secret);
  });
});
