// Every shape in which a host hands over headers, query and body.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import { streamToBuffer, streamToJson, toReadableStream } from 'smartregistry-native';
import { getBlob, login, noise, open, pushBlob, sha256 } from '../support/facade.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

describe('headers and query', () => {
  it('come in any shape', async (t) => {
    const registry = await open(t);
    const { npm, npmToken } = await login(registry);
    const whoami = async (headers, more) => (await streamToJson((await registry.handleRequest({ method: 'get', path: '/npm/-/whoami', headers, query: {}, ...more })).body)).username;
    const value = npm.Authorization;
    const shapes = {
      'canonical case': { Authorization: value },
      'lower case': { authorization: value },
      'upper case': { AUTHORIZATION: value },
      'an array': { authorization: [value] },
      Headers: new Headers({ authorization: value }),
      Map: new Map([['Authorization', value]]),
      pairs: [['authorization', value]],
      'a flat list': ['Authorization', value, 'Accept', '*/*'],
      'beside numbers and nothing': { 'content-length': 0, 'x-null': null, 'x-undefined': undefined, 'x-list': [1, 2], 'no header name': 'x', authorization: value },
    };
    for (const [name, headers] of Object.entries(shapes)) assert.equal(await whoami(headers), 'alice', name);
    assert.equal(await whoami({}, { token: npmToken }), 'alice');
    assert.equal(await whoami(undefined, { token: npmToken }), 'alice');
    assert.equal(await whoami({ authorization: `Basic ${Buffer.from(`alice:${npmToken}`).toString('base64')}` }), 'alice');
  });

  it('query in any shape, and still in the path', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const bytes = noise(1000);
    const digest = sha256(bytes);
    const queries = [{ digest }, { digest: [digest] }, new URLSearchParams({ digest }), new Map([['digest', digest]]), `digest=${digest}`, `?digest=${encodeURIComponent(digest)}`];
    for (const query of queries) {
      const response = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: oci, query, body: bytes });
      assert.equal(response.status, 201, String(query));
    }
    const inPath = await registry.handleRequest({ method: 'POST', path: `/oci/team/app/blobs/uploads/?digest=${encodeURIComponent(digest)}`, headers: oci, body: bytes });
    assert.equal(inPath.status, 201);
  });

  it('answers in the case that users index by', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const bytes = noise(1000);
    const start = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: oci });
    assert.equal(start.status, 202);
    assert.match(start.headers['Docker-Upload-UUID'], /^[0-9a-f-]{36}$/);
    const path = `/oci/team/app/blobs/uploads/${start.headers['Docker-Upload-UUID']}`;
    const done = await registry.handleRequest({ method: 'PUT', path, headers: oci, query: { digest: sha256(bytes) }, body: bytes });
    assert.equal(done.status, 201);
    assert.equal(done.headers['Docker-Content-Digest'], sha256(bytes));
    const blob = await getBlob(registry, oci, sha256(bytes));
    for (const name of ['ETag', 'Content-Type', 'Content-Length', 'Docker-Content-Digest', 'Docker-Distribution-API-Version']) assert.ok(blob.headers[name], name);
    const refused = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: {} });
    assert.equal(refused.status, 401);
    assert.match(refused.headers['WWW-Authenticate'], /^Bearer realm=/);
  });
});

