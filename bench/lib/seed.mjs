// What is asked for: published and pushed over HTTP like anything else, then fetched once and laid out as files for the other servers.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf, noise } from '../../__test__/support/oci.mjs';
import { must, publishDocument, pushImage, tarball } from '../../__test__/support/wire.mjs';
import { StepError } from '../../scripts/lib/run.mjs';
import { get } from './get.mjs';

const KB = 1024;
const MB = 1024 * KB;
const REPOSITORY = 'bench/app';

/** What `npm install` asks for. */
const INSTALL = { accept: 'application/vnd.npm.install-v1+json', 'accept-encoding': 'gzip' };

/**
 * Everything that is fetched: what it is called, where the registry has it, and how large it may be for its name.
 *
 * @type {{ file: string, path: string, headers?: Record<string, string>, size: [number, number] }[]}
 */
export const artifacts = [
  { file: 'packument-10k', path: '/npm/bench-small', size: [8 * KB, 13 * KB] },
  { file: 'packument-1m', path: '/npm/bench-large', size: [0.9 * MB, 1.2 * MB] },
  { file: 'abbreviated-1m.gz', path: '/npm/bench-large', headers: INSTALL, size: [10 * KB, 400 * KB] },
  { file: 'manifest', path: `/v2/${REPOSITORY}/manifests/small`, size: [200, 2 * KB] },
  { file: 'blob-10k', path: `/v2/${REPOSITORY}/blobs/${digestOf(layer('small', 10 * KB))}`, size: [10 * KB, 10 * KB] },
  { file: 'blob-64m', path: `/v2/${REPOSITORY}/blobs/${digestOf(layer('large', 64 * MB))}`, size: [64 * MB, 64 * MB] },
];

/** The layer that `pushImage` makes for a tag. */
function layer(tag, size) {
  return noise(size, `${REPOSITORY}:${tag}`);
}

/** Fills the registry and resolves with the bytes of each artifact by file name. */
export async function seed(registry, folder) {
  await publishVersions(registry, 'bench-small', 4);
  await publishVersions(registry, 'bench-large', 430);
  must(await pushImage(registry, REPOSITORY, 'small', { size: 10 * KB }), 201);
  must(await pushImage(registry, REPOSITORY, 'large', { size: 64 * MB, chunked: true }), 201);
  await mkdir(folder, { recursive: true });
  const bytes = new Map();
  for (const { file, path, headers, size } of artifacts) {
    const { status, body, headers: got } = await get(registry.port, path, headers);
    if (status !== 200) throw new StepError(`${path} was answered with ${status}: ${body.toString('utf8', 0, 300)}`);
    if (body.length < size[0] || body.length > size[1]) throw new StepError(`${file} has ${body.length} bytes, which is not what its name says`);
    await writeFile(join(folder, file), body);
    bytes.set(file, body);
    if (!file.endsWith('.gz')) continue;
    if (got['content-encoding'] !== 'gzip') throw new StepError(`${path} was not answered as gzip`);
    // nginx finds the compressed file beside the plain one.
    await writeFile(join(folder, file.slice(0, -3)), gunzipSync(body));
  }
  return bytes;
}

/** Versions with manifests of the size and with the fields that real ones have. */
async function publishVersions({ npm, token }, name, count) {
  for (let i = 0; i < count; i += 1) {
    const version = `1.${i}.0`;
    const document = publishDocument(name, version, await tarball(name, version, 64));
    Object.assign(document.versions[version], manifest(name, i));
    const response = await fetch(`${npm}${name}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(document),
    });
    must({ status: response.status, text: await response.text(), url: `${npm}${name}` }, 201);
  }
}

function manifest(name, i) {
  const ranges = (prefix, length) => Object.fromEntries(Array.from({ length }, (_, n) => [`${prefix}-${n}`, `^${1 + (n % 7)}.${(i * 7 + n * 3) % 40}.${n % 5}`]));
  return {
    description: `What ${name} does, in a sentence of the usual length, for people who look for it`,
    main: 'dist/index.js',
    types: 'dist/index.d.ts',
    type: 'commonjs',
    license: 'MIT',
    author: { name: 'An Author', email: 'author@example.com', url: 'https://example.com/author' },
    maintainers: [{ name: 'author', email: 'author@example.com' }, { name: 'other', email: 'other@example.com' }],
    repository: { type: 'git', url: `git+https://git.example.com/acme/${name}.git` },
    bugs: { url: `https://git.example.com/acme/${name}/issues` },
    homepage: `https://git.example.com/acme/${name}#readme`,
    keywords: ['benchmark', 'registry', 'package', 'example', 'metadata'],
    engines: { node: '>=18' },
    scripts: { build: 'tsc -p tsconfig.json', test: 'node --test test/*.test.js', lint: 'eslint src test', prepublishOnly: 'npm run build' },
    dependencies: ranges('dependency', 16),
    devDependencies: ranges('development-dependency', 22),
    gitHead: digestOf(Buffer.from(`${name} ${i}`)).slice(7, 47),
    _nodeVersion: '20.19.0',
    _npmVersion: '10.9.2',
    _npmUser: { name: 'author', email: 'author@example.com' },
  };
}
