// More than one registry in a process: in worker threads, which may be ended at any moment, and side by side with other configurations.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { streamToBuffer, streamToJson } from 'smartregistry-native';
import { config, getBlob, login, noise, open, publish, pushBlob, sha256 } from '../support/facade.mjs';
import { startS3 } from '../support/s3.mjs';

/** A folder or a bucket that several registries use at once. */
const shared = {
  async local(t) {
    const path = await mkdtemp(join(tmpdir(), 'smartregistry-many-'));
    t.after(() => rm(path, { recursive: true, force: true }));
    return { type: 'local', path, durability: 'relaxed' };
  },
  async moto(t) {
    const s3 = await startS3('moto');
    t.after(() => s3.stop());
    return s3.storage();
  },
};

const onStorage = (storage, more = {}) => ({ storage, auth: { jwtSecret: 'a secret of the tests, long enough to sign', tokenStore: 'storage', npmTokens: { enabled: true }, ociTokens: { enabled: true } }, ...more });

/** Starts a worker; `result` is what its job came to, `ended` the code it ended with. */
function work(job, settings, more = {}) {
  const worker = new Worker(new URL('../support/registry-worker.mjs', import.meta.url), { workerData: { job, config: config(settings), ...more } });
  const result = new Promise((done, fail) => {
    worker.once('message', done);
    worker.once('error', fail);
  });
  return { worker, result, ended: new Promise((done) => worker.once('exit', done)) };
}

const get = (registry, path, headers = {}) => registry.handleRequest({ method: 'GET', path, headers, query: {} });

/** Waits until nothing listens there any more. */
async function closed(url, within = 5000) {
  const until = Date.now() + within;
  while (await fetch(`${url}/npm/-/ping`).then((answer) => answer.text(), () => undefined)) {
    assert.ok(Date.now() < until, `${url} still answers`);
    await sleep(10);
  }
}

describe('a registry in a worker thread', () => {
  it('does all that one in the main thread does, and the thread ends by itself', { timeout: 60_000 }, async () => {
    const { result, ended } = work('all', {}, { extensions: ['hooks'] });
    assert.ok((await result).hooks > 0);
    assert.equal(await ended, 0);
  });

  it('publishes into one package at the same time as three others and the main thread', { timeout: 60_000 }, async (t) => {
    const settings = onStorage(await shared.local(t));
    const registry = await open(t, settings);
    const versionsOf = (n) => Array.from({ length: 4 }, (_, patch) => `${n}.0.${patch}`);
    const workers = [1, 2, 3, 4].map((n) => work('publish', settings, { user: `worker${n}`, versions: versionsOf(n) }));
    const { npm } = await login(registry);
    for (const version of versionsOf(9)) {
      const answer = await publish(registry, npm, 'shared', version, { tag: `tag-${version}` });
      assert.equal(answer.status, 201, String(await streamToBuffer(answer.body)));
    }
    for (const { result, ended } of workers) {
      assert.equal(await result, 4);
      assert.equal(await ended, 0);
    }
    const fresh = await open(t, settings);
    const { versions } = await streamToJson((await get(fresh, '/npm/shared')).body);
    assert.deepEqual(Object.keys(versions).sort(), [1, 2, 3, 4, 9].flatMap(versionsOf));
    assert.equal((await fresh.verify()).problems, 0);
  });

  it('may be ended in the midst of uploads, downloads and calls of its provider; the others never notice', { timeout: 120_000 }, async (t) => {
    const settings = onStorage(await shared.local(t));
    const registry = await open(t, settings);
    const { npm, oci } = await login(registry);
    const bytes = noise(2_000_000);
    assert.equal((await pushBlob(registry, oci, sha256(bytes), bytes)).status, 201);
    let answered = 0;
    let busy = true;
    const serving = (async () => {
      while (busy) {
        assert.ok(bytes.equals(await streamToBuffer((await getBlob(registry, oci, sha256(bytes))).body)));
        answered += 1;
        await sleep(1);
      }
    })();
    const ways = [{}, { extensions: ['hooks'] }, { listen: true }, { extensions: ['provider'], never: true }];
    for (const way of ways) {
      const { worker, result, ended } = work('endless', settings, { user: 'alice', ...way });
      const listening = await result;
      if (listening) assert.equal((await fetch(`${listening}/npm/-/ping`)).status, 200);
      const before = answered;
      await worker.terminate();
      await ended;
      if (listening) await closed(listening);
      while (answered < before + 3) await sleep(1);
    }
    busy = false;
    await serving;
    assert.deepEqual(await registry.getStorage().listObjects('oci/blobs/'), [`oci/blobs/sha256/${sha256(bytes).slice(7)}`]);
    assert.equal((await publish(registry, npm, 'after', '1.0.0')).status, 201);
    assert.equal((await registry.verify()).problems, 0);
  });
});

