// pnpm: what comes after publishing. Versions 11 and 12 speak for themselves in all of it, version 10 through npm but for its audit.
import assert from 'node:assert/strict';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { config, packument } from '../support/npm-manage.mjs';
import { assertIntegrity, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

for (const name of ['pnpm-10', 'pnpm-11', 'pnpm-12']) {
  const { argv } = await client(name);
  const own = name !== 'pnpm-10';
  // 11 and 12 say nearly the same to a registry, and 11 takes its time: it says what only the two say, once.
  const where = name === 'pnpm-11' ? { storages: ['local'], modes: ['listener'] } : { storages: few };

  const pnpm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

  const setUp = async (site) => {
    await people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));
    await site.registry.addUser('bob', password);
  };

  matrix(`${name}, after publishing`, { ...where, protocol: 'npm', config, setUp }, (step) => {
    const publishing = async (site, manifest) => {
      const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
      (await pnpm(site, ['publish', '--no-git-checks'], { cwd: made.folder })).ok();
      return made;
    };
    const projectOf = async (site, folder, dependencies) => {
      const project = await site.box.folder(folder);
      await writeProject(project, dependencies);
      await write(project, { 'pnpm-workspace.yaml': 'packages: []\nminimumReleaseAge: 0\n' });
      return project;
    };
    /** How many PUT requests were taken so far. Only the listener counts. */
    const puts = async (site) => {
      const text = await (await fetch(`${site.registry.url}/-/metrics`)).text();
      return Number(text.match(/^smartregistry_requests_total\{protocol="npm",method="PUT",status="2xx"\} (\d+)$/m)?.[1] ?? 0);
    };
    const versions = async (site) => Object.keys((await packument(site, 'widget')).versions);

    step('deprecates, and takes it back', async (site) => {
      for (const version of ['1.0.0', '1.1.0', '1.2.0', '2.0.0']) await publishing(site, { name: 'widget', version });
      (await pnpm(site, ['deprecate', 'widget@1.0.0', 'too old'])).ok();
      const after = await packument(site, 'widget');
      assert.deepEqual([after.versions['1.0.0'].deprecated, after.versions['1.1.0'].deprecated], ['too old', undefined]);
      (await pnpm(site, own ? ['undeprecate', 'widget@1.0.0'] : ['deprecate', 'widget@1.0.0', ''])).ok();
      assert.equal((await packument(site, 'widget')).versions['1.0.0'].deprecated, undefined);
      (await pnpm(site, ['deprecate', 'widget@1.0.0', 'x'], { as: 'reader' })).refused(own ? /FORBIDDEN[^]*this token[\s│]+is read-only/ : /E403[^]*read-only/);
    });

    if (name !== 'pnpm-11') {
      step('adds and removes owners', async (site) => {
        // The two agree neither on the order nor on the endpoint.
        const said = (user) => (own ? ['widget', user] : [user, 'widget']);
        (await pnpm(site, ['owner', 'add', ...said('bob')])).ok();
        (await pnpm(site, ['owner', 'ls', 'widget'])).ok().shows(/alice/).shows(/bob/);
        (await pnpm(site, ['owner', 'rm', ...said('bob')])).ok();
        (await pnpm(site, ['owner', 'ls', 'widget'])).ok().hides(/bob/);
        (await pnpm(site, ['owner', 'rm', ...said('alice')])).refused(own ? /must[\s│]+keep[\s│]+at[\s│]+least[\s│]+one[\s│]+owner/ : /Cannot remove all owners/);
        assert.equal((await versions(site)).length, 4);
      });

      step('stars and unstars', async (site) => {
        (await pnpm(site, ['star', 'widget'])).ok();
        assert.deepEqual((await packument(site, 'widget')).users, { alice: true });
        (await pnpm(site, ['stars'])).ok().shows(/widget/);
        (await pnpm(site, ['unstar', 'widget'])).ok();
        assert.equal((await packument(site, 'widget')).users, undefined);
      });

      step('finds what is here', async (site) => {
        const found = (await pnpm(site, ['search', 'widget', '--json'])).ok().json();
        assert.deepEqual(found.map((one) => [one.name, one.version]), [['widget', '2.0.0']]);
        (await pnpm(site, ['search', 'widget'])).ok().shows(/widget/).shows(/test package widget/);
        (await pnpm(site, ['search', 'nothing-like-it'])).ok().shows(/No (matches|packages) found/i);
      });
    }

    step('is told of a vulnerability', async (site) => {
      await publishing(site, { name: 'weak', version: '1.0.0' });
      site.project = await projectOf(site, 'audited', { weak: '1.0.0', widget: '1.0.0' });
      (await pnpm(site, ['install'], { cwd: site.project })).ok();
      (await pnpm(site, ['audit'], { cwd: site.project })).refused(/weak is too weak/);
    });

    if (own) {
      step('finds every version signed', async (site) => {
        (await pnpm(site, ['audit', 'signatures'], { cwd: site.project })).ok().shows(/2 packages?/);
      });

      step('publishes a workspace in one request, all or nothing', async (site) => {
        const workspace = await site.box.folder('workspace');
        await write(workspace, { 'pnpm-workspace.yaml': 'packages: ["packages/*"]\n', 'package.json': '{ "name": "root", "private": true }' });
        for (const [at, name] of ['@acme/one', 'two'].entries()) await writePackage(await site.box.folder(`workspace/packages/${at}`), { name, version: '1.0.0' });
        (await pnpm(site, ['publish', '-r', '--batch', '--no-git-checks'], { cwd: workspace, as: 'reader' })).refused(/403|read-only/);
        const before = await puts(site);
        (await pnpm(site, ['publish', '-r', '--batch', '--no-git-checks'], { cwd: workspace })).ok();
        if (site.registry.mode === 'listener') assert.equal((await puts(site)) - before, 1);
        for (const name of ['@acme/one', 'two']) await assertIntegrity(site.registry.npm, name, '1.0.0');
      });

      step('stages a version and approves it', async (site) => {
        const made = await writePackage(await site.box.folder('staged'), { name: 'widget', version: '3.0.0' });
        (await pnpm(site, ['stage', 'publish', '--no-git-checks'], { cwd: made.folder })).ok();
        const listed = (await pnpm(site, ['stage', 'list', '--json'])).ok().json();
        const { id } = (Array.isArray(listed) ? listed : listed.items ?? Object.values(listed))[0];
        (await pnpm(site, ['stage', 'approve', id])).ok();
        await assertIntegrity(site.registry.npm, 'widget', '3.0.0');
      });
    }

    step('unpublishes one version, several at once, and the package', async (site) => {
      (await pnpm(site, ['unpublish', 'widget@1.0.0'])).ok();
      assert.equal((await versions(site)).includes('1.0.0'), false);
      if (own) {
        (await pnpm(site, ['unpublish', 'widget@1.x'])).ok();
        assert.deepEqual(await versions(site), ['2.0.0', '3.0.0']);
        for (const gone of ['1.1.0', '1.2.0']) assert.equal((await fetch(`${site.registry.npm}widget/-/widget-${gone}.tgz`)).status, 404);
      }
      (await pnpm(site, ['unpublish', 'widget', '--force'])).ok();
      assert.equal((await packument(site, 'widget')).time.unpublished.name, 'alice');
    });
  });
}
