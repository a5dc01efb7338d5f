import { expect, tap } from '@git.zone/tstest/tapbundle';
import { SmartRegistry, NpmRegistry, streamToBuffer, streamToJson } from '../ts/index.js';
import { bearer, createTestRegistry, createTestTokens, publishBody, tarballOf } from './helpers/registry.js';

let registry: SmartRegistry;
let npmToken: string;
let readonlyToken: string;

const call = (method: string, path: string, more: Record<string, unknown> = {}) => registry.handleRequest({ method, path, headers: {}, query: {}, ...more });

tap.test('NPM: should create a registry', async () => {
  registry = await createTestRegistry();
  ({ npmToken, readonlyToken } = await createTestTokens(registry));
  expect(registry.isInitialized()).toBeTrue();
  expect(registry.getRegistry('npm')).toBeInstanceOf(NpmRegistry);
});

tap.test('NPM: should log a known user in', async () => {
  const response = await call('PUT', '/npm/-/user/org.couchdb.user:testuser', { body: { name: 'testuser', password: 'testpass-17' } });
  expect(response.status).toEqual(201);
  expect((await streamToJson(response.body)).token).toBeTypeofString();
});

tap.test('NPM: should publish a package', async () => {
  const response = await call('PUT', '/npm/test-package', { headers: bearer(npmToken), body: publishBody('test-package', '1.0.0') });
  expect(response.status).toEqual(201);
  expect(await streamToJson(response.body)).toHaveProperty('ok', true);
});

tap.test('NPM: should give the metadata and the tarball', async () => {
  const response = await call('GET', '/npm/test-package');
  expect(response.status).toEqual(200);
  const packument = await streamToJson(response.body);
  expect(packument['dist-tags'].latest).toEqual('1.0.0');
  const tarball = await call('GET', '/npm/test-package/-/test-package-1.0.0.tgz');
  expect(tarball.status).toEqual(200);
  expect((await streamToBuffer(tarball.body)).equals(tarballOf('test-package', '1.0.0'))).toBeTrue();
});

tap.test('NPM: should refuse an existing version, no token and a read-only token', async () => {
  const changed = await call('PUT', '/npm/test-package', { headers: bearer(npmToken), body: publishBody('test-package', '1.0.0', 'other content') });
  expect(changed.status).toEqual(403);
  expect((await streamToJson(changed.body)).error).toBeTypeofString();
  expect((await call('PUT', '/npm/other', { body: publishBody('other', '1.0.0') })).status).toEqual(401);
  expect((await call('PUT', '/npm/other', { headers: bearer(readonlyToken), body: publishBody('other', '1.0.0') })).status).toEqual(403);
});

tap.test('NPM: should set and remove a dist-tag', async () => {
  const path = '/npm/-/package/test-package/dist-tags/beta';
  expect((await call('PUT', path, { headers: bearer(npmToken), body: '1.0.0' })).status).toEqual(201);
  expect(await streamToJson((await call('GET', '/npm/-/package/test-package/dist-tags')).body)).toHaveProperty('beta', '1.0.0');
  expect((await call('DELETE', path, { headers: bearer(npmToken) })).status).toEqual(200);
});

tap.test('NPM: should search', async (tools) => {
  await tools.delayFor(50);
  const response = await call('GET', '/npm/-/v1/search', { query: { text: 'test-package', size: '20' } });
  expect(response.status).toEqual(200);
  const found = await streamToJson(response.body);
  expect(found.objects).toBeArray();
  expect(found).toHaveProperty('total');
  expect(found).toHaveProperty('time');
});

tap.test('NPM: should create, list and revoke tokens', async () => {
  const made = await call('POST', '/npm/-/npm/v1/tokens', { headers: bearer(npmToken), body: { password: 'testpass-17', readonly: true, cidr_whitelist: [] } });
  expect(made.status).toEqual(200);
  const { token, key } = await streamToJson(made.body);
  expect(token).toBeTypeofString();
  const listed = await call('GET', '/npm/-/npm/v1/tokens', { headers: bearer(npmToken) });
  expect(listed.status).toEqual(200);
  expect((await streamToJson(listed.body)).objects.map((entry: { key: string }) => entry.key)).toContain(key);
  const revoked = await call('DELETE', `/npm/-/npm/v1/tokens/token/${key}`, { headers: bearer(npmToken) });
  expect([200, 204]).toContain(revoked.status);
});

tap.test('NPM: should unpublish a package', async () => {
  const { _rev: revision } = await streamToJson((await call('GET', '/npm/test-package')).body);
  const response = await call('DELETE', `/npm/test-package/-rev/${revision}`, { headers: bearer(npmToken) });
  expect(response.status).toEqual(200);
  const left = await streamToJson((await call('GET', '/npm/test-package')).body);
  expect(Object.keys(left.versions ?? {})).toEqual([]);
  expect((await call('GET', '/npm/test-package/-/test-package-1.0.0.tgz')).status).toEqual(404);
});

tap.test('should say where no protocol answers', async () => {
  const response = await call('GET', '/elsewhere');
  expect(response.status).toEqual(404);
  expect(await streamToJson(response.body)).toEqual({ error: 'NOT_FOUND', message: 'No registry handler for this path' });
});

tap.test('cleanup', async () => {
  await registry.destroy();
});

export default tap.start();
