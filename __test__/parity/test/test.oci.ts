import { expect, tap } from '@git.zone/tstest/tapbundle';
import { OciRegistry, SmartRegistry, streamToBuffer, streamToJson } from '../ts/index.js';
import { bearer, createTestRegistry, createTestTokens, digestOf } from './helpers/registry.js';

let registry: SmartRegistry;
let ociToken: string;
const blob = Buffer.from('the content of a layer');
const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } }));
const manifest = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config: { mediaType: 'application/vnd.oci.image.config.v1+json', size: config.length, digest: digestOf(config) },
  layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', size: blob.length, digest: digestOf(blob) }],
};
const manifestBytes = Buffer.from(JSON.stringify(manifest));

const call = (method: string, path: string, more: Record<string, unknown> = {}) =>
  registry.handleRequest({ method, path, headers: bearer(ociToken), query: {}, ...more });

tap.test('OCI: should create a registry', async () => {
  registry = await createTestRegistry();
  ({ ociToken } = await createTestTokens(registry));
  expect(registry.getRegistry('oci')).toBeInstanceOf(OciRegistry);
});

tap.test('OCI: should push a blob in two steps', async () => {
  const init = await call('POST', '/oci/test-repo/blobs/uploads/');
  expect(init.status).toEqual(202);
  expect(init.headers).toHaveProperty('Docker-Upload-UUID');
  const put = await call('PUT', `/oci/test-repo/blobs/uploads/${init.headers['Docker-Upload-UUID']}`, { query: { digest: digestOf(blob) }, body: blob });
  expect(put.status).toEqual(201);
  expect(put.headers['Docker-Content-Digest']).toEqual(digestOf(blob));
});

tap.test('OCI: should push a blob in one request', async () => {
  const response = await call('POST', '/oci/test-repo/blobs/uploads/', { query: { digest: digestOf(config) }, body: config });
  expect(response.status).toEqual(201);
});

tap.test('OCI: should push a manifest and pull everything', async () => {
  const put = await call('PUT', '/oci/test-repo/manifests/v1.0.0', { headers: { ...bearer(ociToken), 'Content-Type': manifest.mediaType }, body: manifestBytes });
  expect(put.status).toEqual(201);
  expect(put.headers['Docker-Content-Digest']).toEqual(digestOf(manifestBytes));
  const got = await call('GET', '/oci/test-repo/manifests/v1.0.0');
  expect(got.status).toEqual(200);
  expect((await streamToBuffer(got.body)).equals(manifestBytes)).toBeTrue();
  const pulled = await call('GET', `/oci/test-repo/blobs/${digestOf(blob)}`);
  expect((await streamToBuffer(pulled.body)).equals(blob)).toBeTrue();
  const tags = await call('GET', '/oci/test-repo/tags/list');
  expect((await streamToJson(tags.body)).tags).toContain('v1.0.0');
});

tap.test('OCI: should have its own form of errors', async () => {
  const response = await call('GET', '/oci/test-repo/manifests/nothing');
  expect(response.status).toEqual(404);
  const { errors } = await streamToJson(response.body);
  expect(errors).toBeArray();
  expect(errors[0].code).toEqual('MANIFEST_UNKNOWN');
});

tap.test('OCI: should delete the manifest and the blob', async () => {
  expect((await call('DELETE', `/oci/test-repo/manifests/${digestOf(manifestBytes)}`)).status).toEqual(202);
  expect((await call('DELETE', `/oci/test-repo/blobs/${digestOf(blob)}`)).status).toEqual(202);
});

tap.test('cleanup', async () => {
  await registry.destroy();
});

export default tap.start();
