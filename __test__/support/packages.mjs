// npm packages to publish, and the comparison of what came out of a registry with what went in.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { createGzip } from 'node:zlib';
import tar from 'tar-stream';

/** Bytes that break what treats a file as text, and a size that spans several chunks of a download. */
const binary = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));

/**
 * Writes a package into `folder`.
 *
 * @param {string} folder
 * @param {{ name: string, version: string } & Record<string, unknown>} manifest
 * @returns {Promise<{ folder: string, name: string, version: string, files: Record<string, Buffer> }>} `files` without package.json, which some clients rewrite when they pack
 */
export async function writePackage(folder, manifest) {
  const { name, version } = manifest;
  const files = {
    'index.js': Buffer.from(`module.exports = ${JSON.stringify(`${name} ${version}`)};\n`),
    'README.md': Buffer.from(`# ${name}\n\nVersion ${version}, with ünïcode ✓.\n`),
    'lib/data.bin': binary,
    'bin/run.js': Buffer.from(`#!/usr/bin/env node\nconsole.log(require('..'));\n`),
  };
  const bin = { [`run-${name.replace(/\W+/g, '-').replace(/^-/, '')}`]: 'bin/run.js' };
  const complete = { description: `test package ${name}`, main: 'index.js', license: 'MIT', bin, ...manifest };
  await write(folder, { ...files, 'package.json': `${JSON.stringify(complete, undefined, 2)}\n` });
  return { folder, name, version, files };
}

/** What a client would make of a package to publish it, for a registry that no client publishes to. */
export async function packed({ folder, files }) {
  const pack = tar.pack();
  const all = { 'package.json': await readFile(join(folder, 'package.json')), ...files };
  for (const [path, content] of Object.entries(all)) pack.entry({ name: `package/${path}`, mode: path.startsWith('bin/') ? 0o755 : 0o644 }, content);
  pack.finalize();
  return buffer(pack.pipe(createGzip()));
}

/** Writes files given as `{ 'path/in/folder': content }`. */
export async function write(folder, files) {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
}

/** Writes a project that depends on the given packages. */
export async function writeProject(folder, dependencies, more = {}) {
  await write(folder, { 'package.json': JSON.stringify({ name: 'consumer', version: '1.0.0', private: true, dependencies, ...more }) });
}

/** Asserts that the package lies in `node_modules` of `project` as it was published, byte by byte. */
export async function assertInstalled(project, published) {
  await assertSameFiles(join(project, 'node_modules', published.name), published);
}

export async function assertSameFiles(folder, { name, version, files }) {
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  assert.deepEqual([manifest.name, manifest.version], [name, version]);
  for (const [path, expected] of Object.entries(files)) {
    const actual = await readFile(join(folder, path));
    assert.ok(actual.equals(expected), `${name}@${version}: ${path} has ${actual.length} bytes, not the ${expected.length} that were published`);
  }
}

/** Asserts that the tarball of a version has the hashes that the registry states for it, and that they are stated. */
export async function assertIntegrity(registryUrl, name, version) {
  const answer = await fetch(`${registryUrl}${name.replace('/', '%2f')}`);
  assert.equal(answer.status, 200);
  const packument = await answer.json();
  const { dist } = packument.versions[version];
  const tarball = await fetch(dist.tarball);
  assert.equal(tarball.status, 200, dist.tarball);
  const bytes = Buffer.from(await tarball.arrayBuffer());
  assert.equal(dist.integrity, `sha512-${createHash('sha512').update(bytes).digest('base64')}`);
  assert.equal(dist.shasum, createHash('sha1').update(bytes).digest('hex'));
  assert.equal(tarball.headers.get('content-length'), String(bytes.length));
  return packument;
}
