// The README of the replaced package, step by step, over each storage.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { SmartRegistry, streamToBuffer, streamToJson, toReadableStream } from 'smartregistry-native';
import { noise, sha256 } from '../support/facade.mjs';
import { startS3 } from '../support/s3.mjs';
import { tarball } from '../support/wire.mjs';

const storages = {
  memory: async () => ({ storage: { type: 'memory' }, end() {} }),
  async local() {
    const path = await mkdtemp(join(tmpdir(), 'smartregistry-readme-'));
    return { storage: { type: 'local', path }, end: () => rm(path, { recursive: true, force: true }) };
  },
  moto: () => bucketOf('moto'),
  smarts3: () => bucketOf('smarts3'),
};

async function bucketOf(kind) {
  const s3 = await startS3(kind);
  return { storage: s3.storage(), end: () => s3.stop() };
}

for (const [name, start] of Object.entries(storages)) {
  describe(`the README over ${name}`, () => {
    it('does what it says', { timeout: 120_000 }, async (t) => {
      const { storage, end } = await start();
      t.after(end);
      const config = {
        storage,
        auth: {
          jwtSecret: 'your-secret-key-of-some-length',
          tokenStore: 'memory',
          npmTokens: { enabled: true },
          ociTokens: { enabled: true, realm: 'https://auth.example.com/token', service: 'my-registry' },
        },
        oci: { enabled: true, basePath: '/oci' },
        npm: { enabled: true, basePath: '/npm' },
      };
      const registry = new SmartRegistry(config);
      await registry.init();
      t.after(() => registry.destroy());
      const missing = await registry.handleRequest({ method: 'GET', path: '/npm/express', headers: {}, query: {} });
      assert.equal(missing.status, 404);
      assert.ok((await streamToJson(missing.body)).error);

      // Authentication.
      const authManager = registry.getAuthManager();
      const userId = await authManager.authenticate({ username: 'user', password: 'pass' });
      const npmToken = await authManager.createNpmToken(userId, false);
      const ociToken = await authManager.createOciToken(userId, ['oci:repository:myapp:push'], 3600);
      const token = await authManager.validateToken(npmToken, 'npm');
      assert.equal(await authManager.authorize(token, 'npm:package:my-package', 'write'), true);

      // Containers: a blob in two steps, a manifest, a pull.
      const blobData = noise(700_000);
      const headers = { Authorization: `Bearer ${ociToken}` };
      const uploadInit = await registry.handleRequest({ method: 'POST', path: '/oci/myapp/blobs/uploads/', headers, query: {} });
      assert.equal(uploadInit.status, 202);
      const uploadId = uploadInit.headers['Docker-Upload-UUID'];
      const put = await registry.handleRequest({ method: 'PUT', path: `/oci/myapp/blobs/uploads/${uploadId}`, headers, query: { digest: sha256(blobData) }, body: blobData });
      assert.equal(put.status, 201);
      const describeBlob = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: sha256(blobData), size: blobData.length };
      const manifest = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config: describeBlob, layers: [describeBlob] };
      const tagged = await registry.handleRequest({ method: 'PUT', path: '/oci/myapp/manifests/latest', headers: { ...headers, 'Content-Type': manifest.mediaType }, query: {}, body: Buffer.from(JSON.stringify(manifest)) });
      assert.equal(tagged.status, 201, String(await streamToBuffer(tagged.body)));
      const response = await registry.handleRequest({ method: 'GET', path: '/oci/myapp/manifests/latest', headers, query: {} });
      assert.deepEqual(await streamToJson(response.body), manifest);
      const blob = await registry.handleRequest({ method: 'GET', path: `/oci/myapp/blobs/${sha256(blobData)}`, headers, query: {} });
      assert.ok(blobData.equals(await streamToBuffer(blob.body)));

      // Packages: a publish as an object, metadata, the tarball.
      const bytes = await tarball('my-package', '1.0.0');
      const publishResponse = await registry.handleRequest({
        method: 'PUT',
        path: '/npm/my-package',
        headers: { 'Authorization': `Bearer ${npmToken}` },
        query: {},
        body: {
          name: 'my-package',
          versions: { '1.0.0': { name: 'my-package', version: '1.0.0' } },
          'dist-tags': { latest: '1.0.0' },
          _attachments: { 'my-package-1.0.0.tgz': { content_type: 'application/octet-stream', data: bytes.toString('base64'), length: bytes.length } },
        },
        actor: { userId: 'user123', tokenId: 'token-abc', ip: '192.0.2.1', userAgent: 'test', orgId: 'org-456' },
      });
      assert.equal(publishResponse.status, 201, String(await streamToBuffer(publishResponse.body)));
      const metadata = await streamToJson((await registry.handleRequest({ method: 'GET', path: '/npm/my-package', headers: { host: 'registry.example.com' }, query: {} })).body);
      assert.equal(metadata['dist-tags'].latest, '1.0.0');
      const { pathname } = new URL(metadata.versions['1.0.0'].dist.tarball);
      const file = await registry.handleRequest({ method: 'GET', path: pathname, headers: {}, query: {} });
      assert.ok(bytes.equals(await streamToBuffer(file.body)));

      // The layout that it documents.
      const keys = await registry.getStorage().listObjects();
      for (const key of [`oci/blobs/sha256/${sha256(blobData).slice(7)}`, 'oci/tags/myapp/tags.json', 'npm/packages/my-package/index.json', 'npm/packages/my-package/my-package-1.0.0.tgz']) assert.ok(keys.includes(key), `${key} is not among ${keys.join(', ')}`);

      // Streams.
      assert.deepEqual(await streamToJson(toReadableStream({ hello: 'world' })), { hello: 'world' });
      const server = createServer(async (req, res) => {
        const answer = await registry.handleRequest({ method: req.method, path: req.url, headers: req.headers, query: {} });
        res.writeHead(answer.status, answer.headers);
        if (answer.body) {
          Readable.fromWeb(answer.body).pipe(res);
        } else {
          res.end();
        }
      });
      await new Promise((done) => server.listen(0, '127.0.0.1', done));
      const fetched = await fetch(`http://127.0.0.1:${server.address().port}${pathname}`);
      assert.ok(bytes.equals(Buffer.from(await fetched.arrayBuffer())));
      server.closeAllConnections();
      await new Promise((done) => server.close(done));

      await registry.destroy();
      assert.equal(registry.isInitialized(), false);
    });
  });
}
