// Body parsers before the registry: what they leave is used where it is enough, and refused in words where it is not.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect, createServer as createHttp2 } from 'node:http2';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import express4 from 'express';
import express5 from 'express5';
import fastify from 'fastify';
import multer from 'multer';
import { SmartRegistry } from 'smartregistry-native';
import { config, login, noise, open, pushBlob, sha256 } from '../support/facade.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

const { nativeBody } = createRequire(import.meta.url)('../../js/body.cjs');

const limit = '50mb';

/** An application that does not print the errors that it answers. */
const quiet = (express) => express().set('env', 'test');

const parsers = {
  'express.json': (express) => express.json({ limit, strict: false }),
  'express.json of every type': (express) => express.json({ limit, strict: false, type: () => true }),
  'express.raw': (express) => express.raw({ limit, type: '*/*' }),
  'express.text': (express) => express.text({ limit, type: '*/*' }),
  'express.urlencoded': (express) => express.urlencoded({ limit, extended: true }),
  multer: () => multer().any(),
  'a parser that keeps the raw bytes': (express) => express.json({ limit, strict: false, type: () => true, verify: (req, res, bytes) => void (req.rawBody = bytes) }),
  // What reads the request and keeps nothing, as a logger with a mistake in it.
  'a thief': () => (req, res, next) => void req.on('end', next).resume(),
  'a slow neighbour': () => (req, res, next) => void setTimeout(next, 20),
};

/** The two ways to hand a request over. */
const ways = {
  'nodeHandler()': (registry) => registry.nodeHandler(),
  'handleRequest()': (registry) => async (req, res) => {
    const response = await registry.handleRequest({ method: req.method, path: req.path, headers: req.headers, query: req.query, body: req.body, rawBody: req.rawBody });
    res.status(response.status).set(response.headers);
    if (response.body) Readable.fromWeb(response.body).pipe(res);
    else res.end();
    // Node drops by itself what nobody has read, Deno does not, and lets the connection's next request wait.
    req.resume();
  },
};

async function serve(t, handler) {
  const server = createServer(handler);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => (server.closeAllConnections(), new Promise((done) => server.close(done))));
  return `http://127.0.0.1:${server.address().port}`;
}

const octets = { 'content-type': 'application/octet-stream' };

/** What clients send, each with the status that says it was understood. */
const requests = {
  'an npm publish': [201, async ({ url, npm, name = 'widget' }) => fetch(`${url}/npm/${name}`, { method: 'PUT', headers: { ...npm, 'content-type': 'application/json' }, body: JSON.stringify(publishDocument(name, '1.0.0', await tarball(name, '1.0.0', 300_000))) })],
  'a blob': [201, async ({ url, oci, blob }) => fetch(`${url}/oci/team/app/blobs/uploads/?digest=${sha256(blob)}`, { method: 'POST', headers: { ...oci, ...octets }, body: blob })],
  'a blob in pieces of unknown length': [
    201,
    async ({ url, oci, blob }) => {
      const start = await fetch(`${url}/oci/team/app/blobs/uploads/`, { method: 'POST', headers: oci });
      assert.equal(start.status, 202, await start.text());
      const at = new URL(start.headers.get('location'), url);
      const patched = await fetch(at, { method: 'PATCH', headers: { ...oci, ...octets }, body: Readable.toWeb(Readable.from([blob])), duplex: 'half' });
      if (patched.status !== 202) return patched;
      at.searchParams.set('digest', sha256(blob));
      return fetch(at, { method: 'PUT', headers: oci });
    },
  ],
  'a manifest': [201, async (site) => pushManifest(site)],
  'a login at the token endpoint': [
    200,
    ({ url }) => fetch(`${url}/v2/token`, { method: 'POST', body: new URLSearchParams({ grant_type: 'password', username: 'alice', password: 'correct-horse-7', service: 'x', client_id: 'test', scope: 'repository:team/app:pull' }) }),
  ],
};

