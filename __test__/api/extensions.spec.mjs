// Providers and hooks written in JavaScript: classes, plain objects, and everything that goes wrong in them.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import { AuthManager, CircuitBreaker, DefaultAuthProvider, RegistryStorage, SmartRegistry, StaticUpstreamProvider, streamToBuffer, streamToJson } from 'smartregistry-native';
import { config, login, open, pushBlob, sha256 } from '../support/facade.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

/** As in the README: methods on the prototype, state in `this`. */
class SessionProvider {
  sessions = new Map();
  calls = [];
  async init() {
    this.started = true;
  }
  async authenticate(credentials) {
    return credentials.password === 'right' ? credentials.username : null;
  }
  async validateToken(token, protocol) {
    this.calls.push(['validateToken', protocol]);
    const session = this.sessions.get(token);
    return session ? { userId: session.userId, scopes: session.scopes } : null;
  }
  async createToken(userId, protocol, options) {
    const token = crypto.randomUUID();
    this.sessions.set(token, { userId, protocol, scopes: [`${protocol}:*:*:*`], ...options });
    return token;
  }
  async revokeToken(token) {
    this.sessions.delete(token);
  }
  async authorize(token, resource, action) {
    this.calls.push(['authorize', resource, action]);
    if (!token) return action === 'read';
    return token.userId === 'alice';
  }
}

const whoami = (registry, token) => registry.handleRequest({ method: 'GET', path: '/npm/-/whoami', headers: { authorization: `Bearer ${token}` } });

/** Keeps the log of the test quiet: failures of providers are logged as errors on purpose. */
const quietly = (t, changes) => open(t, changes);

