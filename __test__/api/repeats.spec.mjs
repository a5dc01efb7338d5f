// Requests that come again and again through `nodeHandler()`: what is kept of them is never seen, in answers, rights, hooks or numbers.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, createServer, request as send } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import express from 'express';
import { SmartRegistry } from 'smartregistry-native';
import { config, login, noise, open, publish, pushBlob, sha256 } from '../support/facade.mjs';

const { repeats } = createRequire(import.meta.url)('../../js/repeats.cjs');

async function serve(t, handler) {
  const server = createServer(handler);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => (server.closeAllConnections(), new Promise((done) => server.close(done))));
  return server.address().port;
}

const host = 'registry.example.com';

/** Asks on one connection, with the same head each time. */
function asker(port) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return (path, headers = {}, method = 'GET') =>
    new Promise((done, fail) => {
      const asked = send({ agent, port, path, method, headers: { host, ...headers } }, (res) => {
        buffer(res).then((body) => done({ status: res.statusCode, headers: res.headers, body }), fail);
      });
      asked.on('error', fail).end();
    });
}

const versions = ({ body }) => Object.keys(JSON.parse(body).versions);

describe('a request that comes again', () => {
  it('is told what is so now, under an id of its own', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    const ids = new Set();
    const expected = [];
    for (const version of ['1.0.0', '1.1.0', '1.2.0']) {
      assert.equal((await publish(registry, npm, 'widget', version)).status, 201);
      expected.push(version);
      const tags = new Set();
      for (let i = 0; i < 5; i += 1) {
        const answer = await ask('/npm/widget');
        assert.deepEqual(versions(answer), expected);
        assert.equal(answer.headers['content-length'], String(answer.body.length));
        tags.add(answer.headers.etag);
        ids.add(answer.headers['x-request-id']);
      }
      assert.equal(tags.size, 1);
    }
    assert.equal(ids.size, 15);
  });

  it('is told so in each form that it asks for', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    await publish(registry, npm, 'widget', '1.0.0');
    const { headers: { etag } } = await ask('/npm/widget');
    for (let i = 0; i < 4; i += 1) {
      for (let again = 0; again < 4; again += 1) {
        const head = await ask('/npm/widget', {}, 'HEAD');
        assert.deepEqual([head.status, head.body.length, head.headers.etag], [200, 0, etag]);
      }
      for (let again = 0; again < 4; again += 1) {
        const unchanged = await ask('/npm/widget', { 'if-none-match': etag });
        assert.deepEqual([unchanged.status, unchanged.body.length], [304, 0]);
      }
      for (let again = 0; again < 4; again += 1) {
        const packed = await ask('/npm/widget', { 'accept-encoding': 'gzip', accept: 'application/vnd.npm.install-v1+json' });
        assert.equal(packed.headers['content-type'], 'application/vnd.npm.install-v1+json');
        assert.equal(JSON.parse(gunzipSync(packed.body)).name, 'widget');
      }
      for (let again = 0; again < 4; again += 1) {
        const elsewhere = await ask('/npm/widget', { host: `h${i}.example.com` });
        assert.equal(new URL(JSON.parse(elsewhere.body).versions['1.0.0'].dist.tarball).host, `h${i}.example.com`);
      }
    }
  });

  it('sees no more of what has become private, or has gone', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    await publish(registry, npm, '@acme/widget', '1.0.0');
    const path = '/npm/@acme%2fwidget';
    const access = async (value) => {
      const headers = { ...npm, 'content-type': 'application/json' };
      const { status } = await registry.handleRequest({ method: 'POST', path: '/npm/-/package/@acme%2fwidget/access', headers, query: {}, body: { access: value } });
      assert.equal(status, 200);
    };
    for (const [value, status] of [['public', 200], ['restricted', 404], ['public', 200], ['restricted', 404]]) {
      await access(value);
      for (let i = 0; i < 4; i += 1) assert.equal((await ask(path)).status, status);
    }
    await access('public');
    for (let i = 0; i < 4; i += 1) assert.equal((await ask(path)).status, 200);
    const { _rev } = JSON.parse((await ask(path)).body);
    assert.equal((await registry.handleRequest({ method: 'DELETE', path: `${path}/-rev/${_rev}`, headers: npm, query: {} })).status, 200);
    for (let i = 0; i < 4; i += 1) assert.ok(JSON.parse((await ask(path)).body).time.unpublished);
  });

  it('follows a tag of an image, and sees when it goes', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    const empty = Buffer.from('{}');
    assert.equal((await pushBlob(registry, oci, sha256(empty), empty)).status, 201);
    const type = 'application/vnd.oci.image.manifest.v1+json';
    const path = '/oci/team/app/manifests/latest';
    const part = { mediaType: 'application/vnd.oci.empty.v1+json', digest: sha256(empty), size: 2 };
    for (const number of [1, 2, 3]) {
      const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, artifactType: `application/x.test.${number}`, config: part, layers: [part] }));
      assert.equal((await registry.handleRequest({ method: 'PUT', path, headers: { ...oci, 'content-type': type }, query: {}, body: manifest })).status, 201);
      for (let i = 0; i < 4; i += 1) {
        const answer = await ask(path);
        assert.ok(manifest.equals(answer.body));
        assert.equal(answer.headers['docker-content-digest'], sha256(manifest));
      }
    }
    assert.equal((await registry.handleRequest({ method: 'DELETE', path, headers: oci, query: {} })).status, 202);
    for (let i = 0; i < 4; i += 1) assert.equal((await ask(path)).status, 404);
  });

  it('sees within the time of the configuration what another process has done', async (t) => {
    const path = await mkdtemp(join(tmpdir(), 'smartregistry-repeats-'));
    t.after(() => rm(path, { recursive: true }));
    const changes = { storage: { type: 'local', path }, limits: { metadataTtlMs: 300 } };
    const [one, other] = [await open(t, changes), await open(t, changes)];
    const { npm } = await login(other);
    const ask = asker(await serve(t, one.nodeHandler()));
    await publish(other, npm, 'widget', '1.0.0');
    for (let i = 0; i < 4; i += 1) assert.deepEqual(versions(await ask('/npm/widget')), ['1.0.0']);
    await publish(other, npm, 'widget', '2.0.0');
    assert.deepEqual(versions(await ask('/npm/widget', { 'cache-control': 'no-cache' })), ['1.0.0', '2.0.0']);
    const since = Date.now();
    // No pause: a request on the way all the time is what a kept answer could live on.
    while (versions(await ask('/npm/widget')).length === 1) assert.ok(Date.now() - since < 5000, 'what the other has published is never seen');
    for (let i = 0; i < 4; i += 1) assert.deepEqual(versions(await ask('/npm/widget')), ['1.0.0', '2.0.0']);
  });

  it('is asked about and told of each time, where the application wants to be', async (t) => {
    const asked = [];
    const read = [];
    const authProvider = {
      authenticate: async () => null,
      validateToken: async (token) => (token === 'alice' ? { type: 'npm', userId: 'alice', scopes: ['npm:*:*:*'] } : null),
      createToken: async () => 'alice',
      revokeToken: async () => {},
      authorize: async (token, resource, action) => (asked.push(`${token?.userId ?? 'nobody'} ${action} ${resource}`), token !== null || closed === false),
    };
    let closed = false;
    const storageHooks = { afterGet: async ({ key }) => void read.push(key) };
    const registry = await open(t, { authProvider, storageHooks });
    const ask = asker(await serve(t, registry.nodeHandler()));
    const npm = { Authorization: 'Bearer alice' };
    assert.equal((await publish(registry, npm, 'widget', '1.0.0')).status, 201);
    asked.length = 0;
    for (let i = 0; i < 6; i += 1) assert.equal((await ask('/npm/widget')).status, 200);
    assert.ok(asked.filter((line) => line.startsWith('nobody read')).length >= 6, asked.join('\n'));
    assert.equal(read.filter((key) => key === 'npm/packages/widget/index.json').length, 6);
    closed = true;
    for (let i = 0; i < 3; i += 1) assert.notEqual((await ask('/npm/widget')).status, 200);
  });

  it('with a token gets nothing once that is revoked, and neither does its neighbour', async (t) => {
    const registry = await open(t, { auth: { ...config().auth, visibility: [{ pattern: 'npm:package:*', visibility: 'private' }] } });
    const { npm, npmToken } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    await publish(registry, npm, 'widget', '1.0.0');
    for (let i = 0; i < 4; i += 1) {
      assert.equal((await ask('/npm/widget', npm)).status, 200);
      assert.equal((await ask('/npm/widget')).status, 401);
      assert.equal((await ask('/npm/widget', { authorization: 'Bearer wrong' })).status, 401);
    }
    await registry.getAuthManager().revokeToken(npmToken);
    for (let i = 0; i < 4; i += 1) assert.equal((await ask('/npm/widget', npm)).status, 401);
  });

  it('is counted, with its bytes', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    await publish(registry, npm, 'widget', '1.0.0');
    let bytes = 0;
    for (let i = 0; i < 20; i += 1) bytes += (await ask('/npm/widget')).body.length;
    const text = registry.metrics();
    const value = (name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
    assert.equal(value('smartregistry_requests_total\\{protocol="npm",method="GET",status="2xx"\\}'), 20);
    assert.ok(value('smartregistry_sent_bytes_total\\{protocol="npm"\\}') >= bytes);
    assert.ok(value('smartregistry_request_duration_seconds_count\\{protocol="npm"\\}') >= 20);
  });

  it('leaves what is for others to others', async (t) => {
    const registry = await open(t);
    const app = express().use(registry.nodeHandler()).use((req, res) => res.status(418).end(req.url));
    const ask = asker(await serve(t, app));
    for (let i = 0; i < 4; i += 1) {
      const answer = await ask('/coffee');
      assert.deepEqual([answer.status, String(answer.body)], [418, '/coffee']);
      assert.equal((await ask('/npm/nothing')).status, 404);
    }
  });

  it('gets large and small bodies whole', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const ask = asker(await serve(t, registry.nodeHandler()));
    for (const bytes of [noise(500), noise(300_000), noise(5_000_000)]) {
      await pushBlob(registry, oci, sha256(bytes), bytes);
      for (let i = 0; i < 4; i += 1) assert.ok(bytes.equals((await ask(`/oci/team/app/blobs/${sha256(bytes)}`)).body));
    }
  });

  it('is refused when the registry is destroyed', async (t) => {
    const registry = new SmartRegistry(config());
    await registry.init();
    const { npm } = await login(registry);
    await publish(registry, npm, 'widget', '1.0.0');
    const ask = asker(await serve(t, registry.nodeHandler()));
    for (let i = 0; i < 4; i += 1) assert.equal((await ask('/npm/widget')).status, 200);
    await registry.destroy();
    for (let i = 0; i < 2; i += 1) assert.equal((await ask('/npm/widget')).status, 503);
  });
});