async function pushManifest({ url, oci }) {
  const config = Buffer.from('{}');
  const described = { mediaType: 'application/vnd.oci.empty.v1+json', digest: sha256(config), size: config.length };
  // Spaces that no serialiser would write again: only the very bytes have this digest.
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config: described, layers: [] }, undefined, 3));
  return fetch(`${url}/oci/team/app/manifests/${sha256(bytes)}`, { method: 'PUT', headers: { ...oci, 'content-type': 'application/vnd.oci.image.manifest.v1+json' }, body: bytes });
}

const everything = Object.keys(requests);
const [publish, small, chunked, manifest, token] = everything;
const bytesAndForms = [small, chunked, manifest];

/** What each parser makes impossible; all else has to work. `nodeHandler()` reads for itself what a parser has left alone. */
const impossible = {
  'nodeHandler()': {
    'express.json of every type': bytesAndForms,
    'express.text': [small, chunked],
    'a thief': everything,
  },
  'handleRequest()': {
    'express.json': [small, chunked, manifest, token],
    'express.json of every type': bytesAndForms,
    'express.text': [small, chunked],
    'express.urlencoded': [publish, small, chunked, manifest],
    multer: everything,
    'a thief': everything,
    'a slow neighbour': everything,
  },
};

/** Express refuses by itself what is no JSON. */
const refusedBefore = { 'express.json of every type': [small, chunked, token], 'a parser that keeps the raw bytes': [small, chunked, token] };

for (const [way, mount] of Object.entries(ways)) {
  for (const [version, express] of [['Express 4', express4], ['Express 5', express5]]) {
    describe(`${way} in ${version} behind`, () => {
      let registry;
      let tokens;
      before(async () => {
        registry = new SmartRegistry(config());
        await registry.init();
        tokens = await login(registry);
        // The configuration of the manifest is there already.
        assert.equal((await pushBlob(registry, tokens.oci, sha256('{}'), '{}')).status, 201);
      });
      after(() => registry.destroy());

      for (const [nth, [name, parser]] of Object.entries(parsers).entries()) {
        it(name, async (t) => {
          const url = await serve(t, quiet(express).use(parser(express)).use(mount(registry)));
          const site = { url, ...tokens, name: `widget${nth}`, blob: noise(150_000 + nth) };
          for (const [what, [status, send]] of Object.entries(requests)) {
            const before = await registry.getStorage().listObjects('oci/blobs/');
            const answer = await send(site);
            const text = await answer.text();
            if (refusedBefore[name]?.includes(what)) assert.ok([400, 401].includes(answer.status), `${what}: ${answer.status} ${text}`);
            else if (!impossible[way][name]?.includes(what)) assert.equal(answer.status, status, `${what}: ${text}`);
            else {
              assert.equal(answer.status, 400, `${what}: ${text}`);
              assert.match(text, /before any body parser/, what);
              assert.deepEqual(await registry.getStorage().listObjects('oci/blobs/'), before);
            }
          }
        });
      }
    });
  }
}

describe('a body that is larger than the parser takes', () => {
  it('is refused by Express, which the registry never sees', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const url = await serve(t, quiet(express4).use(express4.json()).use(registry.nodeHandler()));
    const answer = await requests[publish][1]({ url, npm });
    assert.equal(answer.status, 413);
    assert.match(await answer.text(), /PayloadTooLargeError/);
    // Mounted the other way round it does not matter.
    const first = await serve(t, express4().use(registry.nodeHandler()).use(express4.json()));
    assert.equal((await requests[publish][1]({ url: first, npm })).status, 201);
  });
});

