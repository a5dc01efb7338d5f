// Bun: abbreviated documents, its own publish; it has no login and no dist-tag command.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('bun');

const bun = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

matrix('bun', { protocol: 'npm', setUp }, (step) => {
  const publish = (site, made, args = [], options = {}) => bun(site, ['publish', ...args], { cwd: made.folder, ...options });

  const publishing = async (site, manifest, args) => {
    const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
    (await publish(site, made, args)).ok().shows(new RegExp(`\\+ ${manifest.name}@`));
    return made;
  };

  const projectOf = async (site, folder, dependencies) => {
    const project = await site.box.folder(folder);
    await writeProject(project, dependencies);
    return project;
  };

  step('says who is logged in, and who is not', async (site) => {
    assert.equal((await bun(site, ['pm', 'whoami'])).ok().stdout.trim(), 'alice');
    (await bun(site, ['pm', 'whoami'], { as: 'liar' })).refused(/401|failed to authenticate/i);
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
    const shown = (await bun(site, ['info', 'widget', '--json'])).ok().json();
    assert.equal(shown.version, '1.1.0');
    assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
  });

  step('installs into a fresh project', async (site) => {
    site.project = await projectOf(site, 'project', { '@acme/gadget': '^0.1.0' });
    (await bun(site, ['install'], { cwd: site.project, as: 'nobody' })).ok().shows(/2 packages installed/);
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.newer);
    (await bun(site, ['add', 'widget@beta'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.beta);
  });

  step('installs what the lock file says, with an empty cache', async (site) => {
    await rm(join(site.project, 'node_modules'), { recursive: true });
    const args = ['install', '--frozen-lockfile', '--cache-dir', join(site.box.home, 'empty-cache')];
    (await bun(site, args, { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.beta);
  });

  step('knows when each version was published', async (site) => {
    const project = await projectOf(site, 'young', { widget: '^1.0.0' });
    (await bun(site, ['install', '--minimum-release-age', '86400'], { cwd: project })).refused(/minimum-release-age/);
  });

  step('is told that a version exists', async (site) => {
    const changed = await writePackage(await site.box.folder('changed'), { name: 'widget', version: '1.1.0', description: 'something else' });
    (await publish(site, changed)).refused(/You cannot publish over the previously published versions: 1\.1\.0/);
    await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
  });

  step('is told why a publish without rights fails', async (site) => {
    const made = await writePackage(await site.box.folder('denied'), { name: 'denied', version: '1.0.0' });
    (await publish(site, made, [], { as: 'nobody' })).refused(/missing authentication/);
    (await publish(site, made, [], { as: 'liar' })).refused(/unable to authenticate, need: Bearer/);
    (await publish(site, made, [], { as: 'reader' })).refused(/403/);
    assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
  });

  step('is told that a package or a version is missing', async (site) => {
    const project = await projectOf(site, 'missing', {});
    (await bun(site, ['add', 'no-such-package'], { cwd: project })).refused(/no-such-package[^]*404/);
    (await bun(site, ['add', 'widget@9.9.9'], { cwd: project })).refused(/No version matching "9\.9\.9"/);
  });

  step('reads a private package only with a token', async (site) => {
    const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
    const project = await projectOf(site, 'private', { '@private/secret': '1.0.0' });
    (await bun(site, ['install'], { cwd: project, as: 'nobody' })).refused(/@private[^]*(401|404)/);
    (await bun(site, ['install'], { cwd: project })).ok();
    await assertInstalled(project, secret);
  });
});
