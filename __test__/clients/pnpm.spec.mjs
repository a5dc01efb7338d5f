// pnpm: version 10, which hands its writes to npm, and version 12, which speaks for itself in every command.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

for (const name of ['pnpm-10', 'pnpm-12']) {
  const { argv } = await client(name);
  const own = name === 'pnpm-12';

  const pnpm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

  const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

  matrix(name, { protocol: 'npm', setUp }, (step) => {
    const shared = npmSteps(step, {
      publish: (site, made, args = [], options = {}) => pnpm(site, ['publish', '--no-git-checks', ...args], { cwd: made.folder, ...options }),
      /** Takes packages of any age: what the tests publish is younger than the day that pnpm 12 waits by default. */
      completeProject: (project, age = 0) => write(project, { 'pnpm-workspace.yaml': `packages: []\nminimumReleaseAge: ${age}\n` }),
    });

    step('says who is logged in, and who is not', async (site) => {
      assert.equal((await pnpm(site, ['whoami'])).ok().stdout.trim(), 'alice');
      (await pnpm(site, ['whoami'], { as: 'liar' })).refused(/401|login|logged in/i);
    });

    step('answers ping', async (site) => {
      (await pnpm(site, ['ping'])).ok().shows(/PONG|pong/i);
    });

    shared.publishes();

    shared.shows(async (site) => (await pnpm(site, ['view', 'widget', '--json'])).ok().json());

    step('lists, sets and removes dist-tags', async (site) => {
      (await pnpm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok();
      (await pnpm(site, ['dist-tag', 'ls', 'widget'])).ok().shows(/beta: 2\.0\.0-beta\.1\nlatest: 1\.1\.0\nstable: 1\.0\.0/);
      (await pnpm(site, ['dist-tag', 'rm', 'widget', 'stable'])).ok();
      (await pnpm(site, ['dist-tag', 'ls', 'widget'])).ok().hides(/stable/);
    });

    const commands = {
      install: (site, options) => pnpm(site, ['install'], options),
      addBeta: (site, options) => pnpm(site, ['add', 'widget@beta'], options),
      async installLocked(site, options) {
        await rm(join(site.box.home, '.local'), { recursive: true, force: true });
        await rm(join(site.box.home, '.cache'), { recursive: true, force: true });
        return pnpm(site, ['install', '--frozen-lockfile'], options);
      },
    };
    shared.installs(commands, { '@acme/gadget': '^0.1.0', widget: '^1.0.0' });

    step('knows when each version was published', async (site) => {
      const project = await shared.projectOf(site, 'young', { widget: '^1.0.0' }, 1440);
      // Only a registry that states the time of every version lets pnpm judge their age.
      (await pnpm(site, ['install'], { cwd: project })).refused(/ERR_PNPM_NO_MATURE_MATCHING_VERSION|minimumReleaseAge/).hides(/MISSING_TIME/);
    });

    // pnpm 12 breaks the line.
    shared.isToldThatAVersionExists(/cannot publish over the previously published[\s│]+versions?:?[\s│]+1\.1\.0/i);

    shared.isToldWhyItMayNot({ nobody: own ? /401|auth/i : /ENEEDAUTH|E401/, liar: /401/, reader: /403/ });

    shared.isToldWhatIsMissing((site, name, options) => pnpm(site, ['add', name], options), {
      noPackage: /no-such-package[^]*404|404[^]*no-such-package/,
      noVersion: /ERR_PNPM_NO_MATCHING_VERSION[^]*widget@9\.9\.9/,
    });

    shared.readsPrivately((site, options) => pnpm(site, ['install'], options), { nobody: /401|404/ });

    step('logs in with user and password, and out', async (site) => {
      const answers = [
        [/username/i, 'alice'],
        [/password/i, password],
        ...(own ? [[/email/i, 'alice@example.com']] : []),
      ];
      (await pnpm(site, ['login'], { as: 'fresh', answers, terminal: own })).ok().shows(/Logged in/);
      assert.equal((await pnpm(site, ['whoami'], { as: 'fresh' })).ok().stdout.trim(), 'alice');
      (await pnpm(site, ['logout'], { as: 'fresh' })).ok();
      (await pnpm(site, ['whoami'], { as: 'fresh' })).refused(/ENEEDAUTH|login|logged in/i);
    });
  });
}
