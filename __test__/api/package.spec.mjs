// The packages as users get them: packed, installed elsewhere, loaded by both module systems; and the rules that the binding keeps.
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'node:test';
import { createGunzip } from 'node:zlib';
import tar from 'tar-stream';
import { client } from '../../scripts/clients.mjs';
import { platformName, platforms } from '../../scripts/lib/paths.mjs';
import { pack } from '../../scripts/pack.mjs';
import { run } from '../support/process.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));

async function temporary(t, name) {
  const dir = await mkdtemp(join(tmpdir(), `smartregistry-${name}-`));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Names of the files in a package's tarball. */
async function entriesOf(tarball) {
  const names = [];
  const extract = tar.extract();
  const unpacked = pipeline(createReadStream(tarball), createGunzip(), extract);
  for await (const entry of extract) {
    names.push(entry.header.name.replace(/^package\//, ''));
    entry.resume();
  }
  await unpacked;
  return names.sort();
}

describe('the packed package', () => {
  it('installs under both names and works in both module systems', { timeout: 300_000 }, async (t) => {
    const dir = await temporary(t, 'packed');
    const { facade, platforms: [platform] } = await pack(join(dir, 'packed'), { local: true, only: platformName() });
    const dependencies = { 'smartregistry-native': `file:${facade}`, '@push.rocks/smartregistry': `file:${facade}`, [`smartregistry-native-${platformName()}`]: `file:${platform}` };
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

  it('holds what it needs to run, and nothing else', { timeout: 120_000 }, async (t) => {
    const dir = await temporary(t, 'listed');
    const { facade, platforms: [platform] } = await pack(dir, { local: true, only: platformName() });
    const inside = await entriesOf(facade);
    const plain = ['CHANGELOG.md', 'LICENSE', 'README.md', 'bin/smartregistry-native.js', 'index.d.mts', 'index.d.ts', 'index.js', 'index.mjs', 'package.json'];
    assert.deepEqual(inside.filter((name) => !/^js\/([a-z]+\/)?[a-z-]+\.cjs$/.test(name)), plain);
    assert.deepEqual(inside.filter((name) => name.startsWith('js/')), (await readdir(join(root, 'js'), { recursive: true })).filter((name) => name.endsWith('.cjs')).map((name) => `js/${name}`).sort());
    assert.ok((await stat(facade)).size < 200_000, 'the facade has grown beyond 200 kB');
    assert.deepEqual(await entriesOf(platform), ['LICENSE', 'README.md', 'package.json', `smartregistry.${platformName()}.node`]);
  });

  it('is made by one command, which says how to install it', { timeout: 120_000 }, async (t) => {
    const dir = await temporary(t, 'local');
    const env = { ...process.env, SMARTREGISTRY_BUILD_PROFILE: 'dev' };
    const { stdout } = (await run(['npm', 'run', '--silent', 'pack:local', '--', dir], { cwd: root, env, seconds: 110 })).ok();
    const names = [`smartregistry-native-${manifest.version}.tgz`, `smartregistry-native-${platformName()}-${manifest.version}.tgz`];
    assert.deepEqual((await readdir(dir)).sort(), names);
    assert.ok(stdout.includes(`npm install ${join(dir, names[0])} ${join(dir, names[1])}`), stdout);
  });

  describe('without an addon', () => {
    /** Loads the binding in a folder without an addon, as the platform that `before` makes of this one. */
    async function loading(t, before = '', more = {}) {
      const dir = await temporary(t, 'bare');
      for (const name of ['binding.cjs', 'platform.cjs']) await copyFile(join(root, 'js', name), join(dir, name));
      for (const [name, text] of Object.entries(more)) {
        await mkdir(dirname(join(dir, name)), { recursive: true });
        await writeFile(join(dir, name), text);
      }
      const program = `${before}; try { require(${JSON.stringify(join(dir, 'binding.cjs'))}) } catch (error) { console.log(error.code, error.message); for (let c = error.cause; c; c = c.cause) console.log('because', c.code) }`;
      return (await run([process.execPath, '--eval', program], { cwd: dir, env: { PATH: process.env.PATH } })).ok().output;
    }

    it('says which package is not installed, with every attempt as the cause', async (t) => {
      const output = await loading(t);
      assert.match(output, new RegExp(`^ADDON_MISSING smartregistry-native: the package smartregistry-native-${platformName()} is not installed. It is an optional dependency`));
      assert.equal(output.match(/because MODULE_NOT_FOUND/g).length, 2);
    });

    it('says that there is none for the platform, and for which there is', async (t) => {
      const output = await loading(t, `Object.defineProperty(process, 'arch', { value: 's390x' })`);
      assert.match(output, /^PLATFORM_UNSUPPORTED smartregistry-native: there is no addon for \w+-s390x(-gnu|-musl)?, only for darwin-arm64, .*win32-x64-msvc; with Rust/);
    });

    it('knows musl by its linker, and by the report of the process where there is none', { skip: process.platform !== 'linux' }, async (t) => {
      const reading = (text) => `const fs = require('fs'); const { readFileSync } = fs; fs.readFileSync = (name, ...rest) => { if (name !== '/usr/bin/ldd') return readFileSync(name, ...rest); ${text} }`;
      assert.match(await loading(t, reading(`return 'musl libc (x86_64)'`)), /smartregistry-native-linux-\w+-musl is not installed/);
      assert.match(await loading(t, reading(`return 'GNU libc'`)), /smartregistry-native-linux-\w+-gnu is not installed/);
      const gone = `throw new Error('ENOENT')`;
      assert.match(await loading(t, `${reading(gone)}; process.report.getReport = () => ({ header: {} })`), /-musl is not installed/);
      assert.match(await loading(t, `${reading(gone)}; process.report.getReport = () => ({ header: { glibcVersionRuntime: '2.36' } })`), /-gnu is not installed/);
    });

    it('says what the system says of one that does not load', async (t) => {
      const name = `smartregistry-native-${platformName()}`;
      const output = await loading(t, '', {
        [`node_modules/${name}/package.json`]: JSON.stringify({ name, main: 'addon.node' }),
        [`node_modules/${name}/addon.node`]: 'no shared library',
      });
      assert.match(output, new RegExp(`^ADDON_UNUSABLE smartregistry-native: the addon for ${platformName()} is here and does not load: .*addon\\.node`));
      assert.match(output, /because ERR_DLOPEN_FAILED/);
    });

    it('takes the one that it is told to', async () => {
      const env = { PATH: process.env.PATH, NAPI_RS_NATIVE_LIBRARY_PATH: join(root, `smartregistry.${platformName()}.node`) };
      const program = `console.log(typeof require(${JSON.stringify(join(root, 'js/binding.cjs'))}))`;
      assert.match((await run([process.execPath, '--eval', program], { cwd: tmpdir(), env })).ok().output, /^object$/m);
    });
  });

  it('has one version in all its parts', async () => {
    const cargo = await readFile(join(root, 'Cargo.toml'), 'utf8');
    assert.equal(/^version = "(.+)"$/m.exec(cargo)[1], manifest.version);
    assert.deepEqual((await readdir(join(root, 'npm'))).sort(), platforms);
    for (const name of platforms) {
      const platform = JSON.parse(await readFile(join(root, 'npm', name, 'package.json'), 'utf8'));
      assert.deepEqual([platform.name, platform.version, platform.main], [`smartregistry-native-${name}`, manifest.version, `smartregistry.${name}.node`]);
      const [os, cpu, libc] = name.split('-');
      assert.deepEqual([platform.os, platform.cpu, platform.libc], [[os], [cpu], { gnu: ['glibc'], musl: ['musl'] }[libc]]);
    }
  });

  it('gets a new version in all its parts by one command, or in none', async (t) => {
    const dir = await temporary(t, 'version');
    const files = ['package.json', 'package-lock.json', 'Cargo.toml', 'Cargo.lock', 'fuzz/Cargo.lock', 'CHANGELOG.md', ...platforms.map((name) => `npm/${name}/package.json`)];
    for (const file of files) {
      await mkdir(dirname(join(dir, file)), { recursive: true });
      await copyFile(join(root, file), join(dir, file));
    }
    const read = (file) => readFile(join(dir, file), 'utf8');
    const set = (...args) => run([process.execPath, join(root, 'scripts/version.mjs'), ...args, '--root', dir], { cwd: dir, env: process.env });
    const before = await Promise.all(files.map(read));
    (await set('1.2')).refused(/name one version/);
    (await set(manifest.version)).refused(/is .+ already/);
    await writeFile(join(dir, 'CHANGELOG.md'), '# Changelog\n\n## Unreleased\n\n## 0.0.1\n- something\n');
    (await set('98.76.54')).refused(/nothing under "## Unreleased"/);
    await copyFile(join(root, 'CHANGELOG.md'), join(dir, 'CHANGELOG.md'));
    assert.deepEqual(await Promise.all(files.map(read)), before);
    (await set('98.76.54')).ok().shows(/git tag v98\.76\.54/);
    for (const [at, file] of files.entries()) {
      const [old, now] = [before[at].split('\n'), (await read(file)).split('\n')];
      const changed = now.filter((line) => !old.includes(line));
      assert.match(changed.join('\n'), /^[^\n]*98\.76\.54[^\n]*(\n[^\n]*98\.76\.54[^\n]*)?$/, file);
    }
    assert.match(await read('CHANGELOG.md'), /^## Unreleased\n\n## 98\.76\.54 - \d{4}-\d\d-\d\d\n\n### Added\n/m);
    // Without a line for users there is no release.
    (await set('98.76.55')).refused(/nothing under "## Unreleased"/);
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
