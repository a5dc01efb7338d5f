// SmartRegistry itself: construction, start and end, routing, the objects that it gives out.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import * as esm from 'smartregistry-native';
import { config, login, open } from '../support/facade.mjs';

const { SmartRegistry, RegistryError, streamToBuffer, streamToJson } = esm;

describe('construction', () => {
  const wrong = [
    ['nothing at all', undefined, undefined],
    ['storage that is text', config({ storage: 'bucket' }), 'storage'],
    ['an unknown kind of storage', config({ storage: { type: 'floppy' } }), 'storage.type'],
    ['a local storage without a folder', config({ storage: { type: 'local' } }), 'storage.path'],
    ['a port that is no number', config({ storage: { endpoint: 's3.example.com', bucketName: 'my-bucket', port: {} } }), 'storage.port'],
    ['an unknown token store', config({ auth: { tokenStore: 'floppy' } }), 'auth.tokenStore'],
    ['a switch that is no boolean', config({ npm: { enabled: 'perhaps' } }), 'npm.enabled'],
    ['a base path that climbs', config({ npm: { enabled: true, basePath: '/a/../b' } }), 'npm.basePath'],
    ['two protocols in one place', config({ oci: { enabled: true, basePath: '/npm' } }), undefined],
    ['a provider that lacks a method', config({ authProvider: { authenticate() {} } }), 'authProvider.validateToken'],
    ['a hook that is no function', config({ storageHooks: { beforePut: true } }), 'storageHooks.beforePut'],
    ['a limit that is text', config({ limits: { manifest: 'many' } }), 'limits.manifest'],
  ];
  for (const [name, given, option] of wrong) {
    it(`refuses ${name}${option ? ` and names ${option}` : ''}`, () => {
      assert.throws(
        () => new SmartRegistry(given),
        (error) => {
          assert.ok(error instanceof RegistryError && error instanceof Error, error.stack);
          assert.equal(error.code, 'INVALID_CONFIG');
          if (option) assert.equal(error.option, option, error.message);
          assert.match(error.stack, /registry\.spec\.mjs/);
          return true;
        },
      );
    });
  }

  it('opens and connects nothing', () => {
    new SmartRegistry(config({ storage: { endpoint: 'http://127.0.0.1:1', bucketName: 'my-bucket', accessKey: 'a', accessSecret: 's' } }));
    new SmartRegistry(config({ storage: { type: 'local', path: '/proc/nowhere' } }));
  });
});

describe('start and end', () => {
  it('answers only between init() and destroy()', async () => {
    const registry = new SmartRegistry(config());
    const request = { method: 'GET', path: '/npm/x', headers: {}, query: {} };
    assert.equal(registry.isInitialized(), false);
    await assert.rejects(registry.handleRequest(request), { code: 'NOT_INITIALIZED', message: /init\(\)/ });
    await Promise.all([registry.init(), registry.init()]);
    await registry.init();
    assert.equal(registry.isInitialized(), true);
    assert.equal((await registry.handleRequest(request)).status, 404);
    await Promise.all([registry.destroy(), registry.destroy()]);
    await registry.destroy();
    assert.equal(registry.isInitialized(), false);
    await assert.rejects(registry.handleRequest(request), { code: 'DESTROYED' });
    await assert.rejects(registry.init(), { code: 'DESTROYED' });
  });

  it('ends what the application has got of it, too', async () => {
    const registry = new SmartRegistry(config());
    await registry.init();
    const [auth, storage] = [registry.getAuthManager(), registry.getStorage()];
    const token = await auth.createNpmToken('alice');
    await storage.putObject('npm/packages/x/index.json', '{}');
    const ending = registry.destroy();
    const gone = { name: 'RegistryError', code: 'DESTROYED', status: 503 };
    for (const one of [auth, registry.getAuthManager()]) {
      for (const late of [() => one.createNpmToken('alice'), () => one.validateToken(token), () => one.authenticate({ username: 'bob', password: 'right' }), () => one.init()]) await assert.rejects(late, gone);
    }
    for (const one of [storage, registry.getStorage()]) {
      for (const late of [() => one.getObject('npm/packages/x/index.json'), () => one.putObject('a/b', 'c'), () => one.listObjects()]) await assert.rejects(late, gone);
    }
    await ending;
    await assert.rejects(() => storage.getObject('npm/packages/x/index.json'), gone);
  });

  it('tries anew after a failed start', async (t) => {
    let fail = true;
    const authProvider = {
      init() {
        if (fail) throw new Error('the directory is down');
      },
      authenticate: () => null,
      validateToken: () => null,
      createToken: () => 'x',
      revokeToken() {},
      authorize: () => true,
    };
    const registry = new SmartRegistry(config({ authProvider }));
    t.after(() => registry.destroy());
    await assert.rejects(registry.init(), /the directory is down/);
    fail = false;
    await registry.init();
    assert.ok(registry.isInitialized());
  });

  it('names what is wrong with a storage that can not be opened', async (t) => {
    const registry = new SmartRegistry(config({ storage: { type: 'local', path: '/proc/nowhere' } }));
    t.after(() => registry.destroy());
    await assert.rejects(registry.init(), (error) => error instanceof RegistryError && error.status >= 500);
  });
});

