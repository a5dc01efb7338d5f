// Bun: abbreviated documents, its own publish; it has no login and no dist-tag command.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('bun');

const bun = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

matrix('bun', { protocol: 'npm', setUp }, (step) => {
  const shared = npmSteps(step, {
    publish: (site, made, args = [], options = {}) => bun(site, ['publish', ...args], { cwd: made.folder, ...options }),
    published: (name) => new RegExp(`\\+ ${name}@`),
  });

  step('says who is logged in, and who is not', async (site) => {
    assert.equal((await bun(site, ['pm', 'whoami'])).ok().stdout.trim(), 'alice');
    (await bun(site, ['pm', 'whoami'], { as: 'liar' })).refused(/401|failed to authenticate/i);
  });

  shared.publishes();

  shared.shows(async (site) => (await bun(site, ['info', 'widget', '--json'])).ok().json());

  shared.installs({
    install: async (site, options) => (await bun(site, ['install'], options)).shows(/2 packages installed/),
    addBeta: (site, options) => bun(site, ['add', 'widget@beta'], options),
    installLocked: (site, options) => bun(site, ['install', '--frozen-lockfile', '--cache-dir', join(site.box.home, 'empty-cache')], options),
  });

  step('knows when each version was published', async (site) => {
    const project = await shared.projectOf(site, 'young', { widget: '^1.0.0' });
    (await bun(site, ['install', '--minimum-release-age', '86400'], { cwd: project })).refused(/minimum-release-age/);
  });

  shared.isToldThatAVersionExists(/You cannot publish over the previously published versions: 1\.1\.0/);

  shared.isToldWhyItMayNot({ nobody: /missing authentication/, liar: /unable to authenticate, need: Bearer/, reader: /403/ });

  shared.isToldWhatIsMissing((site, name, options) => bun(site, ['add', name], options), {
    noPackage: /no-such-package[^]*404/,
    noVersion: /No version matching "9\.9\.9"/,
  });

  shared.readsPrivately((site, options) => bun(site, ['install'], options), { nobody: /@private[^]*(401|404)/ });
});
