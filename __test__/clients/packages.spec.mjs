// The packages from a registry, as users get them: ours serves itself, every package manager installs it by its name and in place of the package that it
// replaces, and the quick start of that package's README runs there in both module systems.
import { after, before, describe, it } from 'node:test';
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { platformName, platforms, root } from '../../scripts/lib/paths.mjs';
import { pack } from '../../scripts/pack.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { write, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { startS3 } from '../support/s3.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { descriptorOf, snippet } from '../support/snippets.mjs';

const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const NAMES = ['smartregistry-native', '@push.rocks/smartregistry'];

const managers = {
  npm: { install: ['install'] },
  'pnpm-10': { install: ['install'], files: { 'pnpm-workspace.yaml': 'packages: []\nminimumReleaseAge: 0\n' } },
  'pnpm-12': { install: ['install'], files: { 'pnpm-workspace.yaml': 'packages: []\nminimumReleaseAge: 0\n' } },
  'yarn-berry': {
    install: ['install'],
    files: { 'yarn.lock': '' },
    env: (home) => ({ YARN_NPM_MINIMAL_AGE_GATE: '0', YARN_GLOBAL_FOLDER: join(home, 'yarn'), YARN_ENABLE_IMMUTABLE_INSTALLS: 'false' }),
  },
  bun: { install: ['install'] },
};

const yarnrc = (url) => [`npmRegistryServer: "${url}"`, 'unsafeHttpWhitelist: ["127.0.0.1"]', 'nodeLinker: node-modules', 'enableTelemetry: false', ''].join('\n');

/** Both module systems, both names, and what the quick start exports. */
const program = `
import { createRequire } from 'node:module';
const require = createRequire(import.meta.url);
for (const name of ${JSON.stringify(NAMES)}) {
  const one = (await import(name)).SmartRegistry === require(name).SmartRegistry;
  console.log(name, one ? 'has the same classes in both module systems' : 'has two classes');
}
const { SmartRegistry } = require('@push.rocks/smartregistry');
const esm = await import('./quick-start.mjs');
const commonjs = require('./quick-start.cjs');
await commonjs.done;
for (const [form, { registry, response }] of Object.entries({ esm, commonjs })) {
  console.log(form, response.status, registry instanceof SmartRegistry, registry.isInitialized());
  await registry.destroy();
}
`;

/** The other platforms' packages, with a text in place of an addon that can't be built here. */
async function forOthers(box) {
  const names = platforms.filter((name) => name !== platformName());
  return Promise.all(
    names.map(async (name) => {
      const folder = join(box.dir, 'others', name);
      await cp(join(root, 'npm', name), folder, { recursive: true });
      await write(folder, { [`smartregistry.${name}.node`]: 'not for this platform' });
      return folder;
    }),
  );
}

describe('the packages from a registry', { concurrency: 1 }, () => {
  let registry;
  let s3;
  let box;

  before(async () => {
    box = await sandbox('packages');
    s3 = await Promise.all(['moto', 'smarts3'].map(startS3));
    const elsewhere = (await run(['npm', 'config', 'get', 'registry'], { cwd: root, env: process.env })).ok().stdout.trim();
    const npm = { enabled: true, upstreams: [{ id: 'elsewhere', url: elsewhere, priority: 1, enabled: true }], private: ['smartregistry-native*'] };
    registry = await startRegistry('listener', 'local', { upstreams: { npm } });
    await registry.addUser('alice', 'correct-horse-7');
    const token = await registry.createToken('alice', 'npm');
    await write(box.home, { '.npmrc': npmrc(registry.npm, token), '.yarnrc.yml': yarnrc(registry.npm) });
    const { facade, platforms: [platform] } = await pack(join(box.dir, 'packed'), { only: platformName() });
    const { argv } = await client('npm');
    // As in a release all platforms' packages are there before the one that depends on them: yarn looks at each. What is for others is never unpacked here.
    for (const file of [platform, ...(await forOthers(box)), facade]) (await run([...argv, 'publish', file], { cwd: box.dir, env: box.env, seconds: 200 })).ok();
  }, { timeout: 400_000 });

  after(async () => {
    await registry?.stop();
    for (const server of s3 ?? []) await server.stop();
    await box.remove();
  });

  for (const [name, { install, files = {}, env = () => ({}) }] of Object.entries(managers)) {
    it(`are installed by ${name}, and the quick start runs`, { timeout: 300_000 }, async () => {
      const project = await box.folder(`with-${name}`);
      await writeProject(project, { [NAMES[0]]: version, [NAMES[1]]: `npm:smartregistry-native@${version}` });
      await write(project, files);
      const { argv } = await client(name);
      (await run([...argv, ...install], { cwd: project, env: { ...box.env, ...env(box.home) }, seconds: 250 })).ok();
      (await run(['find', '.', '-path', '*smartregistry-native-*', '-name', '*.node'], { cwd: project, env: box.env })).ok().shows(/^\S+\.node$/m).hides(new RegExp(`smartregistry\\.(?!${platformName()})\\S+\\.node`));
      for (const server of s3) {
        const values = descriptorOf(server.storage());
        await write(project, { 'quick-start.mjs': await snippet('quick-start', values), 'quick-start.cjs': await snippet('quick-start', values, 'commonjs'), 'run.mjs': program });
        const done = (await run([process.execPath, 'run.mjs'], { cwd: project, env: box.env })).ok();
        for (const each of NAMES) done.shows(new RegExp(`^${each} has the same classes in both module systems$`, 'm'));
        done.shows(/^esm 404 true true$/m).shows(/^commonjs 404 true true$/m);
      }
    });
  }

  it('run every program of the replaced README that is for what is built', { timeout: 300_000 }, async () => {
    const installed = join(box.dir, 'with-npm/node_modules', NAMES[1]);
    const { npm_config_nodedir: _, NODE_TEST_CONTEXT: __, ...env } = process.env;
    const argv = [process.execPath, '--test', '--test-reporter=spec', join(root, '__test__/api/readme.spec.mjs')];
    (await run(argv, { cwd: root, env: { ...env, SMARTREGISTRY_TEST_PACKAGE: installed }, seconds: 250 })).ok().shows(/pass [1-9]/).shows(/fail 0/).shows(/skipped 0/);
  });
});
