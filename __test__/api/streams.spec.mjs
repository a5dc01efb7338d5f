// Bodies of answers: every way to consume one, small and large, and what happens when nobody does or the source breaks.
import assert from 'node:assert/strict';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { isReadableStream, streamToBuffer, streamToJson, toReadableStream } from 'smartregistry-native';
import { getBlob, login, noise, open, pushBlob, sha256 } from '../support/facade.mjs';

async function withBlob(t, size) {
  const registry = await open(t);
  const { oci } = await login(registry);
  const bytes = noise(size);
  assert.equal((await pushBlob(registry, oci, sha256(bytes), bytes)).status, 201);
  return { registry, bytes, body: async () => (await getBlob(registry, oci, sha256(bytes))).body };
}

async function readAll(reader) {
  const chunks = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks);
    assert.ok(value instanceof Uint8Array);
    chunks.push(Buffer.from(value));
  }
}

const consumers = {
  streamToBuffer,
  'a reader': (body) => readAll(body.getReader()),
  async 'a BYOB reader'(body) {
    const reader = body.getReader({ mode: 'byob' });
    const chunks = [];
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(50_000));
      if (done) return Buffer.concat(chunks);
      chunks.push(Buffer.from(value));
    }
  },
  async 'for await'(body) {
    const chunks = [];
    for await (const chunk of body) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  },
  async tee(body) {
    const [one, two] = body.tee();
    const [first, second] = await Promise.all([streamToBuffer(one), readAll(two.getReader())]);
    assert.ok(first.equals(second));
    return first;
  },
  'new Response': async (body) => Buffer.from(await new Response(body).arrayBuffer()),
  'Readable.fromWeb': (body) => buffer(Readable.fromWeb(body)),
  async 'Readable.fromWeb and pipe'(body) {
    const into = new PassThrough();
    Readable.fromWeb(body).pipe(into);
    return buffer(into);
  },
  async pipeline(body) {
    const into = new PassThrough();
    const [whole] = await Promise.all([buffer(into), pipeline(Readable.fromWeb(body), into)]);
    return whole;
  },
  async pipeTo(body) {
    const chunks = [];
    await body.pipeTo(new WritableStream({ write: (chunk) => void chunks.push(Buffer.from(chunk)) }));
    return Buffer.concat(chunks);
  },
  'a body of another request': async (body, { registry }) => {
    await registry.getStorage().putObject('copy', body, { contentType: 'text/plain', owner: 'me' });
    const { contentType, metadata } = await registry.getStorage().getMetadata('copy');
    assert.deepEqual([contentType, metadata], ['text/plain', { owner: 'me' }]);
    return registry.getStorage().getObject('copy');
  },
};

for (const [size, kind] of [[10_000, 'small'], [3_000_001, 'large']]) {
  describe(`a ${kind} body`, () => {
    for (const [name, consume] of Object.entries(consumers)) {
      it(`is consumed by ${name}`, async (t) => {
        const site = await withBlob(t, size);
        const body = await site.body();
        assert.ok(isReadableStream(body) && body instanceof ReadableStream);
        const got = await consume(body, site);
        assert.equal(got.length, size);
        assert.ok(got.equals(site.bytes));
      });
    }

    it('stops when it is cancelled, left, or destroyed', async (t) => {
      const { body, registry } = await withBlob(t, size);
      await (await body()).cancel();
      const read = (await body()).getReader();
      await read.read();
      await read.cancel();
      for await (const _ of await body()) break;
      const readable = Readable.fromWeb(await body());
      readable.on('error', () => {});
      readable.destroy();
      await assert.rejects(pipeline(Readable.fromWeb(await body()), new Writable({ write: (_, __, done) => done(new Error('full')) })), /full/);
      await settled(registry);
    });

    it('is not the next reader\'s: whoever writes into it changes his own', async (t) => {
      const { body, bytes } = await withBlob(t, size);
      const first = await streamToBuffer(await body());
      first.fill(0);
      assert.ok(bytes.equals(await streamToBuffer(await body())));
    });

    it('can be consumed once', async (t) => {
      const { body } = await withBlob(t, size);
      const stream = await body();
      await streamToBuffer(stream);
      assert.equal((await streamToBuffer(stream)).length, 0);
      const locked = await body();
      locked.getReader();
      await assert.rejects(streamToBuffer(locked), TypeError);
    });
  });
}

/** Waits until the registry holds no body open. */
async function settled(registry, within = 5000) {
  const until = Date.now() + within;
  const open = () => Number(/^smartregistry_open_bodies (\d+)$/m.exec(registry.metrics())?.[1] ?? 0);
  while (open() > 0) {
    assert.ok(Date.now() < until, `${open()} bodies are still open`);
    await turn();
  }
}

