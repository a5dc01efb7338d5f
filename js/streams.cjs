// Answers' bodies as Web streams that cost nothing until they are read, and the helpers around streams.
'use strict';

const { isBytes, view } = require('./body.cjs');
const { bytesOf } = require('./upload.cjs');

/**
 * What stands behind a stream of ours that nobody has touched: a Buffer, or a handle of the binding. The helpers take it directly.
 *
 * @type {WeakMap<object, any>}
 */
const sources = new WeakMap();

/** A byte stream takes the memory of what is put into it. A Buffer from Node's shared pool would take everybody's. */
function exact(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

function put(controller, bytes) {
  if (bytes !== null) {
    controller.enqueue(exact(bytes));
    return;
  }
  controller.close();
  // A BYOB read that waits is settled only by an answer of its own.
  controller.byobRequest?.respond(0);
}

/** @param {Buffer} bytes */
function smallStream(bytes) {
  const stream = new ReadableStream(
    /** @type {any} */ ({
      type: 'bytes',
      pull(controller) {
        sources.delete(stream);
        if (bytes.byteLength > 0) put(controller, bytes);
        put(controller, null);
      },
      cancel() {
        sources.delete(stream);
      },
    }),
    { highWaterMark: 0 },
  );
  sources.set(stream, bytes);
  return stream;
}

/** @param {{ tryNext(): Buffer | null | false, next(): Promise<Buffer | null>, cancel(): void }} handle */
function largeStream(handle) {
  const stream = new ReadableStream(
    /** @type {any} */ ({
      type: 'bytes',
      pull(controller) {
        sources.delete(stream);
        const bytes = handle.tryNext();
        if (bytes === false) return handle.next().then((next) => put(controller, next));
        put(controller, bytes);
      },
      cancel() {
        sources.delete(stream);
        handle.cancel();
      },
    }),
    { highWaterMark: 0 },
  );
  sources.set(stream, handle);
  return stream;
}

/**
 * What a Node stream or an async iterable yields. Nothing is asked of it before somebody reads, and whoever reads no further closes it.
 *
 * @param {any} source
 */
function sourceStream(source) {
  const chunks = source[Symbol.asyncIterator]();
  const isNode = typeof source.pipe === 'function';
  // One that breaks before it is read must not end the process: its reader is told.
  if (isNode) source.on('error', () => {});
  const close = async () => {
    // A Node stream does not mind its iterator before that was asked for something.
    if (isNode) source.destroy();
    await chunks.return?.();
  };
  const next = async () => {
    for (;;) {
      const { done, value } = await chunks.next();
      if (done) return null;
      const bytes = bytesOf(value);
      // Copied: the stream takes the memory, which the source may use again.
      if (bytes.byteLength > 0) return new Uint8Array(bytes);
    }
  };
  return new ReadableStream(
    /** @type {any} */ ({
      type: 'bytes',
      async pull(controller) {
        try {
          put(controller, await next());
        } catch (error) {
          await close().catch(() => {});
          throw error;
        }
      },
      cancel: close,
    }),
    { highWaterMark: 0 },
  );
}

/** The body of an answer as users get it. */
function bodyStream(body) {
  return Buffer.isBuffer(body) ? smallStream(body) : largeStream(body);
}

/** Takes what stands behind an untouched stream; the stream is then at its end. */
function takeSource(stream) {
  if (stream.locked) return undefined;
  const source = sources.get(stream);
  if (!Buffer.isBuffer(source)) return undefined;
  stream.cancel().catch(() => {});
  return source;
}

/**
 * The whole of a stream: Web stream, Node stream, async iterable, or `undefined` for no body.
 *
 * @param {any} stream
 * @returns {Promise<Buffer>}
 */
async function streamToBuffer(stream) {
  if (stream === undefined || stream === null) return Buffer.alloc(0);
  if (isBytes(stream)) return view(stream);
  const whole = takeSource(stream);
  if (whole) return whole;
  const chunks = [];
  for await (const chunk of iterate(stream)) chunks.push(bytesOf(chunk));
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

function iterate(stream) {
  if (typeof stream[Symbol.asyncIterator] === 'function') return stream;
  if (typeof stream.getReader === 'function') {
    const reader = stream.getReader();
    return { [Symbol.asyncIterator]: () => ({ next: () => reader.read(), return: () => reader.cancel().then(() => ({ done: true })) }) };
  }
  throw new TypeError('streamToBuffer() takes a stream');
}

/**
 * The whole of a stream, parsed as JSON.
 *
 * @param {any} stream
 */
async function streamToJson(stream) {
  return JSON.parse((await streamToBuffer(stream)).toString('utf8'));
}

/**
 * A stream of anything: bytes and text as they are, a Web stream itself, what a Node stream, a `Blob` or an async iterable yields, any other value as JSON.
 *
 * @param {any} data
 * @returns {any}
 */
function toReadableStream(data) {
  if (isReadableStream(data)) return data;
  // Bun's stream of a blob is none of bytes.
  if (data instanceof Blob) return sourceStream(data.stream());
  if (typeof data?.[Symbol.asyncIterator] === 'function') return sourceStream(data);
  const bytes = isBytes(data) ? view(data) : Buffer.from(typeof data === 'string' ? data : (JSON.stringify(data) ?? ''));
  // Copied: the stream takes the memory, and what the caller gave stays the caller's.
  return smallStream(Buffer.from(new Uint8Array(bytes).buffer));
}

/**
 * Whether something is a Web `ReadableStream`.
 *
 * @param {unknown} value
 * @returns {boolean}
 */
function isReadableStream(value) {
  return value instanceof ReadableStream || (value !== null && typeof value === 'object' && typeof (/** @type {any} */ (value).getReader) === 'function' && typeof (/** @type {any} */ (value).tee) === 'function');
}

module.exports = { bodyStream, streamToBuffer, streamToJson, toReadableStream, isReadableStream };