describe('forms with files', () => {
  const { buffer: content, ...told } = { buffer: Buffer.from('wheel'), fieldname: 'content', originalname: 'x.whl', mimetype: 'application/zip' };
  const kept = { ...told, buffer: content };
  const headers = ['Content-Type', 'multipart/form-data; boundary=x', 'Content-Length', '500'];

  /** What the binding is handed of a request that multer or a relative has read. */
  function fieldsOf(req) {
    let given;
    const native = { matches: () => true, handle: (...args) => ((given = args), { status: 200, headers: 'a\nb' }) };
    const { nodeHandler } = createRequire(import.meta.url)('../../js/node-handler.cjs');
    const res = { destroyed: false, writeHead() {}, end() {} };
    nodeHandler(native, () => {})({ method: 'POST', url: '/', rawHeaders: headers, httpVersionMajor: 1, complete: true, readableEnded: true, ...req }, res, (error) => {
      throw error;
    });
    return given[4].form.map(({ name, value, filename }) => [name, String(value), filename]);
  }

  it('come from multer and express-fileupload, wherever they keep them', () => {
    const wanted = [['name', 'x', undefined], ['content', 'wheel', 'x.whl']];
    const body = { name: 'x' };
    assert.deepEqual(fieldsOf({ body, file: kept }), wanted);
    assert.deepEqual(fieldsOf({ body, files: [kept] }), wanted);
    assert.deepEqual(fieldsOf({ body, files: { content: [kept] } }), wanted);
    assert.deepEqual(fieldsOf({ body, files: { content: { data: content, name: 'x.whl' } } }), wanted);
    assert.deepEqual(fieldsOf({ body, files: [kept, kept] }).length, 3);
    assert.deepEqual(fieldsOf({ body: { ...body, content: kept } }), wanted);
  });

  it('come from multer itself', async (t) => {
    const seen = new Promise((done) => {
      serve(t, express4().use(multer().any(), (req, res) => {
        const { body, files } = req;
        done({ body, files, readableEnded: req.readableEnded });
        res.end();
      })).then((url) => {
        const form = new FormData();
        form.append('name', 'x');
        form.append('content', new Blob(['wheel']), 'x.whl');
        return fetch(url, { method: 'POST', body: form });
      });
    });
    assert.deepEqual(fieldsOf(await seen), [['name', 'x', undefined], ['content', 'wheel', 'x.whl']]);
  });

  it('are refused where the parser has put the file elsewhere', () => {
    assert.throws(() => fieldsOf({ body: {}, file: { ...told, path: '/tmp/upload' } }), { status: 400, message: /`content` in memory/ });
  });

  it('whose only field was the file are not taken for empty', async () => {
    const [none, upload] = await nativeBody({}, undefined, headers);
    assert.equal(none, undefined);
    assert.ok(upload);
  });
});

describe('a request that was read to its end and kept by nobody', () => {
  it('is refused by what needs it, and answered by what does not', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const url = await serve(t, express4().use(parsers['a thief'](), registry.nodeHandler()));
    assert.equal((await fetch(`${url}/npm/-/ping`)).status, 200);
    const start = await fetch(`${url}/oci/team/app/blobs/uploads/`, { method: 'POST', headers: oci });
    assert.equal(start.status, 202);
    const stored = await fetch(`${url}/oci/team/app/blobs/uploads/?digest=${sha256(Buffer.alloc(0))}`, { method: 'POST', headers: { ...oci, ...octets, 'content-length': '0' } });
    assert.equal(stored.status, 201, 'the empty blob is a blob');
  });

  it('in Fastify, whose own parser has read it', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const app = fastify();
    t.after(() => app.close());
    app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (request, body, done) => done(null, body));
    const handler = registry.nodeHandler();
    app.all('/*', (request, reply) => {
      reply.hijack();
      handler(request.raw, reply.raw);
    });
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    const answer = await requests[small][1]({ url, oci, blob: noise(1000) });
    assert.equal(answer.status, 400);
    assert.match(await answer.text(), /before any body parser/);
  });
});

describe('HTTP/2', () => {
  it('carries a body without saying how long it is', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const blob = noise(100_000);
    const server = createHttp2(registry.nodeHandler());
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const client = connect(`http://127.0.0.1:${server.address().port}`);
    t.after(() => (client.close(), server.close()));
    const stream = client.request({ ':method': 'POST', ':path': `/oci/team/app/blobs/uploads/?digest=${sha256(blob)}`, authorization: oci.Authorization, ...octets });
    const answered = new Promise((done) => stream.once('response', done));
    stream.write(blob.subarray(0, 1000));
    await sleep(20);
    stream.end(blob.subarray(1000));
    const [headers, body] = await Promise.all([answered, buffer(stream)]);
    assert.equal(headers[':status'], 201, String(body));
  });
});
