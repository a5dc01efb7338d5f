// The main paths by plain HTTP, for drills that need thousands of operations and exact answers rather than a client's own behaviour.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import { digestOf, noise, types } from './oci.mjs';

/** A tarball of an npm package with `size` bytes that do not compress. */
export async function tarball(name, version, size = 2000) {
  const pack = tar.pack();
  pack.entry({ name: 'package/package.json' }, JSON.stringify({ name, version }));
  pack.entry({ name: 'package/data.bin' }, noise(size, `${name}@${version}`));
  pack.finalize();
  return gzipSync(await buffer(pack), { level: 1 });
}

/** The document that `npm publish` sends. */
export function publishDocument(name, version, bytes) {
  const dist = {
    integrity: `sha512-${createHash('sha512').update(bytes).digest('base64')}`,
    shasum: createHash('sha1').update(bytes).digest('hex'),
    tarball: `http://registry.example.com/${name}/-/${name}-${version}.tgz`,
  };
  return {
    _id: name,
    name,
    'dist-tags': { latest: version },
    versions: { [version]: { name, version, _id: `${name}@${version}`, dist } },
    access: null,
    _attachments: {
      [`${name}-${version}.tgz`]: { content_type: 'application/octet-stream', data: bytes.toString('base64'), length: bytes.length },
    },
  };
}

/** Publishes a version; resolves with the answer. `tag` other than latest keeps the order of tags out of it. */
export async function publish({ npm, token }, name, version, { size, tag = 'latest' } = {}) {
  const document = publishDocument(name, version, await tarball(name, version, size));
  document['dist-tags'] = { [tag]: version };
  return answer(`${npm}${name}`, { method: 'PUT', headers: { ...bearer(token), 'content-type': 'application/json' }, body: JSON.stringify(document) });
}

/** Pushes an image of one layer of `size` bytes under a tag; `chunked` sends the layer by PATCH. Resolves with the answer to the manifest. */
export async function pushImage({ url, basic }, repository, tag, { size = 2000, chunked = false } = {}) {
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, author: tag }));
  const layer = noise(size, `${repository}:${tag}`);
  await pushBlob({ url, basic }, repository, config);
  await pushBlob({ url, basic }, repository, layer, chunked);
  const describe = (mediaType, bytes) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
  const manifest = { schemaVersion: 2, mediaType: types.manifest, config: describe(types.config, config), layers: [describe(types.layer, layer)] };
  const headers = { authorization: basic, 'content-type': types.manifest };
  return answer(`${url}/v2/${repository}/manifests/${tag}`, { method: 'PUT', headers, body: JSON.stringify(manifest) });
}

async function pushBlob({ url, basic }, repository, bytes, chunked = false) {
  const headers = { authorization: basic, 'content-type': 'application/octet-stream' };
  const start = await answer(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST', headers });
  must(start, 202);
  let location = new URL(start.headers.get('location'), url);
  if (chunked) {
    const half = Math.floor(bytes.length / 2);
    for (const part of [bytes.subarray(0, half), bytes.subarray(half)]) {
      const patched = await answer(location, { method: 'PATCH', headers, body: part });
      must(patched, 202);
      location = new URL(patched.headers.get('location'), url);
    }
  }
  location.searchParams.set('digest', digestOf(bytes));
  must(await answer(location, { method: 'PUT', headers, body: chunked ? undefined : bytes }), 201);
}

/** `Authorization` of a user by password or token. */
export const basicAuth = (user, password) => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

const bearer = (token) => ({ authorization: `Bearer ${token}` });

/** Every version of the package with its tarball read and hashed. Fails on a version whose tarball is missing or different. */
export async function checkPackage({ npm }, name) {
  const found = await answer(`${npm}${name}`, { headers: { 'cache-control': 'no-cache' } });
  if (found.status === 404) return [];
  must(found, 200);
  const { versions, time } = JSON.parse(found.text);
  await inTurns(Object.entries(versions), 16, async ([version, { dist }]) => {
    const got = await fetch(`${npm}${name}/-/${name}-${version}.tgz`);
    assert.equal(got.status, 200, `${name}@${version} is in the packument and its tarball is not there`);
    const bytes = Buffer.from(await got.arrayBuffer());
    assert.equal(dist.integrity, `sha512-${createHash('sha512').update(bytes).digest('base64')}`, `${name}@${version} has other bytes`);
    assert.ok(time[version], `${name}@${version} has no time`);
  });
  return Object.keys(versions);
}

/** Every tag of the repository with its manifest and its blobs. Fails on anything that is named and not there. */
export async function checkRepository({ url, basic }, repository) {
  const headers = { authorization: basic };
  const found = await answer(`${url}/v2/${repository}/tags/list?n=10000`, { headers });
  if (found.status === 404) return [];
  must(found, 200);
  const { tags } = JSON.parse(found.text);
  await inTurns(tags, 16, async (tag) => {
    const manifest = await answer(`${url}/v2/${repository}/manifests/${tag}`, { headers });
    assert.equal(manifest.status, 200, `${repository}:${tag} is listed and its manifest is not there`);
    const { config, layers } = JSON.parse(manifest.text);
    for (const { digest, size } of [config, ...layers]) {
      const blob = await fetch(`${url}/v2/${repository}/blobs/${digest}`, { headers });
      assert.equal(blob.status, 200, `${repository}:${tag} names ${digest}, which is not there`);
      const bytes = Buffer.from(await blob.arrayBuffer());
      assert.deepEqual([bytes.length, digestOf(bytes)], [size, digest]);
    }
  });
  return tags;
}

/** Runs `work` on each item, `width` at a time. */
export async function inTurns(items, width, work) {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (queue.length) await work(queue.shift());
    }),
  );
}

async function answer(url, options) {
  const response = await fetch(url, options);
  return { status: response.status, headers: response.headers, text: await response.text(), url };
}

/** Asserts a status and shows what the registry said instead. */
export function must(response, ...statuses) {
  assert.ok(statuses.includes(response.status), `${response.url} answered ${response.status}, not ${statuses.join(' or ')}: ${response.text.slice(0, 500)}`);
  return response;
}
