// A package of another registry, through ours, by every client: shown, installed and audited; package managers that Corepack fetches; and the lock files of
// those who installed it from the public registry before.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { password } from '../support/matrix.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { config } from '../support/npm-manage.mjs';
import { assertInstalled, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { reader } from '../support/readers.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';

const programs = Object.fromEntries(await Promise.all(['npm', 'npm-8', 'npm-10', 'npm-12', 'corepack'].map(async (name) => [name, await client(name)])));

describe('packages of an upstream', { concurrency: 1 }, () => {
  const made = {};
  let box;
  let origin;
  let proxy;

  const env = (person) => ({ ...box.env, HOME: join(box.home, person), XDG_CONFIG_HOME: join(box.home, person, '.config') });
  const npm = (person, args, cwd = box.dir, version = 'npm') => run([...programs[version].argv, ...args], { cwd, env: env(person) });

  before(async () => {
    box = await sandbox('upstream');
    origin = await startRegistry('listener', 'local', config);
    const upstreams = { npm: { upstreams: [{ id: 'origin', url: origin.npm, priority: 1, enabled: true }] } };
    proxy = await startRegistry('listener', 'local', { upstreams });
    await origin.addUser('alice', password);
    await write(join(box.home, 'publisher'), { '.npmrc': npmrc(origin.npm, await origin.createToken('alice', 'npm')) });
    await write(join(box.home, 'reader'), { '.npmrc': npmrc(proxy.npm) });
    const manager = { bin: { pnpm: 'bin/pnpm.cjs', pnpx: 'bin/pnpm.cjs' } };
    const manifests = [
      { name: 'weak', version: '1.0.0' },
      { name: 'widget', version: '1.0.0' },
      { name: 'widget', version: '1.1.0', description: 'shown to whoever asks' },
      { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } },
      { name: 'pnpm', version: '9.1.0', ...manager },
      { name: 'pnpm', version: '9.2.0', ...manager },
    ];
    for (const manifest of manifests) {
      const one = await writePackage(await box.folder(`${manifest.name}-${manifest.version}`), manifest);
      if (manifest.name === 'pnpm') await write(one.folder, { 'bin/pnpm.cjs': `console.log('pnpm ${manifest.version} was asked for', process.argv.slice(2).join(' '));\n` });
      (await npm('publisher', ['publish', '--access=public'], one.folder)).ok();
      made[manifest.name] = one;
    }
  }, { timeout: 120_000 });
  after(async () => {
    for (const registry of [proxy, origin]) await registry?.stop();
    await box.remove();
  });

  it('npm installs one and says so as JSON', async () => {
    const folder = await box.folder('as-json');
    await writeProject(folder, { weak: '1.0.0', '@acme/gadget': '*' });
    const said = (await npm('reader', ['install', '--json'], folder)).ok().json();
    assert.deepEqual([said.added, said.removed, said.changed, said.audited], [3, 0, 0, 4]);
    assert.deepEqual([said.audit.vulnerabilities.high, said.audit.vulnerabilities.total, said.audit.dependencies.prod], [1, 1, 4]);
    for (const name of ['weak', '@acme/gadget', 'widget']) await assertInstalled(folder, made[name]);
    const audited = await npm('reader', ['audit', '--json'], folder);
    const report = audited.refused(/weak/).json();
    assert.deepEqual([report.auditReportVersion, Object.keys(report.vulnerabilities), report.metadata.vulnerabilities.total], [2, ['weak'], 1]);
    const { via: [known], isDirect } = report.vulnerabilities.weak;
    assert.deepEqual([known.title, known.url, known.range, isDirect], ['weak is too weak', 'https://advisories.example.com/GHSA-aaaa-bbbb-cccc', '<2.0.0', true]);
  });

  /** How each is asked for an audit. Yarn 1 asks a host of its own. */
  const audits = { 'pnpm-10': ['audit'], 'pnpm-12': ['audit'], 'yarn-berry': ['npm', 'audit'], bun: ['audit'], deno: ['audit'] };
  for (const [name, args] of Object.entries(audits)) {
    it(`${name} audits one that it has installed`, async () => {
      const mine = await reader(name, box, proxy.npm);
      const project = await mine.project('audited', { weak: '1.0.0', widget: '*' });
      (await mine.install(project)).ok();
      await assertInstalled(project, made.weak);
      await assertInstalled(project, made.widget);
      (await mine.run(args, project)).refused(/weak is too weak/).hides(/widget is/);
    });
  }

  /** How each is asked about a package, and what it makes of the answer. */
  const views = {
    npm: [['view', 'widget', '--json']],
    'pnpm-10': [['view', 'widget', '--json']],
    'pnpm-12': [['view', 'widget', '--json']],
    'yarn-classic': [['info', 'widget', '--json'], ({ data }) => data],
    'yarn-berry': [['npm', 'info', 'widget', '--json']],
    bun: [['info', 'widget', '--json']],
  };
  for (const [name, [args, of = (shown) => shown]] of Object.entries(views)) {
    it(`${name} shows one`, async () => {
      const mine = await reader(name, box, proxy.npm);
      const shown = of((await mine.run(args, await mine.project('shows', {}))).ok().json());
      assert.deepEqual([shown.name, shown.version, shown.versions, shown.description], ['widget', '1.1.0', ['1.0.0', '1.1.0'], 'shown to whoever asks']);
      assert.equal(shown.dist.tarball, `${proxy.npm}widget/-/widget-1.1.0.tgz`);
    });
  }

  it('Corepack fetches a package manager, and believes in its signature', async () => {
    const { keys } = await (await fetch(`${origin.npm}-/npm/v1/keys`)).json();
    const corepack = async (registry, args, trusted = keys) => {
      const home = await box.folder(`corepack-${registry.port}-${args.join('-').replace(/\W+/g, '-')}-${trusted.length}`);
      await write(home, { 'package.json': '{ "name": "managed", "private": true }' });
      const own = { COREPACK_HOME: join(home, 'cache'), COREPACK_NPM_REGISTRY: registry.npm, COREPACK_ENABLE_DOWNLOAD_PROMPT: '0', COREPACK_INTEGRITY_KEYS: JSON.stringify({ npm: trusted }) };
      return { done: await run([...programs.corepack.argv, ...args], { cwd: home, env: { ...box.env, ...own } }), home };
    };
    for (const registry of [origin, proxy]) {
      // Its address of the registry ends with a slash, to which it adds another.
      assert.match(registry.npm, /\/npm\/$/);
      (await corepack(registry, ['pnpm@9.1.0', 'run', 'x'])).done.ok().shows(/^pnpm 9\.1\.0 was asked for run x$/m);
      (await corepack(registry, ['pnpm@latest', '--version'])).done.ok().shows(/^pnpm 9\.2\.0 was asked for --version$/m);
      const { done, home } = await corepack(registry, ['use', 'pnpm@^9.0.0']);
      done.ok().shows(/^pnpm 9\.2\.0 was asked for install$/m);
      assert.match(JSON.parse(await readFile(join(home, 'package.json'), 'utf8')).packageManager, /^pnpm@9\.2\.0\+sha512\.[0-9a-f]{128}$/);
      (await corepack(registry, ['pnpm@9.1.0', 'run', 'x'], [])).done.refused(/not signed by any trusted keys/);
    }
  });

  it('npm installs from a lock file of the public registry', async () => {
    // What a home without settings takes for the registry is the one whose addresses npm replaces.
    const [lockedBy, target] = [await box.folder('locked'), { '@acme/gadget': '*' }];
    await writeProject(lockedBy, target);
    (await npm('reader', ['install'], lockedBy)).ok();
    const lock = await readFile(join(lockedBy, 'package-lock.json'), 'utf8');
    const usual = (await npm('nobody', ['config', 'get', 'registry'])).ok().stdout.trim();
    assert.notEqual(new URL(usual).host, proxy.host);
    const foreign = lock.replaceAll(proxy.npm, usual);
    assert.equal(foreign.match(/"resolved":/g).length, foreign.split(`"resolved": "${usual}`).length - 1);
    for (const version of ['npm-8', 'npm-10', 'npm', 'npm-12']) {
      const folder = await box.folder(`from-lock-${version}`);
      await writeProject(folder, target);
      await write(folder, { 'package-lock.json': foreign });
      (await npm('reader', ['ci', '--no-audit', '--cache', join(folder, 'cache')], folder, version)).ok();
      for (const name of ['@acme/gadget', 'widget']) await assertInstalled(folder, made[name]);
    }
  });

  it('npm 8 finds the signatures of those that it has installed good', async () => {
    const folder = await box.folder('signed');
    await writeProject(folder, { '@acme/gadget': '*' });
    (await npm('reader', ['install', '--no-audit'], folder, 'npm-8')).ok();
    (await npm('reader', ['audit', 'signatures'], folder, 'npm-8')).ok().shows(/2 packages have verified registry signatures/);
  });
});