describe('several registries in one process', () => {
  for (const [name, storageOf] of Object.entries(shared)) {
    it(`with other paths, rights and hooks over one bucket (${name}) see the same packages, each by its own rules`, { timeout: 60_000 }, async (t) => {
      const storage = await storageOf(t);
      const asked = { one: [], two: [] };
      const hooksOf = (who) => ({ beforePut: ({ key }) => (asked[who].push(key), { allowed: who === 'one', reason: 'this one only reads' }) });
      const one = await open(t, onStorage(storage, { storageHooks: hooksOf('one'), npm: { enabled: true, basePath: '/npm', registryUrl: 'https://one.example.com/npm' } }));
      const two = await open(t, onStorage(storage, { storageHooks: hooksOf('two'), npm: { enabled: true, basePath: '/packages', registryUrl: 'https://two.example.com/packages' }, oci: { enabled: false } }));
      const closed = await open(t, onStorage(storage, { npm: { enabled: true, basePath: '/npm', features: { anonymousRead: false } } }));

      const { npm } = await login(one);
      assert.equal((await publish(one, npm, 'widget', '1.0.0')).status, 201);
      assert.ok(asked.one.some((key) => key.startsWith('npm/packages/widget/')));
      assert.deepEqual(asked.two, []);

      const tarballOf = async (registry, path) => (await streamToJson((await get(registry, path)).body)).versions['1.0.0'].dist.tarball;
      assert.match(await tarballOf(one, '/npm/widget'), /^https:\/\/one\.example\.com\/npm\/widget\//);
      assert.match(await tarballOf(two, '/packages/widget'), /^https:\/\/two\.example\.com\/packages\/widget\//);
      assert.equal((await get(two, '/npm/widget')).status, 404);
      assert.equal((await get(two, '/v2/')).status, 404);

      // Tokens are in the bucket, so one's are the other's; hooks are each registry's own.
      const refused = await publish(two, npm, 'gadget', '1.0.0', { path: '/packages/gadget' });
      assert.deepEqual([refused.status, (await streamToJson(refused.body)).error], [403, 'this one only reads']);
      assert.equal((await get(closed, '/npm/widget')).status, 401);
      assert.equal((await get(closed, '/npm/widget', npm)).status, 200);

      await one.destroy();
      assert.equal((await get(two, '/packages/widget')).status, 200);
      await assert.rejects(get(one, '/npm/widget'), { code: 'DESTROYED' });
    });
  }

  it('come and go by the dozen', { timeout: 60_000 }, async (t) => {
    const settings = onStorage(await shared.local(t));
    const first = await open(t, settings);
    const { npm } = await login(first);
    for (let round = 0; round < 2; round++) {
      const registries = await Promise.all(Array.from({ length: 12 }, () => open(t, settings)));
      const answers = await Promise.all(registries.map((registry, n) => publish(registry, npm, `package-${round}-${n}`, '1.0.0')));
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [201]);
      await Promise.all(registries.map((registry) => registry.destroy()));
    }
    // What others have just done one registry may not know for `limits.metadataTtlMs`; a new one does.
    assert.equal((await (await open(t, settings)).stats()).protocols.npm.names, 24);
  });
});
