// Deno: a reader of npm packages that asks for full documents and by default waits a day before it takes a new version.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { npmSteps } from '../support/npm-steps.mjs';
import { assertInstalled } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('deno');
const { argv: npm } = await client('npm');

const deno = (site, args, { cwd = site.box.dir, as = 'nobody', ...more } = {}) =>
  run([...argv, ...args], { cwd, env: { ...site.as(as), DENO_DIR: site.denoDir, DENO_NO_UPDATE_CHECK: '1' }, ...more });

const setUp = async (site) => {
  await people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));
  site.denoDir = join(site.box.home, 'deno');
};

const anyAge = '--minimum-dependency-age=0';

matrix('deno', { protocol: 'npm', setUp }, (step) => {
  const { publishing, projectOf, ...shared } = npmSteps(step, {
    /** Deno publishes to no npm registry, so npm does. */
    publish: (site, made, args = []) => run([...npm, 'publish', ...args], { cwd: made.folder, env: site.as('owner') }),
  });

  step('installs into a fresh project', async (site) => {
    site.widget = await publishing(site, { name: 'widget', version: '1.0.0' });
    site.gadget = await publishing(site, { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, ['--access', 'public']);
    site.beta = await publishing(site, { name: 'widget', version: '2.0.0-beta.1' }, ['--tag', 'beta']);
    site.project = await projectOf(site, 'project', { '@acme/gadget': '^0.1.0', widget: '^1.0.0' });
    (await deno(site, ['install', anyAge], { cwd: site.project })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.widget);
    (await deno(site, ['add', anyAge, 'npm:widget@beta'], { cwd: site.project })).ok();
    await assertInstalled(site.project, site.beta);
  });

  step('installs what the lock file says, with an empty cache', async (site) => {
    await rm(join(site.project, 'node_modules'), { recursive: true });
    await rm(site.denoDir, { recursive: true });
    (await deno(site, ['install', '--frozen', anyAge], { cwd: site.project })).ok();
    await assertInstalled(site.project, site.gadget);
    await assertInstalled(site.project, site.beta);
  });

  step('runs a program with an npm import', async (site) => {
    (await deno(site, ['run', anyAge, '--allow-read', '--allow-env', 'npm:widget@1.0.0/run-widget'])).ok().shows(/^widget 1\.0\.0$/m);
  });

  step('sees what is outdated', async (site) => {
    const project = await projectOf(site, 'outdated', { widget: '1.0.0' });
    await publishing(site, { name: 'widget', version: '1.1.0' });
    // A document in the cache would hide the version that was just published.
    await rm(site.denoDir, { recursive: true });
    (await deno(site, ['install', anyAge], { cwd: project })).ok();
    (await deno(site, ['outdated', anyAge], { cwd: project })).ok().shows(/npm:widget[^\n]*1\.0\.0[^\n]*1\.1\.0/);
  });

  step('knows when each version was published', async (site) => {
    const project = await projectOf(site, 'young', { widget: '^1.0.0' });
    (await deno(site, ['install'], { cwd: project })).refused(/minimum[ -]dependency[ -](age|date)/i);
  });

  shared.isToldWhatIsMissing((site, name, options) => deno(site, ['add', anyAge, `npm:${name}`], options), {
    noPackage: /no-such-package/,
    noVersion: /9\.9\.9/,
  });

  shared.readsPrivately((site, options) => deno(site, ['install', anyAge], options), { nobody: /@private\/secret/, liar: /@private\/secret/ });
});