describe('what is kept of requests', () => {
  const request = (changes = {}) => ({ method: 'GET', url: '/npm/widget', httpVersionMajor: 1, rawHeaders: ['Host', host], socket: { remoteAddress: '127.0.0.1' }, ...changes });
  const answer = (body = Buffer.from('x')) => ({ status: 200, headers: 'content-type\ntext/plain\nx-request-id\n1', body });
  const kept = (list, req, prefix = '') => {
    const found = list.find(req, req.url, prefix);
    if (!found) list.note(req, req.url, prefix);
    return found;
  };
  const fresh = () => repeats({ repeat: (...head) => ({ head }) });

  it('is one head that came twice', () => {
    const list = fresh();
    assert.equal(kept(list, request()), undefined);
    const found = kept(list, request());
    assert.deepEqual(found.repeat.head, ['GET', '/npm/widget', `Host\n${host}`, '127.0.0.1', false, undefined]);
    list.keep(found, '/npm/widget', answer());
    assert.deepEqual(kept(list, request()).answer('2'), { status: 200, statusText: undefined, list: ['Content-Type', 'text/plain', 'X-Request-ID', '2'], body: Buffer.from('x') });
    for (const other of [{ method: 'HEAD' }, { rawHeaders: ['Host', 'elsewhere'] }, { rawHeaders: ['Host', host, 'Accept', '*/*'] }, { socket: { remoteAddress: '192.0.2.1' } }, { socket: { remoteAddress: '127.0.0.1', encrypted: true } }]) {
      assert.equal(list.find(request(other), '/npm/widget', ''), undefined);
    }
    assert.equal(list.find(request(), '/npm/widget', '/prefix'), undefined);
    assert.ok(list.find(request(), '/npm/widget', ''));
  });

  it('is nothing of what has a body, a secret or an id', () => {
    const more = (name, value = 'x') => ({ rawHeaders: ['Host', host, name, value] });
    for (const changes of [
      { method: 'PUT' }, { httpVersionMajor: 2 }, { id: '1' }, { body: { a: 1 } }, { rawBody: Buffer.from('x') },
      more('Authorization'), more('Proxy-Authorization'), more('COOKIE'), more('npm-otp'), more('X-API-Key'), more('X-Request-Id'), more('traceparent'), more('Content-Length', '1'), more('Transfer-Encoding'),
    ]) {
      const list = fresh();
      for (let i = 0; i < 3; i += 1) assert.equal(kept(list, request(changes)), undefined, JSON.stringify(changes));
    }
    const list = fresh();
    for (let i = 0; i < 2; i += 1) kept(list, request({ ...more('npm-auth-type', 'web'), body: {} }));
    assert.ok(kept(list, request({ ...more('npm-auth-type', 'web'), body: {} })));
  });

  it('is nothing that is another answer each time, or none in memory', () => {
    const changing = fresh();
    kept(changing, request());
    const found = kept(changing, request());
    for (const body of ['x', 'y']) changing.keep(found, '/npm/widget', answer(Buffer.from(body)));
    // It begins anew: as a head that came for the first time.
    assert.equal(kept(changing, request()), undefined);
    changing.keep(kept(changing, request()), '/npm/widget', answer());
    assert.equal(kept(changing, request()).answer('2').body.toString(), 'x');
    const large = fresh();
    kept(large, request());
    large.keep(kept(large, request()), '/npm/widget', answer(Buffer.alloc((2 << 20) + 1)));
    assert.equal(kept(large, request()), undefined);
    const streamed = fresh();
    kept(streamed, request());
    streamed.keep(kept(streamed, request()), '/npm/widget', { ...answer(), body: { next() {} } });
    assert.equal(kept(streamed, request()), undefined);
  });

  it('has its bounds', () => {
    const list = fresh();
    const urls = Array.from({ length: 40 }, (_, i) => `/npm/p${i}`);
    for (const url of urls) {
      kept(list, request({ url }));
      list.keep(kept(list, request({ url })), url, answer(Buffer.alloc(1 << 20)));
    }
    const left = urls.filter((url) => list.find(request({ url }), url, ''));
    assert.ok(left.length > 5 && left.length < 16, `${left.length} of a megabyte each`);
    for (let i = 0; i < 5000; i += 1) kept(list, request({ url: `/npm/q${i}` }));
    assert.equal(urls.filter((url) => list.find(request({ url }), url, '')).length, 0);
  });
});
