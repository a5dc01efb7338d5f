// npm: what people and build machines do with it, from logging in to `npm ci`.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('npm');

/** Runs npm as one of the people of the site. */
const npm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

matrix('npm', { protocol: 'npm', setUp }, (step) => {
  const shared = npmSteps(step, {
    publish: (site, made, args = [], options = {}) => npm(site, ['publish', ...args], { cwd: made.folder, ...options }),
    published: (name) => new RegExp(`\\+ ${name}@`),
  });

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

  shared.publishes();

  shared.shows(async (site) => {
    const shown = (await npm(site, ['view', 'widget', '--json'])).ok().json();
    assert.match(shown.time['1.0.0'], /^\d{4}-\d\d-\d\dT/);
    assert.equal((await npm(site, ['view', '@acme/gadget@0.1.0', 'dependencies.widget'])).ok().stdout.trim(), '^1.0.0');
    return shown;
  });

  step('lists, sets and removes dist-tags', async (site) => {
    (await npm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok().shows(/\+stable: widget@1\.0\.0/);
    (await npm(site, ['dist-tag', 'ls', 'widget'])).ok().shows(/beta: 2\.0\.0-beta\.1\nlatest: 1\.1\.0\nstable: 1\.0\.0/);
    (await npm(site, ['dist-tag', 'rm', 'widget', 'stable'])).ok();
    (await npm(site, ['dist-tag', 'ls', 'widget'])).ok().hides(/stable/);
    (await npm(site, ['dist-tag', 'rm', 'widget', 'latest'])).refused(/latest/);
  });

  shared.installs({
    install: async (site, options) => (await npm(site, ['install'], options)).shows(/added 2 packages/),
    addBeta: (site, options) => npm(site, ['install', 'widget@beta'], options),
    installLocked: async (site, options) => (await npm(site, ['ci', '--cache', join(site.box.home, 'empty-cache')], options)).shows(/added/),
  });

  step('sees what is outdated, by the abbreviated document', async (site) => {
    const project = await shared.projectOf(site, 'outdated', { widget: '1.0.0' });
    (await npm(site, ['install'], { cwd: project })).ok();
    // The exit code 1 of `npm outdated` means that there is something.
    (await npm(site, ['outdated'], { cwd: project })).refused(/widget\s+1\.0\.0\s+1\.0\.0\s+1\.1\.0/);
  });

  step('runs the program of a package', async (site) => {
    (await npm(site, ['exec', '--yes', '--package=widget@1.0.0', '--', 'run-widget'])).ok().shows(/^widget 1\.0\.0$/m);
  });

  step('is told by npm itself that a version exists', async (site) => {
    (await npm(site, ['publish'], { cwd: site.newer.folder })).refused(/cannot publish over the previously published versions?:? 1\.1\.0/i);
  });

  // With --force npm leaves the word to the registry.
  shared.isToldThatAVersionExists(/E403[^]*cannot publish over the previously published versions: 1\.1\.0/, ['--force']);

  shared.isToldWhyItMayNot({ nobody: /ENEEDAUTH|E401/, liar: /E401/, reader: /E403/ });

  shared.isToldWhatIsMissing((site, name, options) => npm(site, ['install', name], options), {
    noPackage: /E404[^]*no-such-package/,
    noVersion: /ETARGET[^]*widget@9\.9\.9/,
  });

  shared.readsPrivately((site, options) => npm(site, ['install', '@private/secret'], options), { nobody: /E401|E404/ });

  step('logs out, which ends the token', async (site) => {
    (await npm(site, ['logout'], { as: 'fresh' })).ok();
    (await npm(site, ['whoami'], { as: 'fresh' })).refused(/ENEEDAUTH/);
  });
});
