import { expect, tap } from '@git.zone/tstest/tapbundle';
import { RegistryStorage } from '../ts/core/classes.registrystorage.js';
import { streamToJson, type IStorageHookContext, type IStorageHooks, type SmartRegistry } from '../ts/index.js';
import { bearer, createTestRegistry, createTestTokens, publishBody, storageConfig } from './helpers/registry.js';

let registry: SmartRegistry;
let npmToken: string;

class Hooks implements IStorageHooks {
  public puts: IStorageHookContext[] = [];
  public refused = 0;

  public async beforePut(context: IStorageHookContext) {
    if (context.key.includes('forbidden')) {
      this.refused += 1;
      return { allowed: false, reason: 'Storage quota exceeded' };
    }
    return { allowed: true };
  }

  public async afterPut(context: IStorageHookContext) {
    this.puts.push(context);
  }

  public async beforeDelete(context: IStorageHookContext) {
    return context.key.includes('protected') ? { allowed: false, reason: 'Cannot delete protected package' } : { allowed: true };
  }
}

const hooks = new Hooks();

tap.test('Hooks: should create a registry with hooks', async () => {
  registry = await createTestRegistry({ storageHooks: hooks });
  ({ npmToken } = await createTestTokens(registry));
  expect(registry.getStorage()).toBeInstanceOf(RegistryStorage);
});

tap.test('Hooks: should be told of what was put, by whom', async () => {
  const actor = { userId: 'user123', orgId: 'org-456' };
  const response = await registry.handleRequest({ method: 'PUT', path: '/npm/watched', headers: bearer(npmToken), query: {}, body: publishBody('watched', '1.0.0'), actor });
  expect(response.status).toEqual(201);
  const keys = hooks.puts.map(({ key }) => key);
  expect(keys).toContain('npm/packages/watched/index.json');
  expect(hooks.puts.every((context) => context.actor?.orgId === 'org-456' && context.protocol === 'npm' && context.timestamp instanceof Date)).toBeTrue();
});

tap.test('Hooks: should refuse a put with the reason', async () => {
  const response = await registry.handleRequest({ method: 'PUT', path: '/npm/forbidden', headers: bearer(npmToken), query: {}, body: publishBody('forbidden', '1.0.0') });
  expect(response.status).toEqual(403);
  expect(await new Response(response.body).text()).toInclude('Storage quota exceeded');
  expect(hooks.refused).toBeGreaterThan(0);
  expect(await registry.getStorage().objectExists('npm/packages/forbidden/index.json')).toBeFalse();
});

tap.test('Hooks: should refuse a deletion', async () => {
  const publish = await registry.handleRequest({ method: 'PUT', path: '/npm/protected', headers: bearer(npmToken), query: {}, body: publishBody('protected', '1.0.0') });
  expect(publish.status).toEqual(201);
  const { rev } = await streamToJson(publish.body);
  const response = await registry.handleRequest({ method: 'DELETE', path: `/npm/protected/-rev/${rev}`, headers: bearer(npmToken), query: {} });
  expect(response.status).toEqual(403);
});

tap.test('Storage: should keep objects by itself', async () => {
  const storage = new RegistryStorage(await storageConfig());
  await storage.init();
  await storage.putObject('some/key', Buffer.from('content'));
  expect(String(await storage.getObject('some/key'))).toEqual('content');
  expect(await storage.listObjects('some/')).toEqual(['some/key']);
  await storage.deleteObject('some/key');
  expect(await storage.getObject('some/key')).toBeNull();
});

tap.test('cleanup', async () => {
  await registry.destroy();
});

export default tap.start();
