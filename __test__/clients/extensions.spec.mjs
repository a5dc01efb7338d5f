// Providers and hooks written in JavaScript, seen from npm and skopeo: what they forbid is refused in the client's own words and leaves nothing behind, what
// they do wrong grants nothing, and they see each object that a client's request touches, once, with who asked.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { SmartRegistry } from 'smartregistry-native';
import { client } from '../../scripts/clients.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { assertSameImage, image, loginFile, noise, writeLayout } from '../support/oci.mjs';
import { assertInstalled, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';

const npmProgram = await client('npm');
const skopeoProgram = await client('skopeo');

const small = await image([{ 'etc/hello': 'hello\n' }, { 'data/big.bin': noise(3_000_000, 'hooks') }]);

/** Where a registry listens: by itself, or in an application. */
const doors = {
  async 'listen()'(registry) {
    const server = await registry.listen({ port: 0 });
    return { port: server.port, close: () => server.close() };
  },
  async 'nodeHandler()'(registry) {
    const server = http.createServer(registry.nodeHandler());
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    return {
      port: server.address().port,
      close() {
        server.closeAllConnections();
        return new Promise((done) => server.close(done));
      },
    };
  },
};

/** The users of the tests, as an application would know them: methods on the prototype, state in `this`. */
class People {
  #tokens = new Map();

  constructor() {
    for (const name of ['alice', 'bob']) this.#tokens.set(`token-of-${name}`, name);
  }

  async authenticate({ username, password }) {
    return password === `password-of-${username}` ? username : null;
  }

  async validateToken(token) {
    const userId = this.#tokens.get(token);
    return userId ? { userId, scopes: [] } : null;
  }

  async createToken(userId) {
    const token = randomUUID();
    this.#tokens.set(token, userId);
    return token;
  }

  async revokeToken(token) {
    this.#tokens.delete(token);
  }

  /** Alice may do everything, bob reads. */
  async authorize(token, resource, action) {
    return token?.userId === 'alice' || (token?.userId === 'bob' && (action === 'read' || action === 'pull'));
  }
}

/** A registry with clients around it, for one test. */
async function site(t, door, options = {}) {
  const box = await sandbox('extensions');
  const logged = [];
  const registry = new SmartRegistry({
    storage: { type: 'local', path: join(box.dir, 'data') },
    auth: { jwtSecret: 'a secret of the tests, long enough to sign', ociTokens: { enabled: true, service: 'smartregistry-test' }, providerTimeoutMs: 1000 },
    limits: { hookTimeoutMs: 1000 },
    npm: { enabled: true, basePath: '/npm' },
    oci: { enabled: true, basePath: '/oci' },
    authProvider: new People(),
    logger: Object.fromEntries(['error', 'warn'].map((level) => [level, (message, about) => logged.push({ level, message, ...about })])),
    ...options,
  });
  await registry.init();
  const listening = await doors[door](registry);
  t.after(async () => {
    await listening.close();
    await registry.destroy();
    await box.remove();
  });
  const host = `127.0.0.1:${listening.port}`;
  const url = `http://${host}/npm/`;
  const env = async (who) => {
    const home = join(box.home, who);
    await write(home, { '.npmrc': npmrc(url, `token-of-${who}`), '.docker/config.json': loginFile(host, who, `password-of-${who}`) });
    return { ...box.env, HOME: home, XDG_CONFIG_HOME: join(home, '.config'), REGISTRY_AUTH_FILE: join(home, '.docker/config.json') };
  };
  const layout = await box.folder('layout');
  await writeLayout(layout, small, 'small');
  return {
    box,
    url,
    registry,
    logged,
    async npm(args, { cwd = box.dir, as = 'alice', ...more } = {}) {
      return run([...npmProgram.argv, ...args], { cwd, env: await env(as), ...more });
    },
    async skopeo(args, { as = 'alice' } = {}) {
      return run([...skopeoProgram.argv, '--insecure-policy', ...args], { cwd: box.dir, env: await env(as) });
    },
    push: (to, options) => [['copy', '--dest-tls-verify=false', `oci:${layout}:small`, `docker://${host}/${to}`], options],
    pull: (from, folder, options) => [['copy', '--src-tls-verify=false', `docker://${host}/${from}`, `oci:${folder}:pulled`], options],
    remove: (what, options) => [['delete', '--tls-verify=false', `docker://${host}/${what}`], options],
    package: async (name, version) => writePackage(await box.folder(`packages/${name}-${version}`), { name, version }),
    keys: async () => (await registry.getStorage().listObjects('')).filter((key) => !key.startsWith('_sr/')),
  };
}

for (const door of Object.keys(doors)) {
  describe(`hooks, ${door}`, () => {
    it('see each object of a publish, an install and an unpublish once, with who asked', async (t) => {
      const seen = [];
      const note = (when) => (ctx) => {
        seen.push({ when, ...ctx });
        return { allowed: true };
      };
      const names = ['beforePut', 'afterPut', 'beforeDelete', 'afterDelete', 'afterGet'];
      const { npm, package: make, box } = await site(t, door, { storageHooks: Object.fromEntries(names.map((name) => [name, note(name)])) });
      const made = await make('widget', '1.0.0');
      (await npm(['publish'], { cwd: made.folder })).ok();
      const tarball = 'npm/packages/widget/widget-1.0.0.tgz';
      const of = (when, key) => seen.filter((one) => one.when === when && one.key === key);
      const puts = seen.filter(({ when }) => when === 'beforePut').map(({ key }) => key);
      assert.deepEqual([...puts].sort(), ['npm/packages/widget/index.json', tarball]);
      for (const key of puts) {
        assert.equal(of('beforePut', key).length, 1, key);
        assert.equal(of('afterPut', key).length, 1, key);
      }
      for (const ctx of seen) {
        assert.deepEqual([ctx.protocol, ctx.actor.userId, ctx.operation, ctx.metadata.packageName], ['npm', 'alice', 'put', 'widget']);
        assert.match(ctx.actor.userAgent, /^npm\//);
        assert.equal(ctx.actor.ip, '127.0.0.1');
        assert.ok(ctx.timestamp instanceof Date);
      }
      const [{ metadata }] = of('beforePut', tarball);
      assert.ok(metadata.size > 1000 && metadata.version === '1.0.0' && /^sha512:/.test(metadata.digest), JSON.stringify(metadata));

      seen.length = 0;
      const project = await box.folder('project');
      await writeProject(project, { widget: '1.0.0' });
      (await npm(['install'], { cwd: project, as: 'bob' })).ok();
      await assertInstalled(project, made);
      const gets = of('afterGet', tarball);
      assert.deepEqual(gets.map(({ actor, operation }) => [actor.userId, operation]), [['bob', 'get']]);
      assert.ok(seen.every(({ when }) => when === 'afterGet'));
      assert.equal(of('afterGet', 'npm/packages/widget/index.json').length, 1);

      seen.length = 0;
      (await npm(['unpublish', 'widget', '--force'])).ok();
      for (const when of ['beforeDelete', 'afterDelete']) {
        assert.deepEqual(of(when, tarball).map(({ actor, operation }) => [actor.userId, operation]), [['alice', 'delete']], when);
      }
    });

    it('see the blobs and the manifest of a push, streamed ones with their size', async (t) => {
      const seen = [];
      const storageHooks = {
        seen,
        beforePut(ctx) {
          this.seen.push({ when: 'before', ...ctx });
          return { allowed: true };
        },
        async afterPut(ctx) {
          this.seen.push({ when: 'after', ...ctx });
        },
        afterGet(ctx) {
          this.seen.push({ when: 'get', ...ctx });
        },
      };
      const { skopeo, push, pull, box } = await site(t, door, { storageHooks });
      (await skopeo(...push('team/app:v1'))).ok();
      for (const [digest, bytes] of small.blobs) {
        if (digest === small.descriptor.digest) continue;
        for (const when of ['before', 'after']) {
          const [ctx, ...more] = seen.filter((one) => one.when === when && one.key === `oci/blobs/sha256/${digest.slice(7)}`);
          assert.ok(ctx, `${when} ${digest}: ${JSON.stringify(seen.map(({ when: at, key }) => [at, key]))}`);
          assert.equal(more.length, 0);
          assert.deepEqual([ctx.metadata.size, ctx.metadata.digest, ctx.actor.userId, ctx.metadata.packageName], [bytes.length, digest, 'alice', 'team/app']);
        }
      }
      seen.length = 0;
      const folder = await box.folder('pulled');
      (await skopeo(...pull('team/app:v1', folder, { as: 'bob' }))).ok();
      await assertSameImage(folder, small);
      assert.ok(seen.some(({ when, key }) => when === 'get' && key === `oci/manifests/team/app/${small.descriptor.digest}`), JSON.stringify(seen.map(({ key }) => key)));
      const layers = seen.filter(({ when, key }) => when === 'get' && key.startsWith('oci/blobs/'));
      assert.equal(layers.length, small.blobs.size - 1);
      assert.ok(layers.every(({ actor }) => actor.userId === 'bob'));
    });

    const refusals = {
      'that denies': [() => ({ allowed: false, reason: 'Storage quota exceeded' }), /Storage quota exceeded/],
      'that denies without a word': [() => ({ allowed: false }), /denied|not allowed|forbidden|refused/i],
      'that throws': [() => { throw new Error('secret detail'); }, /denied|not allowed|forbidden|refused/i],
      'that never answers': [() => new Promise(() => {}), /denied|not allowed|forbidden|refused/i],
      'that answers nonsense': [() => 'yes', /denied|not allowed|forbidden|refused/i],
    };
    for (const [name, [beforePut, told]] of Object.entries(refusals)) {
      it(`a beforePut ${name} refuses publish and push, and nothing is left`, async (t) => {
        const { npm, skopeo, push, package: make, keys, logged } = await site(t, door, { storageHooks: { beforePut } });
        const made = await make('widget', '1.0.0');
        (await npm(['publish'], { cwd: made.folder })).refused(/E403/).shows(told).hides(/secret detail/);
        (await skopeo(...push('team/app:v1'))).refused(/denied/).shows(told).hides(/secret detail/);
        assert.deepEqual(await keys(), []);
        if (name === 'that throws') assert.ok(logged.some(({ causes, message }) => /secret detail/.test(`${message} ${causes}`)), JSON.stringify(logged));
      });
    }

    it('a beforeDelete that denies keeps what is there', async (t) => {
      const storageHooks = { beforeDelete: ({ metadata }) => ({ allowed: false, reason: `${metadata?.packageName} is kept for the auditors` }) };
      const { npm, skopeo, push, pull, remove, package: make, box } = await site(t, door, { storageHooks });
      const made = await make('widget', '1.0.0');
      (await npm(['publish'], { cwd: made.folder })).ok();
      (await npm(['unpublish', 'widget@1.0.0', '--force'])).refused(/E403/).shows(/widget is kept for the auditors/);
      const project = await box.folder('project');
      await writeProject(project, { widget: '1.0.0' });
      (await npm(['install'], { cwd: project, as: 'bob' })).ok();
      await assertInstalled(project, made);
      (await skopeo(...push('team/app:v1'))).ok();
      (await skopeo(...remove('team/app:v1'))).refused(/team\/app is kept for the auditors/);
      const folder = await box.folder('pulled');
      (await skopeo(...pull('team/app:v1', folder))).ok();
      await assertSameImage(folder, small);
    });

    it('an after-hook that throws or hangs changes nothing for the client, and is logged', async (t) => {
      const storageHooks = {
        afterPut() {
          throw new Error('the audit log is down');
        },
        afterGet: () => Promise.reject(new Error('the counter is down')),
        afterDelete: () => new Promise(() => {}),
      };
      const { npm, package: make, box, logged } = await site(t, door, { storageHooks });
      const made = await make('widget', '1.0.0');
      (await npm(['publish'], { cwd: made.folder })).ok();
      const project = await box.folder('project');
      await writeProject(project, { widget: '1.0.0' });
      (await npm(['install'], { cwd: project, as: 'bob' })).ok();
      (await npm(['unpublish', 'widget', '--force'])).ok();
      const told = JSON.stringify(logged);
      for (const what of [/audit log is down/, /counter is down/, /did not answer within 1000 ms/]) assert.match(told, what);
    });
  });

  describe(`an auth provider, ${door}`, () => {
    it('decides who publishes, pushes, installs and pulls', async (t) => {
      const { npm, skopeo, push, pull, package: make, box } = await site(t, door);
      const made = await make('widget', '1.0.0');
      (await npm(['publish'], { cwd: made.folder, as: 'bob' })).refused(/E403/);
      (await npm(['publish'], { cwd: made.folder, as: 'mallory' })).refused(/E401|ENEEDAUTH/);
      (await npm(['publish'], { cwd: made.folder })).ok();
      assert.equal((await npm(['whoami'], { as: 'bob' })).ok().stdout.trim(), 'bob');
      const project = await box.folder('project');
      await writeProject(project, { widget: '1.0.0' });
      (await npm(['install'], { cwd: project, as: 'bob' })).ok();
      (await skopeo(...push('team/app:v1', { as: 'bob' }))).refused(/denied/);
      (await skopeo(...push('team/app:v1', { as: 'mallory' }))).refused(/denied|unauthorized/i);
      (await skopeo(...push('team/app:v1'))).ok();
      (await skopeo(...pull('team/app:v1', await box.folder('pulled'), { as: 'bob' }))).ok();
    });

    const failures = {
      'throws': () => { throw new TypeError('secret detail'); },
      'rejects with nothing': () => Promise.reject(),
      'never answers': () => new Promise(() => {}),
      'answers nonsense': () => 7,
    };
    for (const [name, fail] of Object.entries(failures)) {
      it(`that ${name} lets nobody in, and the clients are told`, async (t) => {
        const authProvider = Object.assign(new People(), { validateToken: fail, authenticate: fail, authorize: fail });
        const { npm, skopeo, push, package: make, keys, url } = await site(t, door, { authProvider });
        const made = await make('widget', '1.0.0');
        (await npm(['publish'], { cwd: made.folder })).refused(/E500/).hides(/secret detail/);
        (await skopeo(...push('team/app:v1'))).refused(/500|internal|unknown/i).hides(/secret detail/);
        assert.deepEqual(await keys(), []);
        assert.equal((await fetch(`${url}-/ping`)).status, 200);
      });
    }
  });

  describe(`an upstream provider, ${door}`, () => {
    it('sends each user where they may look', async (t) => {
      const origin = await site(t, 'listen()');
      const made = await origin.package('widget', '1.0.0');
      (await origin.npm(['publish'], { cwd: made.folder })).ok();
      const { url } = origin;
      const asked = [];
      class PerUser {
        auth = { type: 'bearer', token: 'token-of-bob' };

        async resolveUpstreamConfig(question) {
          asked.push(question);
          if (question.actor?.userId !== 'alice') return null;
          return { enabled: true, upstreams: [{ id: 'origin', url, priority: 1, enabled: true, auth: this.auth }] };
        }
      }
      const { npm, box } = await site(t, door, { upstreamProvider: new PerUser() });
      for (const [who, may] of [['bob', false], ['alice', true]]) {
        const project = await box.folder(`project-${who}`);
        await writeProject(project, { widget: '1.0.0' });
        const done = await npm(['install', '--cache', join(box.home, `cache-${who}`)], { cwd: project, as: who });
        if (!may) done.refused(/E404/);
        else await assertInstalled(project, (done.ok(), made));
      }
      const packuments = asked.filter(({ resourceType }) => resourceType === 'packument');
      assert.ok(packuments.length >= 2);
      for (const { protocol, resource, scope, method } of packuments) assert.deepEqual([protocol, resource, scope, method], ['npm', 'widget', null, 'GET']);
    });

    it('that fails is not taken for "nobody has it"', async (t) => {
      const upstreamProvider = {
        resolveUpstreamConfig() {
          throw new Error('secret detail');
        },
      };
      const { npm, box } = await site(t, door, { upstreamProvider });
      const project = await box.folder('project');
      await writeProject(project, { widget: '1.0.0' });
      (await npm(['install'], { cwd: project })).refused(/E500/).hides(/secret detail|E404/);
    });
  });
}
