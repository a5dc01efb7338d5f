// The packages as users get them: packed, installed elsewhere, loaded by both module systems; and the rules that the binding keeps.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { platformName } from '../../scripts/lib/paths.mjs';
import { pack } from '../../scripts/pack.mjs';
import { run } from '../support/process.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));

describe('the packed package', () => {
  it('installs under both names and works in both module systems', { timeout: 300_000 }, async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'smartregistry-packed-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    const { facade, platforms } = await pack(join(dir, 'packed'), { local: true });
    const dependencies = { 'smartregistry-native': `file:${facade}`, '@push.rocks/smartregistry': `file:${facade}`, [`smartregistry-native-${platformName()}`]: `file:${platforms[0]}` };
    await writeFile(join(dir, 'package.json'), JSON.stringify({ name: 'user', private: true, dependencies }));
    const { npm_config_nodedir: _, ...env } = process.env;
    (await run(['npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', '--no-save'], { cwd: dir, env, seconds: 200 })).ok();
    const use = `
      const registry = new SmartRegistry({ storage: { type: 'memory' }, auth: { jwtSecret: 'a secret that is long enough' }, npm: { enabled: true } });
      registry.init().then(() => registry.handleRequest({ method: 'GET', path: '/npm/-/ping', headers: {}, query: {} })).then((answer) => console.log('answered', answer.status, same));`;
    await writeFile(join(dir, 'use.cjs'), `const { SmartRegistry } = require('smartregistry-native'); const same = require('@push.rocks/smartregistry').SmartRegistry !== undefined; ${use}`);
    await writeFile(join(dir, 'use.mjs'), `import { createRequire } from 'node:module'; import { SmartRegistry } from 'smartregistry-native'; const same = createRequire(import.meta.url)('smartregistry-native').SmartRegistry === SmartRegistry; ${use}`);
    for (const file of ['use.cjs', 'use.mjs']) (await run([process.execPath, file], { cwd: dir, env })).ok().shows(/answered 200 true/);
    for (const [name, ...flags] of [['bun'], ['deno', 'run', '-A']]) {
      const { argv } = await client(name);
      (await run([...argv, ...flags, 'use.mjs'], { cwd: dir, env })).ok().shows(/answered 200 true/);
    }
    (await run([join(dir, 'node_modules/.bin/smartregistry-native'), '--version'], { cwd: dir, env })).ok().shows(new RegExp(manifest.version));
  });

  it('says what is missing where there is no addon, with every attempt as the cause', async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'smartregistry-bare-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    await writeFile(join(dir, 'binding.cjs'), await readFile(join(root, 'js/binding.cjs')));
    const program = `try { require(${JSON.stringify(join(dir, 'binding.cjs'))}) } catch (error) { console.log(error.message); for (let c = error.cause; c; c = c.cause) console.log('because', c.code) }`;
    const { output } = (await run([process.execPath, '--eval', program], { cwd: dir, env: { PATH: process.env.PATH } })).ok();
    assert.match(output, /there is no addon for \S+; reinstall with optional dependencies, or build it/);
    assert.equal(output.match(/because MODULE_NOT_FOUND/g).length, 2);
    const elsewhere = await run([process.execPath, '--eval', program], { cwd: dir, env: { PATH: process.env.PATH, NAPI_RS_NATIVE_LIBRARY_PATH: join(root, `smartregistry.${platformName()}.node`) } });
    assert.equal(elsewhere.ok().output, '');
  });

  it('has one version in all its parts', async () => {
    const cargo = await readFile(join(root, 'Cargo.toml'), 'utf8');
    assert.equal(/^version = "(.+)"$/m.exec(cargo)[1], manifest.version);
    for (const name of await readdir(join(root, 'npm'))) {
      const platform = JSON.parse(await readFile(join(root, 'npm', name, 'package.json'), 'utf8'));
      assert.deepEqual([platform.name, platform.version, platform.main], [`smartregistry-native-${name}`, manifest.version, `smartregistry.${name}.node`]);
    }
  });
});

describe('the binding', () => {
  it('catches a panic in every function that JavaScript calls', async () => {
    // Without `catch_unwind` a panic in a synchronous function ends the process.
    for (const name of await readdir(join(root, 'src/node'))) {
      const lines = (await readFile(join(root, 'src/node', name), 'utf8')).split('\n');
      lines.forEach((line, at) => {
        const attribute = /^\s*#\[napi(?:\((.*)\))?\]$/.exec(line);
        if (!attribute || /\bobject\b/.test(attribute[1] ?? '')) return;
        const item = lines.slice(at + 1).find((next) => !/^\s*(#\[|\/\/)/.test(next));
        if (/\bfn\b/.test(item) && !/\basync fn\b/.test(item)) assert.match(attribute[1] ?? '', /\bcatch_unwind\b/, `${name}:${at + 1}: ${item.trim()}`);
      });
    }
  });

  it('is the only importer of napi', async () => {
    for (const entry of await readdir(join(root, 'src'), { recursive: true })) {
      if (!entry.endsWith('.rs') || entry.startsWith('node')) continue;
      assert.doesNotMatch(await readFile(join(root, 'src', entry), 'utf8'), /\bnapi(_derive)?::/, entry);
    }
  });
});
