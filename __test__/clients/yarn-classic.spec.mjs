// Yarn 1: asks for the abbreviated document everywhere, and needs a truthy answer to all it sends.
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { writePackage } from '../support/packages.mjs';
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
  const shared = npmSteps(step, {
    publish: (site, made, args = [], options = {}) =>
      yarn(site, ['publish', '--non-interactive', '--no-git-tag-version', '--new-version', made.version, ...args], { cwd: made.folder, ...options }),
    published: () => /Published/,
  });

  shared.publishes();

  shared.shows(async (site) => {
    const [{ data: shown }] = lines(await yarn(site, ['info', 'widget', '--json']));
    return shown;
  });

  step('lists, sets and removes tags', async (site) => {
    (await yarn(site, ['tag', 'add', 'widget@1.0.0', 'stable'])).ok().shows(/stable/);
    (await yarn(site, ['tag', 'list', 'widget'])).ok().shows(/beta.*2\.0\.0-beta\.1/).shows(/latest.*1\.1\.0/).shows(/stable.*1\.0\.0/);
    (await yarn(site, ['tag', 'remove', 'widget', 'stable'])).ok();
    (await yarn(site, ['tag', 'list', 'widget'])).ok().hides(/stable/);
  });

  shared.installs({
    install: (site, options) => yarn(site, ['install'], options),
    addBeta: (site, options) => yarn(site, ['add', 'widget@beta'], options),
    installLocked: (site, options) => yarn(site, ['install', '--frozen-lockfile', '--cache-folder', join(site.box.home, 'empty-cache')], options),
  });

  shared.isToldThatAVersionExists(/You cannot publish over the previously published versions: 1\.1\.0/);

  shared.isToldWhyItMayNot({ liar: /Couldn't publish package/, reader: /Couldn't publish package/ });

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

  shared.isToldWhatIsMissing((site, name, options) => yarn(site, ['add', name], options), {
    noPackage: /no-such-package: Not found/,
    noVersion: /Couldn't find any versions for "widget" that matches "9\.9\.9"/,
  });

  shared.readsPrivately((site, options) => yarn(site, ['install'], options), { nobody: /@private/ });

  step('adds and lists owners', async (site) => {
    await site.registry.addUser('bob', password);
    (await yarn(site, ['owner', 'add', 'bob', 'widget'])).ok();
    // It reads no owners before it adds one: those who are there must stay all the same.
    (await yarn(site, ['owner', 'list', 'widget'])).ok().shows(/alice/).shows(/bob/);
  });
});
