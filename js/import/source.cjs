// What importers share: requests to another registry, and to this one.
'use strict';

const { buffer, text } = require('node:stream/consumers');

/** Tries of a request that failed in a way that may pass. */
const RETRIES = 4;

/** Answers that say: later. */
const LATER = new Set([408, 425, 429, 500, 502, 503, 504]);

/** An answer of another registry that is none of those wanted. */
class SourceError extends Error {
  /** @param {string} url @param {number} status */
  constructor(url, status) {
    super(`${new URL(url).host} answered ${new URL(url).pathname} with ${status}`);
    this.status = status;
  }
}

/**
 * Asks another registry; tries again what may pass.
 *
 * @param {string} url
 * @param {RequestInit & { fine?: number[] }} [options] `fine`: statuses besides 2xx that are an answer
 */
async function ask(url, { fine = [], ...options } = {}) {
  const { default: pRetry, AbortError } = await import('p-retry');
  return pRetry(
    async () => {
      const response = await fetch(url, options);
      if (response.ok || fine.includes(response.status)) return response;
      await response.body?.cancel();
      const error = new SourceError(url, response.status);
      throw LATER.has(response.status) ? error : new AbortError(error);
    },
    { retries: RETRIES, minTimeout: 300, randomize: true },
  );
}

/**
 * The whole of an answer, within `limit` bytes: the other side decides what it sends.
 *
 * @param {Response} response
 * @param {number} limit
 */
async function bounded(response, limit) {
  const chunks = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > limit) throw new Error(`${new URL(response.url).host} sends a document of more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Runs `work` over `items`, so many at a time. */
async function each(items, concurrency, work) {
  const { default: pMap } = await import('p-map');
  return pMap(items, work, { concurrency });
}

/**
 * Requests to the registry that is imported into, in this process.
 *
 * @param {any} registry
 * @param {Record<string, string>} headers
 */
function local(registry, headers) {
  const send = (method, path, more = {}) => registry.handleRequest({ method, path, query: {}, ...more, headers: { ...headers, ...more.headers } });
  return {
    send,
    /** The answer's text, or `undefined` for 404. */
    async read(path) {
      const { status, body } = await send('GET', path);
      if (status === 404) return void (await body?.cancel());
      const answer = body ? await text(body) : '';
      if (status !== 200) throw new Error(answer);
      return answer;
    },
    /** What is wrong, if something is. */
    async problem({ status, body }) {
      const answer = body ? (await buffer(body)).toString() : '';
      if (status < 300) return undefined;
      try {
        const { error, message, errors } = JSON.parse(answer);
        return errors?.[0]?.message ?? message ?? error ?? answer;
      } catch {
        return answer || `status ${status}`;
      }
    },
  };
}

module.exports = { ask, bounded, each, local, SourceError };
