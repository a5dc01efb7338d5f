// Yarn 4: puts the attachment first in what it publishes, computes tarball paths by itself, and waits a day before it takes a new version.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { write } from '../support/packages.mjs';
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
  /** It makes a folder a project of its own. */
  const emptyLockFile = { 'yarn.lock': '' };
  const shared = npmSteps(step, {
    publish: (site, made, args = [], options = {}) => yarn(site, ['npm', 'publish', ...args], { cwd: made.folder, ...options }),
    published: () => /Package archive published/,
    async completePackage(site, cwd) {
      await write(cwd, emptyLockFile);
      (await yarn(site, ['install'], { cwd })).ok();
    },
    completeProject: (project) => write(project, emptyLockFile),
  });

  step('says who is logged in, and who is not', async (site) => {
    (await yarn(site, ['npm', 'whoami'])).ok().shows(/alice/);
    (await yarn(site, ['npm', 'whoami'], { as: 'liar' })).refused(/Invalid authentication/);
  });

  shared.publishes();

  shared.shows(async (site) => (await yarn(site, ['npm', 'info', 'widget', '--json'], { cwd: site.widget.folder })).json());

  step('lists, sets and removes tags', async (site) => {
    const { folder: cwd } = site.widget;
    (await yarn(site, ['npm', 'tag', 'add', 'widget@1.0.0', 'stable'], { cwd })).ok();
    (await yarn(site, ['npm', 'tag', 'list', 'widget'], { cwd })).ok().shows(/beta.*2\.0\.0-beta\.1/).shows(/latest.*1\.1\.0/).shows(/stable.*1\.0\.0/);
    (await yarn(site, ['npm', 'tag', 'remove', 'widget', 'stable'], { cwd })).ok();
    (await yarn(site, ['npm', 'tag', 'list', 'widget'], { cwd })).ok().hides(/stable/);
  });

  shared.installs({
    install: (site, options) => yarn(site, ['install'], options),
    addBeta: (site, options) => yarn(site, ['add', 'widget@beta'], options),
    async installLocked(site, options) {
      await rm(join(site.box.home, 'yarn'), { recursive: true });
      return yarn(site, ['install', '--immutable'], options);
    },
  });

  step('knows when each version was published', async (site) => {
    const project = await shared.projectOf(site, 'young', { widget: '^1.0.0' });
    (await yarn(site, ['install'], { cwd: project, age: '1d' })).refused(/quarantined/);
  });

  shared.isToldThatAVersionExists(/You cannot publish over the previously published versions: 1\.1\.0/);

  shared.isToldWhyItMayNot({ nobody: /No authentication configured/, liar: /Invalid authentication/, reader: /YN0035|403|Forbidden/ });

  shared.isToldWhatIsMissing((site, name, options) => yarn(site, ['add', name], options), {
    noPackage: /no-such-package[^]*(Package not found|404)/,
    noVersion: /widget@npm:9\.9\.9/,
  });

  shared.readsPrivately((site, options) => yarn(site, ['install'], options), { nobody: /@private\/secret/ });

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
