// Requests that come again and again, as those for what everybody installs do: the head crosses to Rust once, and the answer when it is another one than before.
// Rust answers each of them all the same: who may read what, how fresh it is, hooks and numbers are no business of this file.
'use strict';

const { LRUCache } = require('lru-cache');
const { headersList } = require('./headers.cjs');

/** Heads that are remembered, and bytes that they and their answers may take here; the binding holds as much, most of it in its caches anyway. */
const HEADS = 1000;
const BYTES = 16 << 20;
/** Larger answers are not kept, here as in the binding. */
const LARGEST = 2 << 20;
/** The longest list of headers that is remembered, and what a head takes beside its answer. */
const LONGEST = 64;
const HEAD_BYTES = 4096;

/**
 * Headers with a secret or of one request alone. With them nothing is remembered: neither are heads of persons worth it, nor should how long a comparison takes
 * tell anything of another one's token.
 */
const PERSONAL = /auth(?!-type)|token|cookie|otp|key|secret|passw|request-id|trace|content-length|transfer-encoding|expect|upgrade/i;

const isEmpty = (body) => body === undefined || body === null || (typeof body === 'object' && !Array.isArray(body) && Object.keys(body).length === 0);

/** Whether the head is all there is to a request. */
const isBare = (req) =>
  (req.method === 'GET' || req.method === 'HEAD') && req.httpVersionMajor === 1 && req.id === undefined && isEmpty(req.body) && isEmpty(req.rawBody) && isEmpty(req.file) && isEmpty(req.files);

function isShared(headers) {
  if (headers.length > LONGEST) return false;
  for (let i = 0; i < headers.length; i += 2) if (PERSONAL.test(headers[i])) return false;
  return true;
}

function same(one, other) {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i += 1) if (one[i] !== other[i]) return false;
  return true;
}

/** A request that has come, and its answer once it has come twice. */
class Kept {
  /** The request as the binding knows it; `undefined` before it has come twice, `null` where it is not worth it. */
  repeat;
  /** The answer, but for what its headers have at `#id`. */
  #answer;
  #id = 0;
  #isServed = false;

  constructor(req, prefix) {
    this.method = req.method;
    this.headers = req.rawHeaders;
    this.peer = req.socket?.remoteAddress;
    this.secure = req.socket?.encrypted === true;
    this.prefix = prefix;
  }

  is(req, prefix) {
    const { socket } = req;
    return (
      this.method === req.method
      && this.prefix === prefix
      && this.peer === socket?.remoteAddress
      && this.secure === (socket?.encrypted === true)
      && same(this.headers, req.rawHeaders)
    );
  }

  /** The answer that was taken, for the request of this id. */
  answer(id) {
    this.#isServed = true;
    const { status, statusText, list, body } = this.#answer;
    const own = list.slice();
    own[this.#id] = id;
    return { status, statusText, list: own, body };
  }

  /** Whether it has an answer that nobody was given a second time: then there is nothing to win, for now. */
  get isIdle() {
    return this.#answer !== undefined && !this.#isServed;
  }

  /** Takes an answer, which the binding has, too. Returns its bytes, or `undefined` if it is none to keep: on its way, or large. */
  take({ status, statusText, headers, body }) {
    this.#answer = undefined;
    this.#isServed = false;
    const isWhole = body === undefined || body === null || (Buffer.isBuffer(body) && body.length <= LARGEST);
    if (!isWhole) return undefined;
    const list = headersList(headers);
    this.#id = list.findIndex((name, i) => i % 2 === 0 && name === 'X-Request-ID') + 1;
    if (this.#id === 0) return undefined;
    this.#answer = { status, statusText, list, body };
    return headers.length + (body?.length ?? 0);
  }
}

/**
 * @param {any} native the binding's registry
 */
function repeats(native) {
  /** @type {LRUCache<string, Kept>} */
  const cache = new LRUCache({ max: HEADS, maxSize: BYTES });

  const worth = (kept, url) => {
    const { headers, method, peer, secure, prefix } = kept;
    return isShared(headers) ? (native.repeat(method, url, headers.join('\n'), peer, secure, prefix || undefined) ?? null) : null;
  };

  return {
    /**
     * What is kept of this request; `undefined` when it comes for the first time, or had another head the last time.
     *
     * @param {any} req
     * @param {string} url
     * @param {string} prefix
     * @returns {Kept | undefined}
     */
    find(req, url, prefix) {
      const kept = cache.get(url);
      if (kept === undefined || !isBare(req) || !kept.is(req, prefix)) return undefined;
      if (kept.repeat === undefined) kept.repeat = worth(kept, url);
      return kept.repeat === null ? undefined : kept;
    },

    /**
     * Remembers a request that is not kept.
     *
     * @param {any} req
     * @param {string} url
     * @param {string} prefix
     */
    note(req, url, prefix) {
      const known = cache.peek(url);
      if (isBare(req) && !known?.is(req, prefix)) cache.set(url, new Kept(req, prefix), { size: HEAD_BYTES + url.length });
    },

    /**
     * Keeps what the binding has answered to it.
     *
     * @param {Kept} kept
     * @param {string} url
     * @param {any} native a response of the binding
     */
    keep(kept, url, native) {
      // To the cache it would be the same as before, with the size of before.
      cache.delete(url);
      if (kept.isIdle) return;
      const size = kept.take(native);
      if (size === undefined) kept.repeat = null;
      cache.set(url, kept, { size: HEAD_BYTES + url.length + (size ?? 0) });
    },
  };
}

module.exports = { repeats };