describe('a large body', () => {
  it('is read no further than two pieces ahead', async (t) => {
    const { body } = await withBlob(t, 8 << 20);
    const reader = (await body()).getReader();
    const { value } = await reader.read();
    assert.ok(value.length >= 64 << 10 && value.length <= 1 << 20, `${value.length} bytes in a piece`);
    await reader.cancel();
  });

  it('leaves nothing behind after many aborted reads', async (t) => {
    const { body, registry } = await withBlob(t, 4 << 20);
    const rounds = Number(process.env.SMARTREGISTRY_TEST_ABORTS ?? 300);
    for (let n = 0; n < rounds; n++) {
      const reader = (await body()).getReader();
      await reader.read();
      await reader.cancel();
    }
    await settled(registry);
  });

  it('lets its source go while nobody reads it, and goes on when somebody does', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'smartregistry-resting-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const registry = await open(t, { storage: { type: 'local', path: folder, durability: 'relaxed' }, limits: { bodyIdleMs: 50 } });
    const bytes = noise(8 << 20);
    await registry.getStorage().putObject('large', bytes);
    const reader = (await registry.getStorage().getObjectStream('large')).getReader();
    const first = Buffer.from((await reader.read()).value);
    await settled(registry);
    assert.ok(bytes.equals(Buffer.concat([first, await readAll(reader)])));
    // Another version has other bytes, and none of a removed one can be had.
    for (const change of [() => registry.getStorage().putObject('large', noise(9 << 20)), () => registry.getStorage().deleteObject('large')]) {
      const body = await registry.getStorage().getObjectStream('large');
      await settled(registry);
      await change();
      await assert.rejects(streamToBuffer(body), /replaced while it was sent/);
    }
  });

  it('fails when its source breaks midway, and never looks complete', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'smartregistry-broken-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const registry = await open(t, { storage: { type: 'local', path: folder, durability: 'relaxed' } });
    await registry.getStorage().putObject('large', noise(32 << 20));
    const cut = async ({ begun = true } = {}) => {
      await registry.getStorage().putObject('large', noise(32 << 20));
      const body = await registry.getStorage().getObjectStream('large');
      if (begun) {
        const reader = body.getReader();
        await reader.read();
        reader.releaseLock();
      }
      await truncate(join(folder, 'large'), 1 << 20);
      return body;
    };
    await assert.rejects(streamToBuffer(await cut()));
    await assert.rejects(pipeline(Readable.fromWeb(await cut()), new PassThrough().resume()));
    await assert.rejects(new Response(await cut({ begun: false })).arrayBuffer());
    await settled(registry);
  });
});

describe('helpers', () => {
  it('make streams of anything', async () => {
    assert.equal(String(await streamToBuffer(toReadableStream('text'))), 'text');
    assert.deepEqual(await streamToJson(toReadableStream({ hello: 'world' })), { hello: 'world' });
    assert.deepEqual(await streamToJson(toReadableStream([1, 2])), [1, 2]);
    assert.deepEqual([...(await streamToBuffer(toReadableStream(new Uint8Array([1, 2]))))], [1, 2]);
    assert.equal((await streamToBuffer(toReadableStream(''))).length, 0);
    assert.equal((await streamToBuffer(undefined)).length, 0);
    assert.equal(String(await streamToBuffer(Readable.from(['a', 'b']))), 'ab');
    const stream = toReadableStream('x');
    assert.equal(toReadableStream(stream), stream);
    assert.deepEqual([isReadableStream(stream), isReadableStream(Readable.from([])), isReadableStream(null), isReadableStream({})], [true, false, false, false]);
  });

  it('make streams of what Node streams, blobs and iterables yield', async () => {
    async function* mixed() {
      yield 'text, ';
      yield new Uint8Array(0);
      yield Buffer.from('a buffer');
      yield new Uint8Array([0x21]).buffer;
    }
    const sources = {
      'text, a buffer!': mixed,
      'of a Node stream': () => Readable.from(['of ', Buffer.from('a Node'), ' stream']),
      'of a blob': () => new Blob(['of a', ' blob']),
      '': () => Readable.from([]),
    };
    for (const [text, source] of Object.entries(sources)) {
      assert.equal(String(await streamToBuffer(toReadableStream(source()))), text);
      assert.equal(await new Response(toReadableStream(source())).text(), text);
      assert.equal(String(await consumers['a BYOB reader'](toReadableStream(source()))), text);
    }
    // The same memory again and again, as some sources use it.
    const reused = Buffer.alloc(4);
    async function* counting() {
      for (let n = 0; n < 3; n += 1) yield reused.fill(String(n));
    }
    assert.equal(await new Response(toReadableStream(counting())).text(), '000011112222');
    assert.equal(reused.length, 4);
  });

  it('ask a source for no more than is read, and close it', async () => {
    let yielded = 0;
    let closed = 0;
    async function* source() {
      try {
        for (;;) yield `${(yielded += 1)};`;
      } finally {
        closed += 1;
      }
    }
    const idle = toReadableStream(source());
    await turn();
    assert.equal(yielded, 0);
    const reader = idle.getReader();
    await reader.read();
    await reader.read();
    await turn();
    assert.equal(yielded, 2);
    await reader.cancel();
    assert.equal(closed, 1);

    for (const begun of [true, false]) {
      let asked = 0;
      const readable = new Readable({ highWaterMark: 1, read() { this.push(`${(asked += 1)};`); } });
      const stream = toReadableStream(readable);
      if (begun) await stream.getReader().read();
      else await stream.cancel();
      await turn();
      assert.ok(asked < 5, `${asked} pieces were taken of a stream that nobody reads`);
      assert.equal(readable.destroyed, !begun);
      readable.destroy();
    }
  });

  it('break where their source does', async () => {
    const broken = new Readable({ read() {} });
    const stream = toReadableStream(broken);
    broken.destroy(new Error('the source broke'));
    // Before anybody reads, and nobody else listens.
    await turn();
    await assert.rejects(streamToBuffer(stream), /the source broke/);
    let closed = false;
    async function* wrong() {
      try {
        yield 1;
      } finally {
        closed = true;
      }
    }
    await assert.rejects(streamToBuffer(toReadableStream(wrong())), /must yield bytes or text, not number/);
    assert.equal(closed, true);
  });

  it('do not take the memory that Buffers share', async () => {
    const mine = Buffer.from('in the pool');
    const reader = toReadableStream(mine).getReader();
    await reader.read();
    assert.equal(String(mine), 'in the pool');
    assert.equal(String(Buffer.from('still works')), 'still works');
    assert.equal(Buffer.allocUnsafe(10).length, 10);
  });
});