describe('bodies of bytes', () => {
  const bytes = noise(3 << 20);
  const digest = sha256(bytes);

  async function* slices(step = 100_000) {
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  }
  function* syncSlices() {
    for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
  }
  const web = () => {
    const chunks = slices();
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(new Uint8Array(value));
      },
    });
  };
  const forms = {
    Buffer: () => bytes,
    Uint8Array: () => new Uint8Array(bytes),
    'a view into something larger': () => new Uint8Array(Buffer.concat([noise(7), bytes, noise(9)]).buffer).subarray(7, 7 + bytes.length),
    DataView: () => new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    ArrayBuffer: () => new Uint8Array(bytes).buffer,
    'Web stream': web,
    'Web byte stream': () => new Blob([bytes]).stream(),
    'our own stream': () => toReadableStream(bytes),
    Readable: () => Readable.from(slices(), { objectMode: false }),
    'Readable of objects': () => Readable.from(slices()),
    'async iterable': () => slices(),
    'sync iterable': () => syncSlices(),
    Blob: () => new Blob([bytes]),
    Response: () => new Response(bytes).body,
  };
  for (const [name, make] of Object.entries(forms)) {
    it(`are taken as ${name}`, async (t) => {
      const registry = await open(t);
      const { oci } = await login(registry);
      const response = await pushBlob(registry, oci, digest, make());
      assert.equal(response.status, 201, await streamToBuffer(response.body).then(String));
      assert.ok(bytes.equals(await streamToBuffer((await getBlob(registry, oci, digest)).body)));
      // With the length announced, and as raw bytes beside something parsed.
      assert.equal((await pushBlob(registry, oci, digest, make(), { 'Content-Length': String(bytes.length) })).status, 201);
    });
  }

  it('are taken from a file', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'smartregistry-body-'));
    t.after(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'blob'), bytes);
    const registry = await open(t);
    const { oci } = await login(registry);
    assert.equal((await pushBlob(registry, oci, digest, createReadStream(join(folder, 'blob')))).status, 201);
  });

  it('rawBody wins over a parsed body', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const response = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: oci, query: { digest }, body: { parsed: true }, rawBody: bytes });
    assert.equal(response.status, 201);
  });

  it('leave a pooled Buffer of the caller alone', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const small = Buffer.from('small enough for the pool');
    assert.equal((await pushBlob(registry, oci, sha256(small), small)).status, 201);
    assert.equal(String(small), 'small enough for the pool');
    assert.equal(String(await streamToBuffer((await getBlob(registry, oci, sha256(small))).body)), String(small));
  });

  it('are whole where a source ends and closes while its last piece is still stored', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const bytes = noise(3_000_000);
    // As Bun's requests do, which end while they are paused.
    const source = Object.assign(new EventEmitter(), { pipe() {}, pause() {}, resume() {}, destroy() {} });
    const pushed = pushBlob(registry, oci, sha256(bytes), source);
    await turn();
    source.emit('data', bytes);
    source.emit('end');
    source.emit('close');
    assert.equal((await pushed).status, 201);
    assert.ok(bytes.equals(await streamToBuffer((await getBlob(registry, oci, sha256(bytes))).body)));
  });

  it('are pulled no faster than they are stored', async (t) => {
    const registry = await open(t);
    let made = 0;
    let release;
    const gate = new Promise((done) => (release = done));
    const source = (async function* () {
      for (; made < 200; made++) yield noise(256 << 10);
    })();
    // A write that waits for its hook holds the whole upload: nothing reads the body meanwhile.
    const held = await open(t, {
      authProvider: { authenticate: () => null, validateToken: async () => (await gate, { userId: 'a', scopes: ['*:*:*:*'] }), createToken: () => 'x', revokeToken() {}, authorize: () => true },
    });
    const pushing = pushBlob(held, { Authorization: 'Bearer x' }, sha256(Buffer.alloc(1)), source);
    for (let n = 0; n < 200; n++) await turn();
    assert.ok(made <= 8, `${made} chunks were pulled before anybody read`);
    release();
    assert.equal((await pushing).status, 400);
    assert.ok(registry.isInitialized());
  });
});

describe('a body that breaks', () => {
  const broken = {
    'a Readable that fails': () => Readable.from(failing()),
    'a Readable that is destroyed': () => {
      const stream = new Readable({ read() {} });
      stream.push(noise(100_000));
      setImmediate(() => stream.destroy());
      return stream;
    },
    'a Readable that was read before': () => {
      const stream = Readable.from([]);
      stream.destroy();
      return stream;
    },
    'a Web stream that fails': () => new ReadableStream({ start: (controller) => (controller.enqueue(noise(100_000)), setImmediate(() => controller.error(new Error('gone')))) }),
    'a Web stream that is locked': () => {
      const stream = new ReadableStream();
      stream.getReader();
      return stream;
    },
    'an iterable that throws': () => failing(),
    'an iterable of nonsense': () => (async function* () { yield { not: 'bytes' }; })(),
    'fewer bytes than announced': () => Readable.from([noise(999)]),
    'more bytes than announced': () => Readable.from([noise(1001)]),
  };
  async function* failing() {
    yield noise(100_000);
    throw new Error('the source is gone');
  }
  for (const [name, make] of Object.entries(broken)) {
    it(`is refused and leaves nothing behind: ${name}`, async (t) => {
      const registry = await open(t);
      const { oci } = await login(registry);
      const announced = /announced/.test(name) ? { 'Content-Length': '1000' } : {};
      const response = await pushBlob(registry, oci, sha256(noise(100_000)), make(), announced);
      assert.equal(response.status, 400, await streamToBuffer(response.body).then(String));
      assert.deepEqual((await registry.getStorage().listObjects('oci/')).filter((key) => key.startsWith('oci/blobs/')), []);
    });
  }

  it('stops the source of an upload that is refused early', async (t) => {
    const registry = await open(t);
    let returned = false;
    const endless = (async function* () {
      try {
        for (;;) yield noise(64 << 10);
      } finally {
        returned = true;
      }
    })();
    const readable = new Readable({ read() { this.push(noise(64 << 10)); } });
    let cancelled = false;
    const web = new ReadableStream({ pull: (controller) => controller.enqueue(noise(64 << 10)), cancel: () => void (cancelled = true) });
    for (const body of [endless, readable, web]) assert.equal((await pushBlob(registry, {}, sha256(Buffer.alloc(0)), body)).status, 401);
    for (let n = 0; n < 1000 && !(returned && readable.destroyed && cancelled); n++) await turn();
    assert.deepEqual([returned, readable.destroyed, cancelled], [true, true, true]);
  });
});

