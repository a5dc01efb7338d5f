// npm: what people and build machines do with it, from logging in to `npm ci`.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('npm');

/** Runs npm as one of the people of the site. */
const npm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

matrix('npm', { protocol: 'npm', setUp }, (step) => {
  const publishing = async (site, manifest, args = []) => {
    const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
    (await npm(site, ['publish', ...args], { cwd: made.folder })).ok().shows(new RegExp(`\\+ ${manifest.name}@`));
    return made;
  };

  step('answers ping', async (site) => {
    (await npm(site, ['ping'])).ok().shows(/PONG/);
  });

  step('says who is logged in, and who is not', async (site) => {
    assert.equal((await npm(site, ['whoami'])).ok().stdout.trim(), 'alice');
    (await npm(site, ['whoami'], { as: 'liar' })).refused(/E401|npm login/);
  });

  step('logs in with user and password', async (site) => {
    const answers = [
      [/username/i, 'alice'],
      [/password/i, password],
    ];
    (await npm(site, ['login'], { as: 'fresh', answers })).ok().shows(/Logged in on/);
    assert.equal((await npm(site, ['whoami'], { as: 'fresh' })).ok().stdout.trim(), 'alice');
  });

  step('is told that the password is wrong', async (site) => {
    const answers = [
      [/username/i, 'alice'],
      [/password/i, 'guessed'],
    ];
    (await npm(site, ['login', '--auth-type=legacy'], { as: 'nobody', answers })).refused(/E401/);
  });

  step('publishes', async (site) => {
    site.widget = await publishing(site, { name: 'widget', version: '1.0.0' });
    await assertIntegrity(site.registry.npm, 'widget', '1.0.0');
  });

  step('publishes a scoped package that depends on another', async (site) => {
    site.gadget = await publishing(site, { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, ['--access', 'public']);
    await assertIntegrity(site.registry.npm, '@acme/gadget', '0.1.0');
  });

  step('publishes a second version, and a prerelease under a tag', async (site) => {
    site.newer = await publishing(site, { name: 'widget', version: '1.1.0' });
    site.beta = await publishing(site, { name: 'widget', version: '2.0.0-beta.1' }, ['--tag', 'beta']);
    const { 'dist-tags': tags } = await assertIntegrity(site.registry.npm, 'widget', '2.0.0-beta.1');
    assert.deepEqual(tags, { latest: '1.1.0', beta: '2.0.0-beta.1' });
  });

  step('shows a package', async (site) => {
    const shown = (await npm(site, ['view', 'widget', '--json'])).ok().json();
    assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
    assert.equal(shown.version, '1.1.0');
    assert.match(shown.time['1.0.0'], /^\d{4}-\d\d-\d\dT/);
    assert.equal((await npm(site, ['view', '@acme/gadget@0.1.0', 'dependencies.widget'])).ok().stdout.trim(), '^1.0.0');
  });

  step('lists, sets and removes dist-tags', async (site) => {
    (await npm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok().shows(/\+stable: widget@1\.0\.0/);
    (await npm(site, ['dist-tag', 'ls', 'widget'])).ok().shows(/beta: 2\.0\.0-beta\.1\nlatest: 1\.1\.0\nstable: 1\.0\.0/);
    (await npm(site, ['dist-tag', 'rm', 'widget', 'stable'])).ok();
    (await npm(site, ['dist-tag', 'ls', 'widget'])).ok().hides(/stable/);
    (await npm(site, ['dist-tag', 'rm', 'widget', 'latest'])).refused(/latest/);
  });

  step('installs into a fresh project', async (site) => {
    site.project = await site.box.folder('project');
    await writeProject(site.project, { '@acme/gadget': '^0.1.0' });
    (await npm(site, ['install'], { cwd: site.project, as: 'nobody' })).ok().shows(/added 2 packages/);
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.newer);
    (await npm(site, ['install', 'widget@beta'], { cwd: site.project, as: 'nobody' })).ok();
    await assertInstalled(site.project, site.beta);
  });

  step('installs what the lock file says, with an empty cache', async (site) => {
    await rm(join(site.project, 'node_modules'), { recursive: true });
    (await npm(site, ['ci', '--cache', join(site.box.home, 'empty-cache')], { cwd: site.project, as: 'nobody' })).ok().shows(/added/);
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.beta);
  });

  step('sees what is outdated, by the abbreviated document', async (site) => {
    const project = await site.box.folder('outdated');
    await writeProject(project, { widget: '1.0.0' });
    (await npm(site, ['install'], { cwd: project })).ok();
    // The exit code 1 of `npm outdated` means that there is something.
    (await npm(site, ['outdated'], { cwd: project })).refused(/widget\s+1\.0\.0\s+1\.0\.0\s+1\.1\.0/);
  });

  step('runs the program of a package', async (site) => {
    (await npm(site, ['exec', '--yes', '--package=widget@1.0.0', '--', 'run-widget'])).ok().shows(/^widget 1\.0\.0$/m);
  });

  step('is told that a version exists', async (site) => {
    // npm itself looks first; with --force it leaves the word to the registry.
    (await npm(site, ['publish'], { cwd: site.newer.folder })).refused(/cannot publish over the previously published versions?:? 1\.1\.0/i);
    const changed = await writePackage(await site.box.folder('changed'), { name: 'widget', version: '1.1.0', description: 'something else' });
    (await npm(site, ['publish', '--force'], { cwd: changed.folder })).refused(/E403[^]*cannot publish over the previously published versions: 1\.1\.0/);
    await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
  });

  step('is told why a publish without rights fails', async (site) => {
    const made = await writePackage(await site.box.folder('denied'), { name: 'denied', version: '1.0.0' });
    (await npm(site, ['publish'], { cwd: made.folder, as: 'nobody' })).refused(/ENEEDAUTH|E401/);
    (await npm(site, ['publish'], { cwd: made.folder, as: 'liar' })).refused(/E401/);
    (await npm(site, ['publish'], { cwd: made.folder, as: 'reader' })).refused(/E403/);
    assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
  });

  step('is told that a package or a version is missing', async (site) => {
    const project = await site.box.folder('missing');
    await writeProject(project, {});
    (await npm(site, ['install', 'no-such-package'], { cwd: project })).refused(/E404[^]*no-such-package/);
    (await npm(site, ['install', 'widget@9.9.9'], { cwd: project })).refused(/ETARGET[^]*widget@9\.9\.9/);
  });

  step('reads a private package only with a token', async (site) => {
    const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
    const project = await site.box.folder('private');
    await writeProject(project, {});
    (await npm(site, ['install', '@private/secret'], { cwd: project, as: 'nobody' })).refused(/E401|E404/);
    (await npm(site, ['install', '@private/secret'], { cwd: project })).ok();
    await assertInstalled(project, secret);
  });

  step('logs out, which ends the token', async (site) => {
    (await npm(site, ['logout'], { as: 'fresh' })).ok();
    (await npm(site, ['whoami'], { as: 'fresh' })).refused(/ENEEDAUTH/);
  });
});
