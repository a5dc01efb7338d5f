// npm and pnpm install through a registry that has nothing of its own: from a second registry, through a chain of two, and from what was cached while
// the first is gone.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { cli } from '../../scripts/lib/paths.mjs';
import { breakingLine } from '../support/breaking-line.mjs';
import { few } from '../support/matrix.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { assertSigned } from '../support/npm-manage.mjs';
import { assertInstalled, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';

const [npm, pnpm] = await Promise.all([client('npm'), client('pnpm-12')]);

/** How often a registry was asked for something of npm's. */
async function asked(registry) {
  const text = await (await fetch(`${registry.url}/-/metrics`)).text();
  const lines = [...text.matchAll(/^smartregistry_requests_total\{protocol="npm".*\} (\d+)$/gm)];
  return lines.reduce((sum, [, count]) => sum + Number(count), 0);
}

const upstreams = (url, more = {}) => ({
  npm: { upstreams: [{ id: 'origin', url, priority: 1, enabled: true }], resilience: { timeoutMs: 5000, maxRetries: 1, retryDelayMs: 50 }, ...more },
});

for (const storage of few.filter((name) => process.env.SMARTREGISTRY_TEST_STORAGES?.split(',').includes(name) ?? true)) {
  describe(`npm through a proxy, ${storage}`, { concurrency: 1 }, () => {
    let origin;
    let proxy;
    let edge;
    let box;
    let published;
    let folders = 0;

    before(async () => {
      box = await sandbox(`proxy-${storage}`);
      origin = await startRegistry('listener', 'local');
      proxy = await startRegistry('listener', storage, { upstreams: upstreams(origin.npm) });
      edge = await startRegistry('express', 'local', { upstreams: upstreams(proxy.npm) });
      await home('publisher', origin, await tokenOf(origin));
      await home('local', proxy, await tokenOf(proxy));
      await home('reader', proxy);
      await home('far', edge);
      published = {};
      for (const [name, version] of [['widget', '1.0.0'], ['widget', '1.1.0'], ['@acme/gadget', '0.1.0']]) {
        const made = await writePackage(await box.folder(`${name}-${version}`), { name, version, dependencies: name === 'widget' ? {} : { widget: '^1.0.0' } });
        (await as('publisher', ['publish', '--access=public'], made.folder)).ok();
        published[`${name}@${version}`] = made;
      }
    }, { timeout: 120_000 });

    after(async () => {
      for (const registry of [edge, proxy, origin]) await registry?.stop();
      await box.remove();
    });

    async function tokenOf(registry) {
      await registry.addUser('alice', 'correct-horse-7');
      return registry.createToken('alice', 'npm');
    }

    const home = (person, registry, token) => write(join(box.home, person), { '.npmrc': npmrc(registry.npm, token) });
    const env = (person) => ({ ...box.env, HOME: join(box.home, person), XDG_CONFIG_HOME: join(box.home, person, '.config') });
    const as = (person, args, cwd) => run([...npm.argv, ...args, '--cache', join(box.home, `cache-${(folders += 1)}`)], { cwd, env: env(person) });

    async function project(dependencies, more) {
      const folder = await box.folder(`project-${(folders += 1)}`);
      await writeProject(folder, dependencies, more);
      return folder;
    }

    let locked;
    it('installs what it never saw', async () => {
      locked = await project({ '@acme/gadget': '*' });
      (await as('reader', ['install'], locked)).ok().shows(/added 2 packages/);
      await assertInstalled(locked, published['@acme/gadget@0.1.0']);
      await assertInstalled(locked, published['widget@1.1.0']);
      const lock = await readFile(join(locked, 'package-lock.json'), 'utf8');
      assert.ok(lock.includes(proxy.npm) && !lock.includes(origin.npm), lock);
    });

    it('asks nobody for what it has', async () => {
      // pnpm asks for itself too, and that it is not there is remembered.
      const withPnpm = async (store) => run([...pnpm.argv, 'install', '--store-dir', join(box.home, store)], { cwd: await project({ '@acme/gadget': '*' }), env: env('reader') });
      (await withPnpm('store-0')).ok();
      const before = await asked(origin);
      // An audit is asked for anew each time.
      (await as('reader', ['ci', '--no-audit'], locked)).ok();
      (await withPnpm('store-1')).ok();
      assert.equal(await asked(origin), before);
    });

    it('installs through a chain of two', async () => {
      const folder = await project({ '@acme/gadget': '0.1.0' });
      (await as('far', ['install'], folder)).ok();
      await assertInstalled(folder, published['widget@1.1.0']);
    });

    it('keeps signatures that can be checked', async () => {
      for (const name of ['widget', '@acme/gadget']) await assertSigned({ registry: proxy }, name);
    });

    it('finds what the other has', async () => {
      (await as('reader', ['search', 'gadget', '--json'], locked)).ok().shows(/@acme\/gadget/);
      (await as('reader', ['view', 'widget', 'versions', '--json'], locked)).ok().shows(/1\.1\.0/);
    });

    it('never gives a stranger the name of a package that is here', async () => {
      const own = await writePackage(await box.folder('inside'), { name: 'inside', version: '1.0.0' });
      (await as('local', ['publish'], own.folder)).ok();
      const stranger = await writePackage(await box.folder('stranger'), { name: 'inside', version: '99.0.0' });
      (await as('publisher', ['publish'], stranger.folder)).ok();
      const folder = await project({ inside: '*' });
      (await as('reader', ['install'], folder)).ok();
      await assertInstalled(folder, own);
      (await as('reader', ['install', 'inside@99.0.0'], folder)).refused(/ETARGET|No matching version/);
    });

    it('says why a name can not be taken', async () => {
      const made = await writePackage(await box.folder('shadow'), { name: 'widget', version: '7.0.0' });
      (await as('local', ['publish'], made.folder)).refused(/widget is a package of upstream origin/);
    });

    it('is warmed and purged by the command line while it runs', async () => {
      const made = await writePackage(await box.folder('late'), { name: 'late', version: '1.0.0' });
      (await as('publisher', ['publish'], made.folder)).ok();
      const cache = (...args) => run([process.execPath, cli, 'cache', ...args, '--config', proxy.file], { cwd: box.dir, env: box.env });
      (await cache('warm', 'npm', 'late@^1')).ok().shows(/^npm: late@\^1: fetched 1 file$/m);
      (await cache('warm', 'npm', 'late@^1')).ok().shows(/^npm: late@\^1: is here$/m);
      (await cache('warm', 'npm', 'nothing-of-that-name')).refused(/error: Not found/i);
      (await cache('purge', 'npm', 'late')).ok().shows(/^npm: removed [1-9]\d* objects$/m);
    });

    it('holds versions back that are blocked, and tells why', async () => {
      const strict = await startRegistry('listener', 'local', { upstreams: upstreams(origin.npm, { policy: { block: [{ name: 'widget', versions: '>=1.1', reason: 'it eats batteries' }] } }) });
      try {
        await home('strict', strict);
        const folder = await project({ widget: '^1.0.0' });
        (await as('strict', ['install'], folder)).ok();
        await assertInstalled(folder, published['widget@1.0.0']);
        (await as('strict', ['install', 'widget@1.1.0'], folder)).refused(/it eats batteries/);
      } finally {
        await strict.stop();
      }
    });

    it('installs over a line that breaks', async () => {
      // Three connections of four are cut, in the head of an answer or within a file.
      const line = await breakingLine(origin.npm, { after: (n) => (n % 4 === 0 ? Infinity : [300, 20_000, 90_000][n % 4 - 1]) });
      const fragile = await startRegistry('listener', 'local', { upstreams: upstreams(line.url, { resilience: { timeoutMs: 5000, maxRetries: 8, retryDelayMs: 10, circuitBreakerThreshold: 1000 } }) });
      try {
        await write(join(box.home, 'fragile'), { '.npmrc': npmrc(fragile.npm, undefined, { 'fetch-retries': 12, 'fetch-retry-mintimeout': 20, 'fetch-retry-maxtimeout': 100 }) });
        const folder = await project({ '@acme/gadget': '*' });
        (await as('fragile', ['install'], folder)).ok();
        await assertInstalled(folder, published['@acme/gadget@0.1.0']);
        await assertInstalled(folder, published['widget@1.1.0']);
        assert.ok(line.cuts() > 0, 'the line was cut');
      } finally {
        await fragile.stop();
        line.stop();
      }
    });

    it('goes on while the other is gone', async () => {
      process.kill(origin.pid, 'SIGKILL');
      (await as('reader', ['ci'], locked)).ok();
      await assertInstalled(locked, published['@acme/gadget@0.1.0']);
      const folder = await project({ '@acme/gadget': '*' });
      (await run([...pnpm.argv, 'install', '--store-dir', join(box.home, 'store-2')], { cwd: folder, env: env('reader') })).ok();
      (await as('far', ['install'], await project({ widget: '1.1.0' }))).ok();
      (await as('reader', ['install', 'never-seen'], folder)).refused(/503|upstream origin gave no answer/);
    });
  });
}

/** The registry that npm asks here by itself, if it answers. */
async function outside() {
  const box = await sandbox('outside');
  const found = await run([...npm.argv, 'config', 'get', 'registry'], { cwd: box.dir, env: { ...box.env, HOME: process.env.HOME ?? box.home } });
  await box.remove();
  const url = found.stdout.trim();
  const answer = await fetch(new URL('is-odd', url), { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
  return answer?.ok ? url : undefined;
}

const url = await outside();
it('installs from the public registry, cold, warm and without it', { skip: url ? false : 'the public registry does not answer from here', timeout: 240_000 }, async () => {
  const box = await sandbox('public');
  const from = (where) => (base) => ({
    ...base,
    storage: { type: 'local', path: join(box.dir, 'data') },
    upstreams: { npm: { upstreams: [{ id: 'public', url: where, priority: 1, enabled: true }], resilience: { timeoutMs: 20_000, maxRetries: 1 } } },
  });
  const install = async (registry, folder) => {
    await writeProject(await box.folder(folder), { 'is-odd': '3.0.1', express: '4.21.2' });
    await write(box.home, { '.npmrc': npmrc(registry.npm) });
    (await run([...npm.argv, 'install', '--cache', join(box.home, `cache-${folder}`)], { cwd: await box.folder(folder), env: box.env, seconds: 120 })).ok();
  };
  try {
    const proxy = await startRegistry('listener', 'local', from(url));
    try {
      for (const folder of ['cold', 'warm']) await install(proxy, folder);
    } finally {
      await proxy.stop();
    }
    // Nobody listens there.
    const alone = await startRegistry('listener', 'local', from('http://127.0.0.1:9/'));
    try {
      await install(alone, 'alone');
    } finally {
      await alone.stop();
    }
  } finally {
    await box.remove();
  }
});