describe('parsed bodies', () => {
  it('an npm publish as a parsed object, which is left as it was', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const bytes = await tarball('widget', '1.0.0', 300_000);
    const body = publishDocument('widget', '1.0.0', bytes);
    const before = structuredClone(body);
    const response = await registry.handleRequest({ method: 'PUT', path: '/npm/widget', headers: { ...npm, 'content-type': 'application/json' }, query: {}, body });
    assert.equal(response.status, 201, await streamToBuffer(response.body).then(String));
    assert.deepEqual(body, before);
    const file = await registry.handleRequest({ method: 'GET', path: '/npm/widget/-/widget-1.0.0.tgz', headers: {}, query: {} });
    assert.ok(bytes.equals(await streamToBuffer(file.body)));
    // Small attachments stay inside the document.
    const small = await tarball('tiny', '1.0.0', 10);
    assert.equal((await registry.handleRequest({ method: 'PUT', path: '/npm/tiny', headers: npm, body: publishDocument('tiny', '1.0.0', small) })).status, 201);
    assert.equal((await registry.handleRequest({ method: 'PUT', path: '/npm/text', headers: npm, body: JSON.stringify(publishDocument('text', '1.0.0', await tarball('text', '1.0.0', 10))) })).status, 201);
  });

  it('a dist-tag whose JSON string a parser has unwrapped', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const bytes = await tarball('widget', '1.0.0', 10);
    await registry.handleRequest({ method: 'PUT', path: '/npm/widget', headers: npm, body: publishDocument('widget', '1.0.0', bytes) });
    for (const [tag, body] of [['parsed', '1.0.0'], ['raw', '"1.0.0"'], ['bytes', Buffer.from('"1.0.0"')]]) {
      const response = await registry.handleRequest({ method: 'PUT', path: `/npm/-/package/widget/dist-tags/${tag}`, headers: { ...npm, 'content-type': 'application/json' }, body });
      assert.equal(response.status, 201, `${tag}: ${await streamToBuffer(response.body)}`);
    }
    const tags = await registry.handleRequest({ method: 'GET', path: '/npm/-/package/widget/dist-tags', headers: {} });
    assert.deepEqual(await streamToJson(tags.body), { latest: '1.0.0', parsed: '1.0.0', raw: '1.0.0', bytes: '1.0.0' });
  });

  it('an empty object that a parser left is no body', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const start = await registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: { ...oci, 'content-length': '0' }, query: {}, body: {} });
    assert.equal(start.status, 202);
  });

  it('a blob whose bytes a parser has eaten is refused with advice', async (t) => {
    const registry = await open(t);
    const { oci } = await login(registry);
    const response = await pushBlob(registry, oci, sha256(Buffer.from('{"a":1}')), { a: 1 });
    assert.equal(response.status, 400);
    assert.match(String(await streamToBuffer(response.body)), /before any body parser/);
  });

  it('what is no JSON rejects and names the body', async (t) => {
    const registry = await open(t);
    const cyclic = {};
    cyclic.self = cyclic;
    for (const body of [cyclic, { big: 1n }, 1n]) await assert.rejects(registry.handleRequest({ method: 'PUT', path: '/npm/x', body }), /the body is no JSON/);
  });
});

describe('parsed forms', () => {
  // No enabled protocol takes a form yet: what the binding would be handed is looked at directly.
  const { nativeBody } = createRequire(import.meta.url)('../../js/body.cjs');
  const form = ['Content-Type', 'multipart/form-data; boundary=x'];
  const shown = async (body, headers = form) => (await nativeBody(body, undefined, headers))[0].form.map(({ name, value, filename }) => [name, String(value), filename]);

  it('come with text, numbers, bytes, files and lists', async () => {
    const body = { ':action': 'file_upload', protocol_version: 1, classifiers: ['a', 'b'], none: undefined, content: Buffer.from('wheel'), other: { buffer: Buffer.from('sig'), originalname: 'x.asc' } };
    assert.deepEqual(await shown(body), [
      [':action', 'file_upload', undefined],
      ['protocol_version', '1', undefined],
      ['classifiers', 'a', undefined],
      ['classifiers', 'b', undefined],
      ['content', 'wheel', undefined],
      ['other', 'sig', 'x.asc'],
    ]);
    // Without a content type, bytes inside tell a form from a document.
    assert.equal((await shown({ name: 'x', content: new Uint8Array(1) }, [])).length, 2);
    assert.deepEqual(await nativeBody({ name: 'x' }, undefined, []), [{ json: '{"name":"x"}' }]);
  });

  it('come as FormData and as URLSearchParams', async () => {
    const data = new FormData();
    data.append('name', 'x');
    data.append('content', new Blob(['wheel']), 'x.whl');
    assert.deepEqual(await shown(data), [['name', 'x', undefined], ['content', 'wheel', 'x.whl']]);
    assert.deepEqual(await nativeBody(new URLSearchParams({ a: 'b c' }), undefined, []), [{ text: 'a=b+c' }]);
    assert.deepEqual(await shown({ grant_type: 'password' }, ['content-type', 'application/x-www-form-urlencoded']), [['grant_type', 'password', undefined]]);
  });
});
