// Pumps a body from any source into the binding, with backpressure, and never lets a source that broke look finished.
'use strict';

const binding = require('./binding.cjs');

/** After so many bytes without a turn of the event loop the pump waits once: memory that Rust has let go is only released between turns. */
const TURN = 1 << 20;

/** The bytes of a chunk, borrowed. */
function bytesOf(chunk) {
  if (typeof chunk === 'string') return Buffer.from(chunk);
  if (ArrayBuffer.isView(chunk)) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer) return Buffer.from(chunk);
  throw new TypeError(`a body must yield bytes or text, not ${chunk === null ? 'null' : typeof chunk}`);
}

const reasonOf = (error) => (error instanceof Error ? error.message : String(error ?? 'without a reason'));

/** A stream of node:http that belongs to a connection on which the answer is still to be sent: it can't be destroyed. */
const isIncoming = (source) => typeof source.httpVersion === 'string' && source.socket !== undefined;

/** Why nothing is left to read. */
const GONE = 'it was read before the registry got it; mount the registry before any body parser, or pass the request itself as `body`';

/** A body that can't be had any more. Whoever needs it is told why. */
function lost(reason = GONE) {
  const handle = new binding.Upload();
  handle.abort(reason);
  return handle;
}

/**
 * A Node stream, by events: half the CPU of iterating over it.
 *
 * @param {import('node:stream').Readable} source
 * @param {any} upload
 */
function pumpReadable(source, upload) {
  let sinceTurn = 0;
  let writing = false;
  let ended = false;

  const detach = () => {
    source.off('data', onData).off('end', onEnd).off('error', onBreak).off('close', onClose);
  };
  const finish = () => {
    detach();
    upload.end();
  };
  const onBreak = (error) => {
    detach();
    // A stream may report its failure more than once, and nobody else listens.
    source.on('error', () => {});
    upload.abort(reasonOf(error));
  };
  // Some runtimes end and close a stream while it is paused for the last piece.
  const onClose = () => {
    if (!ended) onBreak('its source was closed before its end');
  };
  const refused = () => {
    detach();
    source.on('error', () => {});
    if (isIncoming(source)) source.resume();
    else source.destroy();
  };
  const onEnd = () => {
    ended = true;
    if (!writing) finish();
  };
  const onData = (chunk) => {
    let bytes;
    try {
      bytes = bytesOf(chunk);
    } catch (error) {
      onBreak(error);
      source.destroy();
      return;
    }
    sinceTurn += bytes.byteLength;
    const taken = sinceTurn >= TURN ? 0 : upload.tryWrite(bytes);
    if (taken === 1) return;
    if (taken === -1) {
      refused();
      return;
    }
    sinceTurn = 0;
    writing = true;
    source.pause();
    upload.write(bytes).then((open) => {
      writing = false;
      if (!open) refused();
      else if (ended) finish();
      else source.resume();
    }, onBreak);
  };

  if (source.readableEnded || source.destroyed) {
    upload.abort(isIncoming(source) ? GONE : 'its source was read or closed before');
    return;
  }
  source.on('data', onData).on('end', onEnd).on('error', onBreak).on('close', onClose);
}

/**
 * Anything with an iterator over chunks.
 *
 * @param {AsyncIterator<any> | Iterator<any>} chunks
 * @param {any} upload
 */
async function pumpIterator(chunks, upload) {
  try {
    for (let sinceTurn = 0; ; ) {
      const { done, value } = await chunks.next();
      if (done) break;
      const bytes = bytesOf(value);
      sinceTurn += bytes.byteLength;
      const taken = sinceTurn >= TURN ? 0 : upload.tryWrite(bytes);
      if (taken === 1) continue;
      sinceTurn = 0;
      if (taken === -1 || !(await upload.write(bytes))) {
        await chunks.return?.();
        return;
      }
    }
    upload.end();
  } catch (error) {
    upload.abort(reasonOf(error));
    // A source that fails to yield bytes is still open; one that threw has closed itself.
    await Promise.resolve(chunks.return?.()).catch(() => {});
  }
}

/** A Web stream as an iterator; works on streams of any realm and runtime. */
function webChunks(stream) {
  const reader = stream.getReader();
  return { next: () => reader.read(), return: () => reader.cancel() };
}

/**
 * Starts to pump `source` and gives the handle that goes to the binding.
 *
 * @param {any} source Node stream, Web stream, or (async) iterable
 * @param {number | undefined} length announced length in bytes
 */
function upload(source, length) {
  const handle = new binding.Upload(length);
  if (typeof source.getReader === 'function') {
    let chunks;
    try {
      chunks = webChunks(source);
    } catch (error) {
      handle.abort(reasonOf(error));
      return handle;
    }
    pumpIterator(chunks, handle).catch(() => {});
  } else if (typeof source.pipe === 'function' && typeof source.on === 'function') pumpReadable(source, handle);
  else pumpIterator((source[Symbol.asyncIterator] ?? source[Symbol.iterator]).call(source), handle).catch(() => {});
  return handle;
}

module.exports = { upload, lost, isIncoming, bytesOf };
