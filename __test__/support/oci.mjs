// Container images as OCI image layouts on disk: made here, byte for byte the same at every run, and compared after their way through a registry.
import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import { write } from './packages.mjs';

export const types = {
  config: 'application/vnd.oci.image.config.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
};

export const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** `size` bytes that do not compress, the same for the same `seed`. */
export function noise(size, seed) {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/**
 * An image in memory: `{ descriptor, blobs }`, where the blobs (by digest) include the manifest.
 *
 * @param {Record<string, Buffer | string>[]} layers files of each layer by path
 * @param {{ architecture?: string, annotations?: Record<string, string> }} [options]
 */
export async function image(layers, { architecture = 'amd64', annotations } = {}) {
  const blobs = new Map();
  const add = (bytes, mediaType) => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const archives = await Promise.all(layers.map(archive));
  const config = add(
    json({
      architecture,
      os: 'linux',
      config: { Cmd: ['/bin/true'] },
      rootfs: { type: 'layers', diff_ids: archives.map(digestOf) },
      history: archives.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'test' })),
    }),
    types.config,
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config,
    layers: archives.map((bytes) => add(gzipSync(bytes), types.layer)),
    annotations,
  };
  return { descriptor: { ...add(json(manifest), types.manifest), platform: { os: 'linux', architecture } }, blobs };
}

/** An index over images, as multi-platform images are. */
export function index(images) {
  const bytes = json({ schemaVersion: 2, mediaType: types.index, manifests: images.map(({ descriptor }) => descriptor) });
  const descriptor = { mediaType: types.index, digest: digestOf(bytes), size: bytes.length };
  return { descriptor, blobs: new Map([...images.flatMap(({ blobs }) => [...blobs]), [descriptor.digest, bytes]]) };
}

/** Writes an image or index to `folder` as a layout that calls it `tag`. */
export async function writeLayout(folder, { descriptor, blobs }, tag) {
  const files = {
    'oci-layout': '{"imageLayoutVersion":"1.0.0"}',
    'index.json': JSON.stringify({
      schemaVersion: 2,
      mediaType: types.index,
      manifests: [{ ...descriptor, annotations: { 'org.opencontainers.image.ref.name': tag } }],
    }),
  };
  for (const [digest, bytes] of blobs) files[join('blobs', ...digest.split(':'))] = bytes;
  await write(folder, files);
}

/** Writes a layout whose own index is the given index: the form from which crane pushes an image of several platforms. */
export async function writeIndexLayout(folder, { descriptor, blobs }) {
  await writeLayout(folder, { descriptor, blobs }, '');
  await write(folder, { 'index.json': blobs.get(descriptor.digest) });
}

/** Asserts that every blob of the image lies in the layout at `folder`, byte by byte, and that its index names the image. */
export async function assertSameImage(folder, { descriptor, blobs }) {
  const { manifests } = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8'));
  assert.ok(
    manifests.some(({ digest, mediaType }) => digest === descriptor.digest && mediaType === descriptor.mediaType),
    `the layout has ${JSON.stringify(manifests)}, not ${JSON.stringify(descriptor)}`,
  );
  for (const [digest, expected] of blobs) {
    const actual = await readFile(join(folder, 'blobs', ...digest.split(':')));
    assert.ok(actual.equals(expected), `${digest} came back with ${actual.length} bytes, not its ${expected.length}`);
  }
}

/** A login file as docker, skopeo, crane and oras all read it. */
export function loginFile(host, user, password) {
  const auths = user ? { [host]: { auth: Buffer.from(`${user}:${password}`).toString('base64') } } : {};
  return JSON.stringify({ auths });
}

const json = (value) => Buffer.from(JSON.stringify(value));

function archive(files) {
  const pack = tar.pack();
  for (const [name, content] of Object.entries(files)) pack.entry({ name, mtime: new Date(0) }, content);
  pack.finalize();
  return buffer(pack);
}
