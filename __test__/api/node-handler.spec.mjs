// `nodeHandler()` and the unchanged code of the README, in the servers that people use.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect, createServer as createHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, it } from 'node:test';
import express4 from 'express';
import express5 from 'express5';
import fastify from 'fastify';
import { login, noise, open, pushBlob, sha256 } from '../support/facade.mjs';

async function serve(t, handler) {
  const server = createServer(handler);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => (server.closeAllConnections(), new Promise((done) => server.close(done))));
  return `http://127.0.0.1:${server.address().port}`;
}

async function push(url, headers, bytes, more = {}) {
  return fetch(`${url}/oci/team/app/blobs/uploads/?digest=${encodeURIComponent(sha256(bytes))}`, { method: 'POST', headers: { ...headers, 'content-type': 'application/octet-stream' }, body: bytes, ...more });
}

const bytes = noise(5_000_000);

const servers = {
  'node:http': (registry) => registry.nodeHandler(),
  'Express 4': (registry) => express4().use(registry.nodeHandler()),
  'Express 5': (registry) => express5().use(registry.nodeHandler()),
  'Express behind a body parser': (registry) => express4().use(express4.raw({ type: () => true, limit: '50mb' })).use(registry.nodeHandler()),
};

for (const [name, make] of Object.entries(servers)) {
  describe(`nodeHandler in ${name}`, () => {
    it('takes and gives bodies, small and large', async (t) => {
      const registry = await open(t);
      const { oci } = await login(registry);
      const url = await serve(t, make(registry));
      for (const content of [bytes, noise(1000)]) {
        const pushed = await push(url, oci, content);
        assert.equal(pushed.status, 201, await pushed.text());
        const got = await fetch(`${url}/oci/team/app/blobs/${sha256(content)}`, { headers: oci });
        assert.equal(got.status, 200);
        assert.equal(got.headers.get('content-length'), String(content.length));
        assert.ok(content.equals(Buffer.from(await got.arrayBuffer())));
        const head = await fetch(`${url}/oci/team/app/blobs/${sha256(content)}`, { headers: oci, method: 'HEAD' });
        assert.equal(head.headers.get('content-length'), String(content.length));
        assert.equal((await head.arrayBuffer()).byteLength, 0);
      }
    });
  });
}

