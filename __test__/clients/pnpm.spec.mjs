// pnpm: version 10, which hands its writes to npm, and version 12, which speaks for itself in every command.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertInstalled, assertIntegrity, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

for (const name of ['pnpm-10', 'pnpm-12']) {
  const { argv } = await client(name);
  const own = name === 'pnpm-12';

  const pnpm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

  const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));

  matrix(name, { protocol: 'npm', setUp }, (step) => {
    const publish = (site, made, args = [], options = {}) => pnpm(site, ['publish', '--no-git-checks', ...args], { cwd: made.folder, ...options });

    const publishing = async (site, manifest, args) => {
      const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
      (await publish(site, made, args)).ok();
      return made;
    };

    /** A project that takes packages of any age: what the tests publish is younger than the day that pnpm 12 waits by default. */
    const projectOf = async (site, folder, dependencies, age = 0) => {
      const project = await site.box.folder(folder);
      await writeProject(project, dependencies);
      await write(project, { 'pnpm-workspace.yaml': age === undefined ? 'packages: []\n' : `packages: []\nminimumReleaseAge: ${age}\n` });
      return project;
    };

    step('says who is logged in, and who is not', async (site) => {
      assert.equal((await pnpm(site, ['whoami'])).ok().stdout.trim(), 'alice');
      (await pnpm(site, ['whoami'], { as: 'liar' })).refused(/401|login|logged in/i);
    });

    step('answers ping', async (site) => {
      (await pnpm(site, ['ping'])).ok().shows(/PONG|pong/i);
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
      const shown = (await pnpm(site, ['view', 'widget', '--json'])).ok().json();
      assert.equal(shown.version, '1.1.0');
      assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
    });

    step('lists, sets and removes dist-tags', async (site) => {
      (await pnpm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok();
      (await pnpm(site, ['dist-tag', 'ls', 'widget'])).ok().shows(/beta: 2\.0\.0-beta\.1\nlatest: 1\.1\.0\nstable: 1\.0\.0/);
      (await pnpm(site, ['dist-tag', 'rm', 'widget', 'stable'])).ok();
      (await pnpm(site, ['dist-tag', 'ls', 'widget'])).ok().hides(/stable/);
    });

    step('installs into a fresh project', async (site) => {
      site.project = await projectOf(site, 'project', { '@acme/gadget': '^0.1.0', widget: '^1.0.0' });
      (await pnpm(site, ['install'], { cwd: site.project, as: 'nobody' })).ok();
      await assertInstalled(site.project, site.gadget);
      await assertInstalled(site.project, site.newer);
      (await pnpm(site, ['add', 'widget@beta'], { cwd: site.project, as: 'nobody' })).ok();
      await assertInstalled(site.project, site.beta);
    });

    step('installs what the lock file says, with an empty store', async (site) => {
      await rm(join(site.project, 'node_modules'), { recursive: true });
      await rm(join(site.box.home, '.local'), { recursive: true, force: true });
      await rm(join(site.box.home, '.cache'), { recursive: true, force: true });
      (await pnpm(site, ['install', '--frozen-lockfile'], { cwd: site.project, as: 'nobody' })).ok();
      await assertInstalled(site.project, site.gadget);
      await assertInstalled(site.project, site.beta);
    });

    step('knows when each version was published', async (site) => {
      const project = await projectOf(site, 'young', { widget: '^1.0.0' }, 1440);
      // Only a registry that states the time of every version lets pnpm judge their age.
      (await pnpm(site, ['install'], { cwd: project })).refused(/ERR_PNPM_NO_MATURE_MATCHING_VERSION|minimumReleaseAge/).hides(/MISSING_TIME/);
    });

    step('is told that a version exists', async (site) => {
      const changed = await writePackage(await site.box.folder('changed'), { name: 'widget', version: '1.1.0', description: 'something else' });
      (await publish(site, changed)).refused(/cannot publish over the previously published[\s│]+versions?:?[\s│]+1\.1\.0/i); // pnpm 12 breaks the line
      await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
    });

    step('is told why a publish without rights fails', async (site) => {
      const made = await writePackage(await site.box.folder('denied'), { name: 'denied', version: '1.0.0' });
      (await publish(site, made, [], { as: 'nobody' })).refused(own ? /401|auth/i : /ENEEDAUTH|E401/);
      (await publish(site, made, [], { as: 'liar' })).refused(/401/);
      (await publish(site, made, [], { as: 'reader' })).refused(/403/);
      assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
    });

    step('is told that a package or a version is missing', async (site) => {
      const project = await projectOf(site, 'missing', {});
      (await pnpm(site, ['add', 'no-such-package'], { cwd: project })).refused(/no-such-package[^]*404|404[^]*no-such-package/);
      (await pnpm(site, ['add', 'widget@9.9.9'], { cwd: project })).refused(/ERR_PNPM_NO_MATCHING_VERSION[^]*widget@9\.9\.9/);
    });

    step('reads a private package only with a token', async (site) => {
      const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
      const project = await projectOf(site, 'private', { '@private/secret': '1.0.0' });
      (await pnpm(site, ['install'], { cwd: project, as: 'nobody' })).refused(/401|404/);
      (await pnpm(site, ['install'], { cwd: project })).ok();
      await assertInstalled(project, secret);
    });

    step('logs in with user and password, and out', async (site) => {
      const answers = [
        [/username/i, 'alice'],
        [/password/i, password],
        ...(own ? [[/email/i, 'alice@example.com']] : []),
      ];
      (await pnpm(site, ['login'], { as: 'fresh', answers, terminal: own, seconds: 20 })).ok().shows(/Logged in/);
      assert.equal((await pnpm(site, ['whoami'], { as: 'fresh' })).ok().stdout.trim(), 'alice');
      (await pnpm(site, ['logout'], { as: 'fresh' })).ok();
      (await pnpm(site, ['whoami'], { as: 'fresh' })).refused(/ENEEDAUTH|login|logged in/i);
    });
  });
}
