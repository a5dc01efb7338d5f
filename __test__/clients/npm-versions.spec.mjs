// The npm versions that are still about, each through the main path: 6, which is the last of its kind, and all later ones but 11, which the other files run.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertSigned, config, packument } from '../support/npm-manage.mjs';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

/** What few still use: that it works at all is shown once each. */
const rare = [7, 9];

for (const major of [6, 7, 8, 9, 10, 12]) {
  const { argv } = await client(`npm-${major}`);
  // What a lock file names, npm 12 runs and audits with the node it came with.
  const npm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

  const setUp = (site) => people(site, (url, token) => ({ '.npmrc': npmrc(url, token, major === 6 ? { 'always-auth': Boolean(token) } : {}) }));

  matrix(`npm ${major}`, { storages: rare.includes(major) ? ['local'] : few, protocol: 'npm', config, setUp, modes: ['listener'] }, (step) => {
    const common = rare.includes(major) ? () => {} : step;
    const publishing = async (site, manifest, args = []) => {
      const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
      (await npm(site, ['publish', ...args], { cwd: made.folder })).ok();
      return made;
    };

    step('says who is logged in, and answers ping', async (site) => {
      assert.equal((await npm(site, ['whoami'])).ok().stdout.trim(), 'alice');
      (await npm(site, ['whoami'], { as: 'liar' })).refused(/E401|ENEEDAUTH|npm login/);
      (await npm(site, ['ping'])).ok();
    });

    step('publishes unscoped, scoped, again and under a tag', async (site) => {
      site.widget = await publishing(site, { name: 'widget', version: '1.0.0' });
      site.gadget = await publishing(site, { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, ['--access', 'public']);
      site.newer = await publishing(site, { name: 'widget', version: '1.1.0' });
      await publishing(site, { name: 'widget', version: '2.0.0-beta.1' }, ['--tag', 'beta']);
      await assertIntegrity(site.registry.npm, '@acme/gadget', '0.1.0');
      const { 'dist-tags': tags } = await assertIntegrity(site.registry.npm, 'widget', '2.0.0-beta.1');
      assert.deepEqual(tags, { latest: '1.1.0', beta: '2.0.0-beta.1' });
    });

    common('is told that a version exists, and why it may not publish', async (site) => {
      const changed = await writePackage(await site.box.folder('changed'), { name: 'widget', version: '1.1.0', description: 'something else' });
      (await npm(site, ['publish', '--force'], { cwd: changed.folder })).refused(/cannot publish over the previously published versions?:? 1\.1\.0/i);
      (await npm(site, ['publish'], { cwd: site.widget.folder, as: 'reader' })).refused(/E403|cannot publish over/);
    });

    common('shows a package, and sets tags', async (site) => {
      assert.deepEqual((await npm(site, ['view', 'widget', 'versions', '--json'])).ok().json(), ['1.0.0', '1.1.0', '2.0.0-beta.1']);
      (await npm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok();
      (await npm(site, ['dist-tag', 'ls', 'widget'])).ok().shows(/stable: 1\.0\.0/);
      (await npm(site, ['dist-tag', 'rm', 'widget', 'stable'])).ok();
    });

    step('installs, and again from the lock file', async (site) => {
      site.project = await site.box.folder('project');
      await writeProject(site.project, { '@acme/gadget': '^0.1.0' });
      (await npm(site, ['install'], { cwd: site.project, as: 'nobody' })).ok();
      await assertInstalled(site.project, site.gadget);
      await assertInstalled(site.project, site.newer);
      await rm(join(site.project, 'node_modules'), { recursive: true });
      (await npm(site, ['ci', '--cache', join(site.box.home, 'empty-cache')], { cwd: site.project, as: 'nobody' })).ok();
      await assertInstalled(site.project, site.gadget);
    });

    common('deprecates, and lists owners', async (site) => {
      (await npm(site, ['deprecate', 'widget@1.0.0', 'too old'])).ok();
      assert.equal((await packument(site, 'widget')).versions['1.0.0'].deprecated, 'too old');
      (await npm(site, ['deprecate', 'widget@1.0.0', ''])).ok();
      assert.equal((await packument(site, 'widget')).versions['1.0.0'].deprecated, undefined);
      (await npm(site, ['owner', 'ls', 'widget'])).ok().shows(/alice/);
    });

    if (major < 12) {
      common('stars and unstars', async (site) => {
        (await npm(site, ['star', 'widget'])).ok();
        (await npm(site, ['stars'])).ok().shows(/widget/);
        (await npm(site, ['unstar', 'widget'])).ok();
        (await npm(site, ['stars'])).hides(/^widget$/m);
      });
    }

    step('is told of a vulnerability', async (site) => {
      await publishing(site, { name: 'weak', version: '1.0.0' });
      const project = await site.box.folder('audited');
      await writeProject(project, { weak: '1.0.0' });
      (await npm(site, ['install'], { cwd: project })).ok().shows(/1 high severity vulnerability/);
      const audited = (await npm(site, ['audit'], { cwd: project })).shows(/weak is too weak/);
      // npm 7 and 8 forget their exit code under this node.
      if (![7, 8].includes(major)) audited.refused(/1 high/);
    });

    step('finds every version signed', async (site) => {
      await assertSigned(site, 'widget');
      // Later ones ask for Sigstore's root of trust first, which provenance.spec.mjs has for them; earlier ones don't ask at all.
      if (major !== 8) return;
      (await npm(site, ['audit', 'signatures'], { cwd: site.project })).ok().shows(/2 packages have verified registry signatures/);
    });

    if (major === 12) {
      step('stages a version and approves it', async (site) => {
        const made = await writePackage(await site.box.folder('staged'), { name: 'widget', version: '3.0.0' });
        (await npm(site, ['stage', 'publish'], { cwd: made.folder })).ok();
        const listed = (await npm(site, ['stage', 'list', '--json'])).ok().json();
        const [{ id }] = Array.isArray(listed) ? listed : listed.items ?? Object.values(listed);
        (await npm(site, ['stage', 'approve', id])).ok();
        await assertIntegrity(site.registry.npm, 'widget', '3.0.0');
        (await npm(site, ['unpublish', 'widget@3.0.0'])).ok();
      });
    }

    step('unpublishes a version, and the package', async (site) => {
      (await npm(site, ['unpublish', 'widget@1.0.0'])).ok();
      assert.deepEqual(Object.keys((await packument(site, 'widget')).versions), ['1.1.0', '2.0.0-beta.1']);
      (await npm(site, ['unpublish', '@acme/gadget', '--force'])).ok();
      assert.equal((await packument(site, '@acme/gadget')).time.unpublished.name, 'alice');
    });
  });
}