describe('an auth provider', () => {
  it('may be a class, as in the README', async (t) => {
    const provider = new SessionProvider();
    const registry = await open(t, { authProvider: provider });
    assert.equal(provider.started, true);
    const auth = registry.getAuthManager();
    assert.equal(await auth.authenticate({ username: 'alice', password: 'right' }), 'alice');
    assert.equal(await auth.authenticate({ username: 'alice', password: 'wrong' }), null);
    const token = await auth.createNpmToken('alice', true);
    assert.equal(provider.sessions.get(token).readonly, true);
    assert.ok(!('expiresIn' in provider.sessions.get(token)) && !('expiresAt' in provider.sessions.get(token)));
    const short = provider.sessions.get(await auth.createOciToken('alice', ['oci:repository:x:pull'], 3600));
    assert.equal(short.expiresIn, 3600);
    assert.ok(Math.abs(short.expiresAt - Date.now() - 3_600_000) < 5000);
    assert.deepEqual((await auth.validateToken(token, 'npm')).userId, 'alice');
    assert.equal((await streamToJson((await whoami(registry, token)).body)).username, 'alice');
    assert.ok(provider.calls.some(([method, protocol]) => method === 'validateToken' && protocol === 'npm'));
    assert.equal(await auth.authorize(await auth.validateToken(token), 'npm:package:x', 'read'), true);
    assert.equal(await auth.authorize(null, 'npm:package:x', 'write'), false);
    await auth.revokeToken(token);
    assert.equal((await whoami(registry, token)).status, 401);
  });

  it('may answer at once, by promise, or by any thenable', async (t) => {
    const answers = { sync: { userId: 'sync', scopes: [] }, promise: Promise.resolve({ userId: 'promise', scopes: [] }), thenable: { then: (done) => done({ userId: 'thenable', scopes: [] }) } };
    const registry = await open(t, { authProvider: Object.assign(new SessionProvider(), { validateToken: (token) => answers[token] ?? null }) });
    for (const name of Object.keys(answers)) assert.equal((await streamToJson((await whoami(registry, name)).body)).username, name);
    assert.equal((await whoami(registry, 'none')).status, 401);
  });

  const failures = {
    'throws': () => {
      throw new TypeError('secret detail');
    },
    'rejects': () => Promise.reject(new Error('secret detail')),
    'rejects with nothing': () => Promise.reject(),
    'throws a text': () => {
      throw 'secret detail';
    },
    'never settles': () => new Promise(() => {}),
    'returns a number': () => 7,
    'returns a token without a user': () => ({ scopes: ['*:*:*:*'] }),
    'returns what is no JSON': () => ({ userId: 'x', scopes: [1n] }),
  };
  for (const [name, validateToken] of Object.entries(failures)) {
    it(`that ${name} grants nothing, says nothing, and is answered with 500`, async (t) => {
      const registry = await quietly(t, { auth: { jwtSecret: 'x'.repeat(32), providerTimeoutMs: 100 }, authProvider: Object.assign(new SessionProvider(), { validateToken }) });
      const bytes = await tarball('widget', '1.0.0');
      const response = await registry.handleRequest({ method: 'PUT', path: '/npm/widget', headers: { authorization: 'Bearer x' }, body: publishDocument('widget', '1.0.0', bytes) });
      assert.equal(response.status, 500);
      const text = String(await streamToBuffer(response.body));
      assert.ok(JSON.parse(text).error);
      assert.doesNotMatch(text, /secret detail/);
      assert.deepEqual(await registry.getStorage().listObjects('npm/'), []);
      assert.equal((await registry.handleRequest({ method: 'GET', path: '/npm/-/ping' })).status, 200);
    });
  }

  it('that authorizes with anything but true or false fails', async (t) => {
    const provider = Object.assign(new SessionProvider(), { authorize: () => 'yes' });
    const registry = await quietly(t, { authProvider: provider });
    await assert.rejects(registry.getAuthManager().authorize(null, 'npm:package:x', 'read'), /authProvider\.authorize\(\) must return true or false/);
  });

  it('may leave out what a token is, and list what it knows', async (t) => {
    const provider = new SessionProvider();
    const created = '2026-01-02T03:04:05.000Z';
    provider.listUserTokens = async (userId) => [
      { key: 'one', readonly: true, created, protocol: 'pypi' },
      { key: 'two', userId, scopes: ['*:*:*:*', 'cargo:crate:*:read'], created: new Date(created) },
    ];
    const registry = await open(t, { authProvider: provider });
    const auth = registry.getAuthManager();
    const token = await auth.createToken('alice', 'npm', { scopes: ['*:*:*:read', 'npm:*:*:*'] });
    for (const found of [await auth.validateToken(token, 'npm'), await auth.validateNpmToken(token), await auth.validateToken(token)]) {
      assert.deepEqual([found.type, found.readonly], ['npm', false]);
    }
    assert.equal((await auth.validateToken(token, 'oci')).type, 'oci');
    const told = (await auth.listUserTokens('alice')).map(({ key, type, userId, readonly, created: since, scopes }) => [key, type, userId, readonly, since, scopes.length]);
    assert.deepEqual(told, [
      ['one', 'pypi', 'alice', true, created, 0],
      ['two', 'cargo', 'alice', false, created, 2],
    ]);
    const { objects } = await streamToJson((await registry.handleRequest({ method: 'GET', path: '/npm/-/npm/v1/tokens', headers: { authorization: `Bearer ${token}` } })).body);
    assert.deepEqual(objects.map(({ key, created: since }) => [key, since]), [['one', created], ['two', created]]);
  });

  it('may wrap the built-in one', async (t) => {
    class Counting extends DefaultAuthProvider {
      count = 0;
      async validateToken(...given) {
        this.count += 1;
        return super.validateToken(...given);
      }
    }
    const provider = new Counting({ jwtSecret: 'x'.repeat(32) });
    const registry = await open(t, { authProvider: provider });
    const { npmToken } = await login(registry, 'carol');
    assert.equal((await streamToJson((await whoami(registry, npmToken)).body)).username, 'carol');
    assert.ok(provider.count > 0);
  });

  it('opens registration to nobody by wrapping or extending the built-in one', async (t) => {
    class Slow extends DefaultAuthProvider {
      async authenticate({ username, password }) {
        await new Promise((done) => setTimeout(done, 5));
        return super.authenticate({ username, password });
      }
    }
    const inner = new DefaultAuthProvider({ jwtSecret: 'x'.repeat(32) });
    const wrapping = Object.fromEntries(['init', 'authenticate', 'validateToken', 'createToken', 'revokeToken', 'authorize'].map((name) => [name, (...given) => inner[name](...given)]));
    const providers = [new DefaultAuthProvider({ jwtSecret: 'x'.repeat(32) }), new Slow({ jwtSecret: 'x'.repeat(32) }), wrapping];
    for (const provider of providers) {
      const registry = await open(t, { authProvider: provider });
      const basic = (user, password = 'correct-horse-7') => ({ authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` });
      const login = (name, password = 'correct-horse-7') => registry.handleRequest({ method: 'PUT', path: `/npm/-/user/org.couchdb.user:${name}`, headers: {}, query: {}, body: { name, password } });
      const oci = (user) => registry.handleRequest({ method: 'GET', path: '/v2/token', headers: basic(user), query: { service: 'x', scope: 'repository:a:push' } });
      assert.equal((await login('stranger')).status, 401);
      assert.equal((await oci('stranger')).status, 401);
      assert.equal((await registry.handleRequest({ method: 'GET', path: '/npm/-/whoami', headers: basic('stranger') })).status, 401);
      // To the application it is open, and then it is that user's, also for clients.
      assert.equal(await registry.getAuthManager().authenticate({ username: 'friend', password: 'correct-horse-7' }), 'friend');
      assert.equal((await login('friend')).status, 201);
      assert.equal((await login('friend', 'wrong')).status, 401);
      assert.equal((await oci('friend')).status, 200);
      assert.equal((await login('stranger')).status, 401);
    }
    const open1 = await open(t, { authProvider: new DefaultAuthProvider({ jwtSecret: 'x'.repeat(32), selfRegistration: true }) });
    const welcome = await open1.handleRequest({ method: 'PUT', path: '/npm/-/user/org.couchdb.user:stranger', headers: {}, query: {}, body: { name: 'stranger', password: 'correct-horse-7' } });
    assert.equal(welcome.status, 201);
  });
});

describe('storage hooks', () => {
  const bytes = Buffer.from('a blob');

  it('see every write and read of a user, with the actor of the request', async (t) => {
    const seen = [];
    const hooks = {
      quota: 'kept in this',
      beforePut(ctx) {
        assert.equal(this.quota, 'kept in this');
        seen.push(ctx);
        return { allowed: true };
      },
      afterPut: async (ctx) => void seen.push({ ...ctx, after: true }),
      afterGet: (ctx) => void seen.push(ctx),
    };
    const registry = await open(t, { storageHooks: hooks });
    const { oci, userId } = await login(registry);
    const actor = { userId: 'user123', tokenId: 7, ip: '192.0.2.1', userAgent: 'test', orgId: 42, role: 'admin', plan: { seats: [1, 2.5], until: null } };
    const response = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: oci, query: { digest: sha256(bytes) }, body: bytes, actor });
    assert.equal(response.status, 201);
    const key = `oci/blobs/sha256/${sha256(bytes).slice(7)}`;
    const [before, after] = [seen.find((ctx) => ctx.key === key && !ctx.after), seen.find((ctx) => ctx.key === key && ctx.after)];
    for (const ctx of [before, after]) {
      assert.equal(ctx.operation, 'put');
      assert.equal(ctx.protocol, 'oci');
      assert.deepEqual(ctx.actor, actor);
      assert.ok(ctx.timestamp instanceof Date && Math.abs(ctx.timestamp - Date.now()) < 60_000);
      assert.equal(ctx.metadata.size, bytes.length);
    }
    assert.ok(seen.every((ctx) => !ctx.key.startsWith('_sr/')));
    seen.length = 0;
    const got = await registry.handleRequest({ method: 'GET', path: `/oci/team/app/blobs/${sha256(bytes)}`, headers: oci });
    await streamToBuffer(got.body);
    assert.deepEqual(seen.filter((ctx) => ctx.operation === 'get').map((ctx) => [ctx.key, ctx.actor.userId]), [[key, userId]]);
  });

  const denials = {
    'that denies': [() => ({ allowed: false, reason: 'Storage quota exceeded' }), /Storage quota exceeded/],
    'that denies without a reason': [() => ({ allowed: false }), /./],
    'that throws': [() => { throw new Error('secret detail'); }, /^(?!.*secret detail)/],
    'that returns nothing': [() => undefined, /./],
    'that never settles': [() => new Promise(() => {}), /./],
  };
  for (const [name, [beforePut, told]] of Object.entries(denials)) {
    it(`a beforePut ${name} refuses with 403 and leaves nothing`, async (t) => {
      const registry = await quietly(t, { limits: { hookTimeoutMs: 100 }, storageHooks: { beforePut } });
      const { oci, npm } = await login(registry);
      const pushed = await pushBlob(registry, oci, sha256(bytes), bytes);
      assert.equal(pushed.status, 403);
      assert.match(JSON.stringify((await streamToJson(pushed.body)).errors), told);
      const published = await registry.handleRequest({ method: 'PUT', path: '/npm/widget', headers: npm, body: publishDocument('widget', '1.0.0', await tarball('widget', '1.0.0')) });
      assert.equal(published.status, 403);
      assert.match((await streamToJson(published.body)).error, told);
      const keys = await registry.getStorage().listObjects();
      assert.deepEqual(keys, []);
    });
  }

  it('an after-hook that throws changes nothing', async (t) => {
    const fail = () => {
      throw new Error('the audit log is down');
    };
    const registry = await quietly(t, { storageHooks: { afterPut: fail, afterGet: () => Promise.reject(fail), afterDelete: fail } });
    const { oci } = await login(registry);
    assert.equal((await pushBlob(registry, oci, sha256(bytes), bytes)).status, 201);
    const storage = registry.getStorage();
    await storage.putObject('mine', 'x');
    await storage.deleteObject('mine');
    assert.equal(await storage.getObject('mine'), null);
  });

  it('belong to a storage that is made by itself, too', async () => {
    const seen = [];
    const hooks = {
      seen,
      beforePut({ key }) {
        this.seen.push(key);
        return { allowed: !key.includes('secret'), reason: 'it is secret' };
      },
    };
    const storage = new RegistryStorage({ type: 'memory' }, hooks);
    await storage.init();
    await storage.putObject('npm/packages/x/index.json', '{}');
    await assert.rejects(storage.putObject('npm/packages/secret/index.json', '{}'), { status: 403, message: /it is secret/ });
    assert.deepEqual(await storage.listObjects(), ['npm/packages/x/index.json']);
    assert.deepEqual(seen, ['npm/packages/x/index.json', 'npm/packages/secret/index.json']);
    assert.throws(() => new RegistryStorage({ type: 'memory' }, { beforePut: true }), { code: 'INVALID_CONFIG', option: 'storageHooks.beforePut' });
    assert.throws(() => new RegistryStorage({ type: 'memory' }, 'hooks'), { code: 'INVALID_CONFIG', option: 'storageHooks' });
  });

  it('are asked before a deletion', async (t) => {
    const registry = await open(t, { storageHooks: { beforeDelete: async ({ key }) => ({ allowed: key !== 'protected', reason: 'Cannot delete protected package' }) } });
    const storage = registry.getStorage();
    await storage.putObject('protected', 'x');
    await storage.putObject('other', 'x');
    await assert.rejects(storage.deleteObject('protected'), { status: 403, message: 'Cannot delete protected package' });
    await storage.deleteObject('other');
    assert.deepEqual(await storage.listObjects(), ['protected']);
  });
});

describe('AuthManager', () => {
  it('makes, checks, lists and ends tokens of every protocol', async (t) => {
    const registry = await open(t);
    const auth = registry.getAuthManager();
    const userId = await auth.authenticate({ username: 'user', password: 'pass' });
    assert.equal(await auth.authenticate({ username: 'user', password: 'wrong' }), null);
    for (const [name, protocol] of [['Npm', 'npm'], ['Maven', 'maven'], ['Cargo', 'cargo'], ['Composer', 'composer'], ['Pypi', 'pypi'], ['RubyGems', 'rubygems']]) {
      const token = await auth[`create${name}Token`](userId, false);
      const found = await auth[`validate${name}Token`](token);
      assert.deepEqual([found.type, found.userId, found.readonly], [protocol, userId, false]);
      assert.deepEqual(await auth.validateToken(token, protocol), found);
      await auth[`revoke${name}Token`](token);
      assert.equal(await auth.validateToken(token, protocol), null);
    }
    const npm = await auth.createNpmToken(userId, true);
    assert.match(npm, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const token = await auth.validateToken(npm, 'npm');
    assert.equal(await auth.authorize(token, 'npm:package:my-package', 'read'), true);
    assert.equal(await auth.authorize(token, 'npm:package:my-package', 'write'), false);
    const oci = await auth.createOciToken(userId, ['oci:repository:myapp:push'], 3600);
    assert.equal(oci.split('.').length, 3);
    const container = await auth.validateToken(oci, 'oci');
    assert.ok(container.expiresAt instanceof Date && container.expiresAt > new Date());
    assert.equal(await auth.authorize(container, 'oci:repository:myapp', 'push'), true);
    assert.equal(await auth.authorize(container, 'oci:repository:myapp', 'pull'), true);
    assert.equal(await auth.authorize(container, 'oci:repository:other', 'push'), false);
    const [listed] = await auth.listUserTokens(userId);
    assert.deepEqual([listed.type, listed.readonly, listed.userId], ['npm', true, userId]);
    assert.ok(listed.key && !npm.includes(listed.key) && listed.created);
    assert.deepEqual(await auth.getUserTokens(userId), [listed]);
  });

  it('authorizes no more than organisations and teams of npm let', async (t) => {
    const registry = await open(t);
    const auth = registry.getAuthManager();
    const users = {};
    for (const name of ['alice', 'bob']) {
      const { npm, npmToken } = await login(registry, name);
      users[name] = { npm, token: await auth.validateToken(npmToken, 'npm') };
    }
    const may = (who, action, name) => auth.authorize(who && users[who].token, `npm:package:${name}`, action);
    const all = async () => [await may('alice', 'write', '@acme/a'), await may('bob', 'write', '@acme/a'), await may('bob', 'delete', '@acme/a'), await may('bob', 'read', '@acme/a'), await may(null, 'read', '@acme/a'), await may('bob', 'write', '@other/a')];
    assert.deepEqual(await all(), [true, true, true, true, true, true]);
    const founded = await registry.handleRequest({ method: 'PUT', path: '/npm/-/org/acme/user', headers: { ...users.alice.npm, 'content-type': 'application/json' }, query: {}, body: { user: 'alice', role: 'owner' } });
    assert.equal(founded.status, 200);
    assert.deepEqual(await all(), [true, false, false, true, true, true]);
  });

  it('refuses what makes no sense, in words', async (t) => {
    const auth = (await open(t)).getAuthManager();
    await assert.rejects(auth.createNpmToken(null, false), /authenticate\(\) gives null for a wrong password/);
    await assert.rejects(auth.authenticate({ username: 'x' }), /password/);
    await assert.rejects(auth.createToken('x', 'floppy'), /there is no protocol `floppy`/);
    assert.equal(await auth.validateToken(undefined), null);
    assert.equal(await auth.validateToken('no-such-token'), null);
  });

  it('can stand alone', async () => {
    const auth = new AuthManager({ jwtSecret: 'x'.repeat(32) });
    await auth.init();
    const userId = await auth.authenticate({ username: 'a', password: 'b' });
    assert.equal((await auth.validateNpmToken(await auth.createNpmToken(userId))).userId, userId);
  });
});

describe('an upstream provider', () => {
  /** Another registry with one package, or none. */
  async function origin(t) {
    const asked = [];
    const server = createServer((request, response) => {
      asked.push(request.url);
      if (request.url !== '/widget') return void response.writeHead(404).end('{}');
      response.end(JSON.stringify({ name: 'widget', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': { name: 'widget', version: '1.0.0', dist: {} } }, time: {} }));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    t.after(() => server.close());
    return { asked, url: `http://127.0.0.1:${server.address().port}` };
  }
  const chain = (url) => ({ enabled: true, upstreams: [{ id: 'origin', url, priority: 1, enabled: true }] });
  const ask = (registry, path) => registry.handleRequest({ method: 'GET', path, headers: {}, query: {} });

  it('of one configuration is configuration', async (t) => {
    const { url } = await origin(t);
    const registry = await open(t, { upstreamProvider: new StaticUpstreamProvider({ npm: chain(url) }) });
    assert.equal((await ask(registry, '/npm/widget')).status, 200);
    assert.equal((await ask(registry, '/npm/gadget')).status, 404);
    assert.equal(await registry.purgeUpstream('npm', 'widget'), 2);
  });

  it('is asked for each request, with what it is about', async (t) => {
    const { url, asked } = await origin(t);
    const questions = [];
    class Provider {
      #url = url;
      resolveUpstreamConfig(question) {
        questions.push(question);
        return question.scope ? null : chain(this.#url);
      }
    }
    const registry = await open(t, { upstreamProvider: new Provider() });
    const answer = await registry.handleRequest({ method: 'GET', path: '/npm/widget', headers: {}, query: {}, actor: { userId: 'alice', orgId: 'acme' } });
    assert.equal(answer.status, 200);
    assert.deepEqual(questions[0], { protocol: 'npm', resource: 'widget', scope: null, actor: { userId: 'alice', orgId: 'acme' }, method: 'GET', resourceType: 'packument' });
    assert.equal((await ask(registry, '/npm/@acme%2fwidget')).status, 404);
    assert.deepEqual([questions[1].scope, asked], ['@acme', ['/widget']]);
  });

  it('that fails opens nothing and says so in the log alone', async (t) => {
    for (const resolveUpstreamConfig of [() => { throw new Error('the database is away'); }, () => 'nonsense', async () => ({ upstreams: [{ id: '../x', url: 'http://127.0.0.1' }] })]) {
      const registry = await open(t, { upstreamProvider: { resolveUpstreamConfig } });
      const answer = await ask(registry, '/npm/widget');
      assert.equal(answer.status, 500);
      assert.doesNotMatch(await streamToBuffer(answer.body).then(String), /database|nonsense/);
    }
  });

  it('is refused without its method, and so is a configuration that can not be', async () => {
    assert.throws(() => new SmartRegistry(config({ upstreamProvider: {} })), /upstreamProvider\.resolveUpstreamConfig/);
    assert.throws(() => new SmartRegistry(config({ upstreamProvider: new StaticUpstreamProvider({ npm: chain('ftp://example.com') }) })), /upstreams\.npm/);
  });
});

describe('CircuitBreaker', () => {
  it('lets one request try, and another where nobody told what came of it', (t) => {
    t.mock.timers.enable({ apis: ['Date'] });
    const breaker = new CircuitBreaker('a', { circuitBreakerThreshold: 2, circuitBreakerResetMs: 1000 });
    breaker.recordFailure();
    assert.deepEqual([breaker.getState(), breaker.canRequest()], ['CLOSED', true]);
    breaker.recordFailure();
    assert.deepEqual([breaker.getState(), breaker.canRequest()], ['OPEN', false]);
    t.mock.timers.tick(1000);
    assert.deepEqual([breaker.getState(), breaker.canRequest(), breaker.canRequest()], ['HALF_OPEN', true, false]);
    t.mock.timers.tick(999);
    assert.equal(breaker.canRequest(), false);
    t.mock.timers.tick(1);
    assert.deepEqual([breaker.getState(), breaker.canRequest(), breaker.canRequest()], ['HALF_OPEN', true, false]);
    breaker.recordFailure();
    assert.deepEqual([breaker.getState(), breaker.canRequest()], ['OPEN', false]);
    t.mock.timers.tick(1000);
    assert.equal(breaker.canRequest(), true);
    breaker.recordSuccess();
    assert.deepEqual([breaker.getState(), breaker.canRequest(), breaker.canRequest()], ['CLOSED', true, true]);
  });
});