describe('nodeHandler', () => {
  it('passes on what is not for the registry, and answers it where nobody else does', async (t) => {
    const registry = await open(t);
    const app = express4();
    app.use(registry.nodeHandler());
    app.get('/mine', (req, res) => res.send('mine'));
    const url = await serve(t, app);
    assert.equal(await (await fetch(`${url}/mine`)).text(), 'mine');
    assert.equal((await fetch(`${url}/npm/-/ping`)).status, 200);
    const bare = await serve(t, registry.nodeHandler());
    assert.deepEqual(await (await fetch(`${bare}/mine`)).json(), { error: 'NOT_FOUND', message: 'No registry handler for this path' });
  });

  it('links to where the host has mounted it', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const app = express4();
    app.use('/registry', registry.nodeHandler());
    const url = await serve(t, app);
    const start = await fetch(`${url}/registry/oci/team/app/blobs/uploads/`, { method: 'POST', headers: oci });
    assert.equal(start.status, 202);
    assert.match(new URL(start.headers.get('location'), url).pathname, /^\/registry\/oci\//);
  });

  it('answers 503 before init(), and hands the error to next where there is one', async (t) => {
    const { SmartRegistry } = await import('smartregistry-native');
    const { config } = await import('../support/facade.mjs');
    const registry = new SmartRegistry(config());
    assert.equal((await fetch(`${await serve(t, registry.nodeHandler())}/npm/x`)).status, 503);
    let passed;
    registry.nodeHandler()({ url: '/npm/x', method: 'GET', rawHeaders: [] }, {}, (error) => (passed = error));
    assert.equal(passed.code, 'NOT_INITIALIZED');
  });

  it('holds a list of trusted proxies against the peer, which handleRequest() does not know', async (t) => {
    const registry = await open(t, { trustProxy: ['127.0.0.1'] });
    const { oci } = await login(registry);
    const headers = { ...oci, host: 'inside.example.com', 'x-forwarded-prefix': '/outside' };
    const path = '/oci/team/app/blobs/uploads/';
    const started = await fetch(`${await serve(t, registry.nodeHandler())}${path}`, { method: 'POST', headers });
    assert.match(started.headers.get('location'), /^\/outside\/oci\//);
    for (const actor of [undefined, { ip: '127.0.0.1' }]) {
      const { headers: answered } = await registry.handleRequest({ method: 'POST', path, headers, actor });
      assert.match(answered.Location, /^\/oci\//);
    }
  });

  it('stores nothing of an upload whose client leaves midway', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const url = await serve(t, registry.nodeHandler());
    const { port } = new URL(url);
    const gone = request({ port, method: 'POST', path: `/oci/team/app/blobs/uploads/?digest=${sha256(bytes)}`, headers: { ...oci, 'content-length': bytes.length } });
    gone.on('error', () => {});
    await new Promise((done) => gone.write(bytes.subarray(0, 3_000_000), done));
    gone.destroy();
    // The server still answers, and what was sent is nowhere.
    const done = await push(url, oci, noise(10));
    assert.equal(done.status, 201);
    const keys = await registry.getStorage().listObjects('oci/blobs/');
    assert.deepEqual(keys, [`oci/blobs/sha256/${sha256(noise(10)).slice(7)}`]);
  });

  it('lets a body go whose client leaves midway', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const url = await serve(t, registry.nodeHandler());
    await push(url, oci, noise(20_000_000));
    for (let n = 0; n < 10; n++) {
      const leave = new AbortController();
      const got = await fetch(`${url}/oci/team/app/blobs/${sha256(noise(20_000_000))}`, { headers: oci, signal: leave.signal });
      await got.body.getReader().read();
      leave.abort();
    }
    const until = Date.now() + 5000;
    while (/^smartregistry_open_bodies [1-9]/m.test(registry.metrics())) {
      assert.ok(Date.now() < until, 'bodies are still open');
      await turn();
    }
  });

  it('serves HTTP/2 through the compatibility interface of Node', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    await pushBlob(registry, oci, sha256(bytes), bytes);
    const server = createHttp2(registry.nodeHandler());
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const client = connect(`http://127.0.0.1:${server.address().port}`);
    t.after(() => (client.close(), server.close()));
    const stream = client.request({ ':path': `/oci/team/app/blobs/${sha256(bytes)}`, authorization: oci.Authorization });
    const [headers, body] = await Promise.all([new Promise((done) => stream.once('response', done)), buffer(stream)]);
    assert.equal(headers[':status'], 200);
    assert.ok(bytes.equals(body));
    const start = client.request({ ':method': 'POST', ':path': '/oci/team/app/blobs/uploads/', authorization: oci.Authorization, 'content-length': 0 });
    start.end();
    const answer = await new Promise((done) => start.once('response', done));
    assert.equal(answer[':status'], 202);
  });

  it('shows an early refusal to a client that is still sending', async (t) => {
    const registry = await open(t);
    const url = await serve(t, registry.nodeHandler());
    const { port } = new URL(url);
    const sending = request({ port, method: 'POST', path: '/oci/team/app/blobs/uploads/?digest=sha256:00', headers: { 'content-length': 1_000_000_000 } });
    sending.on('error', () => {});
    sending.write(noise(100_000));
    const [response] = await Promise.all([new Promise((done) => sending.once('response', done))]);
    assert.equal(response.statusCode, 401);
    assert.match(response.headers['www-authenticate'], /Bearer/);
    assert.equal(response.headers.connection, 'close');
    await buffer(response);
    sending.destroy();
  });

  it('shows an early refusal to a client that writes all of its body before it looks', async (t) => {
    const registry = await open(t);
    const url = await serve(t, registry.nodeHandler());
    const body = noise(30_000_000);
    const socket = connectTcp(new URL(url).port, '127.0.0.1');
    const failed = new Promise((done, fail) => socket.on('error', fail));
    socket.pause();
    socket.write(`POST /oci/team/app/blobs/uploads/?digest=${sha256(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`);
    await Promise.race([new Promise((done) => socket.write(body, done)), failed]);
    assert.match(String(await Promise.race([buffer(socket), failed])), /^HTTP\/1.1 401 /);
  });
});

