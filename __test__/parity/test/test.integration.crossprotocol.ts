import { expect, tap } from '@git.zone/tstest/tapbundle';
import { SmartRegistry } from '@push.rocks/smartregistry';
import * as smartregistry from '../ts/index.js';
import { bearer, createTestRegistry, createTestTokens, publishBody } from './helpers/registry.js';

let registry: SmartRegistry;
let tokens: Awaited<ReturnType<typeof createTestTokens>>;

tap.test('Integration: should be one package under both names', async () => {
  expect(smartregistry.SmartRegistry === SmartRegistry).toBeTrue();
  registry = await createTestRegistry();
  expect(registry).toBeInstanceOf(SmartRegistry);
  tokens = await createTestTokens(registry);
});

tap.test('Integration: tokens of one protocol should open no other', async () => {
  const push = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: bearer(tokens.npmToken), query: {} });
  expect([401, 403]).toContain(push.status);
  const publish = await registry.handleRequest({ method: 'PUT', path: '/npm/crossed', headers: bearer(tokens.ociToken), query: {}, body: publishBody('crossed', '1.0.0') });
  expect([401, 403]).toContain(publish.status);
});

tap.test('Integration: should authorize by scopes', async () => {
  const auth = registry.getAuthManager();
  const token = await auth.validateToken(tokens.npmToken, 'npm');
  expect(await auth.authorize(token, 'npm:package:anything', 'write')).toBeTrue();
  expect(await auth.authorize(token, 'oci:repository:anything', 'push')).toBeFalse();
  expect(await auth.authorize(null, 'npm:package:anything', 'write')).toBeFalse();
  await auth.revokeToken(tokens.npmToken);
  expect(await auth.validateToken(tokens.npmToken, 'npm')).toBeNull();
});

tap.test('cleanup', async () => {
  await registry.destroy();
});

export default tap.start();