describe('routing', () => {
  const nowhere = { error: 'NOT_FOUND', message: 'No registry handler for this path' };
  const get = (registry, path) => registry.handleRequest({ method: 'GET', path, headers: {}, query: {} });

  it('answers 404 for a path of no protocol', async (t) => {
    const registry = await open(t);
    for (const path of ['/', '/npmx', '/other/a', '/npmx/a?b=c']) {
      const response = await get(registry, path);
      assert.equal(response.status, 404, path);
      assert.equal(response.headers['Content-Type'], 'application/json');
      assert.deepEqual(await streamToJson(response.body), nowhere);
    }
  });

  it('answers what clients hard-code, and nothing of a protocol that is off', async (t) => {
    const registry = await open(t, { npm: { enabled: false } });
    const response = await get(registry, '/v2/');
    assert.ok([200, 401].includes(response.status));
    assert.equal(response.headers['Docker-Distribution-API-Version'], 'registry/2.0');
    assert.deepEqual(await streamToJson((await get(registry, '/npm/x')).body), nowhere);
  });

  it('takes the longest base path', async (t) => {
    const registry = await open(t, { npm: { enabled: true, basePath: '/a/b' }, oci: { enabled: true, basePath: '/a' } });
    assert.equal((await streamToJson((await get(registry, '/a/b/missing')).body)).error !== undefined, true);
    assert.ok((await streamToJson((await get(registry, '/a/x/manifests/y')).body)).errors);
  });

  it('answers HEAD without a body and with the length of GET', async (t) => {
    const registry = await open(t);
    const [head, full] = await Promise.all(['HEAD', 'GET'].map((method) => registry.handleRequest({ method, path: '/npm/-/ping', headers: {}, query: {} })));
    assert.equal(head.body, undefined);
    assert.equal(head.status, full.status);
    assert.equal(head.headers['Content-Length'], full.headers['Content-Length']);
  });

  it('takes the certificates that Node takes for those of the S3 storage, too', async (t) => {
    const before = process.env.NODE_EXTRA_CA_CERTS;
    t.after(() => (before === undefined ? delete process.env.NODE_EXTRA_CA_CERTS : (process.env.NODE_EXTRA_CA_CERTS = before)));
    process.env.NODE_EXTRA_CA_CERTS = '/nowhere/at/all.pem';
    const warnings = [];
    const storage = { endpoint: 'https://127.0.0.1:1', bucketName: 'bucket', accessKey: 'a', accessSecret: 's' };
    const registry = new SmartRegistry(config({ storage, logger: { warn: (text) => void warnings.push(text) } }));
    t.after(() => registry.destroy());
    await assert.rejects(registry.init());
    assert.ok(warnings.some((text) => /NODE_EXTRA_CA_CERTS is not used for the S3 storage: the file can't be read/.test(text)), String(warnings));
    registry.destroy();
    const own = new SmartRegistry(config({ storage: { ...storage, caFile: '/nowhere/at/all.pem' } }));
    t.after(() => own.destroy());
    await assert.rejects(own.init(), /option `storage\.caFile`: the file can't be read/);
  });

  it('refuses what is no request', async (t) => {
    const registry = await open(t);
    for (const context of [undefined, null, 'GET /', {}, { path: 7 }, { path: '/', method: 7 }]) await assert.rejects(registry.handleRequest(context), RegistryError);
    for (const token of [{}, 7, ['x']]) await assert.rejects(registry.handleRequest({ path: '/npm/x', token }), { name: 'RegistryError', status: 400, message: /`token`/ });
    const circular = {};
    circular.self = circular;
    for (const actor of ['bob', [], circular, { n: 1n }]) await assert.rejects(registry.handleRequest({ path: '/npm/x', actor }), { name: 'RegistryError', status: 400, message: /`actor`/ });
    // An answer like any other, under the id that the host knows the request by.
    for (const [context, told] of [[{ method: 'G E T' }, /method/], [{ actor: { note: 'n'.repeat(17_000) } }, /actor/]]) {
      const refused = await registry.handleRequest({ path: '/npm/x', requestId: 'host-1', ...context });
      assert.deepEqual([refused.status, refused.headers['X-Request-ID'], refused.headers['Content-Type']], [400, 'host-1', 'application/json']);
      const text = String(await streamToBuffer(refused.body));
      assert.equal(refused.headers['Content-Length'], String(text.length));
      assert.match(JSON.parse(text).message, told);
    }
    assert.match((await registry.handleRequest({ method: 'G E T', path: '/npm/x' })).headers['X-Request-ID'], /./);
    assert.equal((await get(registry, '/npm/%2e%2e/secret')).status, 400);
  });
});

describe('objects that it gives out', () => {
  it('are instances of the exported classes, and always the same', async (t) => {
    const registry = await open(t);
    const classes = { oci: esm.OciRegistry, npm: esm.NpmRegistry };
    for (const [protocol, Class] of Object.entries(classes)) {
      const one = registry.getRegistry(protocol);
      assert.ok(one instanceof Class);
      assert.equal(one, registry.getRegistry(protocol));
      assert.equal(one.protocol, protocol);
      assert.equal(one.getBasePath(), `/${protocol}`);
      assert.equal((await one.handleRequest({ method: 'GET', path: `/${protocol}/none`, headers: {}, query: {} })).status, 404);
    }
    assert.ok(!(registry.getRegistry('npm') instanceof esm.OciRegistry));
    assert.equal(registry.getRegistry('pypi'), undefined);
    assert.equal(registry.getRegistry('constructor'), undefined);
    assert.ok(registry.getStorage() instanceof esm.RegistryStorage);
    assert.equal(registry.getStorage(), registry.getStorage());
    assert.ok(registry.getAuthManager() instanceof esm.AuthManager);
    assert.equal(registry.getAuthManager(), registry.getAuthManager());
    assert.throws(() => new esm.NpmRegistry(), TypeError);
  });

  it('are one set of classes for import and require', () => {
    const cjs = createRequire(import.meta.url)('smartregistry-native');
    assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort());
    for (const name of Object.keys(cjs)) assert.equal(cjs[name], esm[name], name);
  });
});

describe('two registries in one process', () => {
  it('share nothing', async (t) => {
    const [one, two] = await Promise.all([open(t), open(t)]);
    const { npmToken } = await login(one);
    assert.ok(await one.getAuthManager().validateToken(npmToken, 'npm'));
    assert.equal(await two.getAuthManager().validateToken(npmToken, 'npm'), null);
    await one.getStorage().putObject('npm/packages/x/index.json', '{}');
    assert.equal(await two.getStorage().getObject('npm/packages/x/index.json'), null);
    await one.destroy();
    assert.equal((await two.handleRequest({ method: 'GET', path: '/npm/-/ping' })).status, 200);
  });
});