describe('the README\'s Express code', () => {
  for (const [name, express, everything] of [['Express 4', express4, '*'], ['Express 5', express5, '/{*splat}']]) {
    it(`works unchanged in ${name}`, async (t) => {
      const registry = await open(t, { limits: { bodyIdleMs: 200 } });
      const { oci } = await login(registry);
      const app = express();
      app.use(express.raw({ type: () => true, limit: '50mb' }));
      app.all(everything, async (req, res) => {
        const response = await registry.handleRequest({ method: req.method, path: req.path, headers: req.headers, query: req.query, body: req.body });
        res.status(response.status);
        for (const [key, value] of Object.entries(response.headers)) {
          res.setHeader(key, value);
        }
        if (response.body) {
          Readable.fromWeb(response.body).pipe(res);
        } else {
          res.end();
        }
      });
      const url = await serve(t, app);
      assert.equal((await push(url, oci, bytes)).status, 201);
      const got = await fetch(`${url}/oci/team/app/blobs/${sha256(bytes)}`, { headers: oci });
      assert.ok(bytes.equals(Buffer.from(await got.arrayBuffer())));
      assert.equal((await fetch(`${url}/npm/-/ping`)).status, 200);
      assert.equal((await fetch(`${url}/nowhere`)).status, 404);
      // A client may rest for longer than a file is held open for it.
      const large = noise(48 << 20);
      assert.equal((await pushBlob(registry, oci, sha256(large), large)).status, 201);
      const [resting] = await once(request(`${url}/oci/team/app/blobs/${sha256(large)}`, { headers: oci }).end(), 'response');
      await once(resting, 'readable');
      while (!/^smartregistry_open_bodies 0$/m.test(registry.metrics())) await turn();
      assert.ok(large.equals(await buffer(resting)));
    });
  }
});

describe('Fastify', () => {
  it('sends the body of an answer as a Web stream and as a Node stream', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    await pushBlob(registry, oci, sha256(bytes), bytes);
    const app = fastify();
    t.after(() => app.close());
    for (const [prefix, wrap] of [['/web', (body) => body], ['/node', (body) => body && Readable.fromWeb(body)]]) {
      app.get(`${prefix}/*`, async (req, reply) => {
        const response = await registry.handleRequest({ method: req.method, path: req.url.slice(prefix.length), headers: req.headers, query: req.query });
        return reply.code(response.status).headers(response.headers).send(wrap(response.body));
      });
    }
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    for (const prefix of ['/web', '/node']) {
      const got = await fetch(`${url}${prefix}/oci/team/app/blobs/${sha256(bytes)}`, { headers: oci });
      assert.equal(got.headers.get('docker-content-digest'), sha256(bytes));
      assert.ok(bytes.equals(Buffer.from(await got.arrayBuffer())));
      assert.equal((await fetch(`${url}${prefix}/npm/-/ping`)).status, 200);
    }
  });
});

describe('listen()', () => {
  it('serves the same registry, with the providers and hooks of the application', async (t) => {
    const written = [];
    const registry = await open(t, { storageHooks: { afterPut: ({ key, actor }) => void written.push([key, actor.userId]) } });
    const { oci, userId } = await login(registry);
    const server = await registry.listen({ port: 0 });
    assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.equal(new URL(server.url).port, String(server.port));
    assert.equal((await push(server.url, oci, bytes)).status, 201);
    assert.ok(written.some(([key, user]) => key.startsWith('oci/blobs/') && user === userId));
    const got = await registry.handleRequest({ method: 'GET', path: `/oci/team/app/blobs/${sha256(bytes)}`, headers: oci });
    assert.equal(got.status, 200);
    await got.body.cancel();
    assert.match(registry.metrics(), /^smartregistry_requests/m);
    await Promise.all([server.close(), server.close()]);
    await assert.rejects(fetch(server.url));
  });

  it('says what is wrong with its options', async (t) => {
    const registry = await open(t);
    const used = await registry.listen();
    for (const [options, problem] of [[{ port: 70_000 }, /`port`/], [{ host: '' }, /`host`/], [{ tls: {} }, /`tls\.cert`/], [{ tls: { cert: '/missing.pem', key: '/missing.pem' } }, /./], [{ port: used.port }, /cannot listen on 127\.0\.0\.1:\d+/]]) {
      await assert.rejects(registry.listen(options), (error) => problem.test(error.message) && error.name === 'RegistryError');
    }
  });
});
