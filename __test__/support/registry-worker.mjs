// A worker thread with a registry in it. `workerData` has its configuration and the job to do; what came of it is posted.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { parentPort, workerData } from 'node:worker_threads';
import { SmartRegistry, streamToBuffer, streamToJson } from 'smartregistry-native';
import { getBlob, login, noise, publish, pushBlob, sha256 } from './facade.mjs';

const { config, job, ...given } = workerData;

/** Functions can't be handed to a thread: each makes its own. */
const seen = { hooks: 0, provider: 0 };
const extensions = {
  hooks: { storageHooks: { beforePut: () => ((seen.hooks += 1), { allowed: true }) } },
  provider: {
    authProvider: {
      authenticate: ({ username }) => username,
      validateToken: async () => ((seen.provider += 1), given.never ? new Promise(() => {}) : { userId: 'worker', scopes: ['*:*:*:*'] }),
      createToken: () => 'x',
      revokeToken() {},
      authorize: () => true,
    },
  },
};
const registry = new SmartRegistry({ ...config, ...Object.assign({}, ...(given.extensions ?? []).map((name) => extensions[name])) });
await registry.init();

const jobs = {
  /** Everything that a registry does, once. */
  async all() {
    const { npm, oci } = await login(registry);
    assert.equal((await publish(registry, npm, 'widget', '1.0.0')).status, 201);
    const packument = await streamToJson((await registry.handleRequest({ method: 'GET', path: '/npm/widget', headers: {}, query: {} })).body);
    assert.deepEqual(Object.keys(packument.versions), ['1.0.0']);
    const bytes = noise(3_000_000);
    assert.equal((await pushBlob(registry, oci, sha256(bytes), bytes)).status, 201);
    assert.ok(bytes.equals(await streamToBuffer((await getBlob(registry, oci, sha256(bytes))).body)));
    const listener = await registry.listen({ port: 0 });
    const server = createServer(registry.nodeHandler());
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    for (const url of [listener.url, `http://127.0.0.1:${server.address().port}`]) {
      const got = await fetch(`${url}/oci/team/app/blobs/${sha256(bytes)}`, { headers: oci });
      assert.ok(bytes.equals(Buffer.from(await got.arrayBuffer())));
    }
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    await registry.destroy();
    return seen;
  },

  /** Versions of one package, while others publish more of it. */
  async publish() {
    const { npm } = await login(registry, given.user);
    for (const version of given.versions) assert.equal((await publish(registry, npm, 'shared', version, { tag: `tag-${version}` })).status, 201);
    await registry.destroy();
    return given.versions.length;
  },

  /** Begins what never ends, of every kind; gives where it listens. */
  async endless() {
    const { oci } = await login(registry, given.user);
    await registry.getStorage().putObject('large', noise(8 << 20));
    let sent = 0;
    const endless = (async function* () {
      for (;;) {
        yield noise(256 << 10);
        sent += 1;
        await new Promise((done) => setTimeout(done, 1));
      }
    })();
    pushBlob(registry, oci, sha256(Buffer.alloc(1)), endless).catch(() => {});
    for (let n = 0; n < 8; n++) (await registry.getStorage().getObjectStream('large')).getReader().read();
    for (let n = 0; n < 8; n++) registry.handleRequest({ method: 'GET', path: '/npm/-/whoami', token: `t${n}` }).catch(() => {});
    const listener = given.listen && (await registry.listen({ port: 0 }));
    while (sent < 4) await new Promise((done) => setTimeout(done, 5));
    return listener?.url;
  },
};

parentPort.postMessage(await jobs[job]());
