// Where packages that are not here may come from: what an application configures, and the small tools around it.
'use strict';

const { RegistryError } = require('./errors.cjs');

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** Gives each protocol the same upstreams for every request. */
class StaticUpstreamProvider {
  #byProtocol;

  /** @param {Record<string, any>} byProtocol an `IProtocolUpstreamConfig` per protocol */
  constructor(byProtocol) {
    if (!isObject(byProtocol)) throw new RegistryError('StaticUpstreamProvider needs a configuration per protocol', { code: 'INVALID_CONFIG', status: 400 });
    this.#byProtocol = byProtocol;
    staticConfigs.set(this, byProtocol);
  }

  /** @param {{ protocol: string }} context an `IUpstreamResolutionContext` */
  async resolveUpstreamConfig(context) {
    return this.#byProtocol[context.protocol] ?? null;
  }
}

/** What a static provider was made of. */
const staticConfigs = new WeakMap();

/** The upstreams by protocol of a provider that says the same for every request; undefined for any other. */
function fixedUpstreams(provider) {
  const untouched = Object.getPrototypeOf(provider) === StaticUpstreamProvider.prototype && !Object.hasOwn(provider, 'resolveUpstreamConfig');
  return untouched ? staticConfigs.get(provider) : undefined;
}

/** Stops asking an upstream that fails, and tries it again after a while with one request. */
class CircuitBreaker {
  #threshold;
  #resetMs;
  #failures = 0;
  /** @type {number | undefined} */
  #openedAt;
  /** When the last probe was let go whose outcome is not known. @type {number | undefined} */
  #probedAt;

  /**
   * @param {string} id of the upstream
   * @param {{ circuitBreakerThreshold?: number, circuitBreakerResetMs?: number }} [resilience]
   */
  constructor(id, { circuitBreakerThreshold = 5, circuitBreakerResetMs = 30_000 } = {}) {
    this.id = id;
    this.#threshold = circuitBreakerThreshold;
    this.#resetMs = circuitBreakerResetMs;
  }

  /** @returns {'CLOSED' | 'OPEN' | 'HALF_OPEN'} */
  getState() {
    if (this.#openedAt === undefined) return 'CLOSED';
    return Date.now() - this.#openedAt >= this.#resetMs ? 'HALF_OPEN' : 'OPEN';
  }

  /** Whether a request may be made now. Half open, only one may. A probe that nobody tells of lapses: it may have been cancelled, or its caller have died. */
  canRequest() {
    const state = this.getState();
    if (state === 'CLOSED') return true;
    const now = Date.now();
    if (state === 'OPEN' || (this.#probedAt !== undefined && now - this.#probedAt < this.#resetMs)) return false;
    this.#probedAt = now;
    return true;
  }

  recordSuccess() {
    this.reset();
  }

  recordFailure() {
    this.#failures += 1;
    if (this.#openedAt !== undefined || this.#failures >= this.#threshold) this.#openedAt = Date.now();
    this.#probedAt = undefined;
  }

  reset() {
    this.#failures = 0;
    this.#openedAt = undefined;
    this.#probedAt = undefined;
  }
}

/** Keeps what upstreams answered, in this process's memory, for as long as its configuration says. */
class UpstreamCache {
  #config;
  #limit;
  /** @type {Map<string, any>} in the order of last use */
  #entries = new Map();

  /**
   * @param {any} [config] an `IUpstreamCacheConfig`
   * @param {number} [limit] entries kept at most
   */
  constructor(config = {}, limit = 10_000) {
    this.#config = { enabled: true, defaultTtlSeconds: 300, immutableTtlSeconds: 2_592_000, staleWhileRevalidate: true, staleMaxAgeSeconds: 3600, negativeCacheTtlSeconds: 60, ...config };
    this.#limit = limit;
  }

  isEnabled() {
    return this.#config.enabled;
  }

  /** The entry, with `stale` set when it should be asked for again; null if there is none worth having. */
  get(key) {
    const entry = this.#config.enabled ? this.#entries.get(key) : undefined;
    if (!entry) return null;
    const now = Date.now();
    const last = entry.expiresAt + (this.#config.staleWhileRevalidate ? this.#config.staleMaxAgeSeconds * 1000 : 0);
    this.#entries.delete(key);
    if (now >= last) return null;
    this.#entries.set(key, entry);
    return { data: entry.data, contentType: entry.contentType, etag: entry.etag, stale: now >= entry.expiresAt, negative: entry.negative };
  }

  /**
   * @param {string} key
   * @param {any} data
   * @param {{ contentType?: string, etag?: string, immutable?: boolean, ttlSeconds?: number }} [options]
   */
  set(key, data, { contentType, etag, immutable = false, ttlSeconds } = {}) {
    const ttl = ttlSeconds ?? (immutable ? this.#config.immutableTtlSeconds : this.#config.defaultTtlSeconds);
    this.#put(key, { data, contentType, etag, negative: false, expiresAt: Date.now() + ttl * 1000 });
  }

  /** Remembers that there is nothing. */
  setNegative(key) {
    this.#put(key, { data: null, negative: true, expiresAt: Date.now() + this.#config.negativeCacheTtlSeconds * 1000 });
  }

  #put(key, entry) {
    if (!this.#config.enabled) return;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > this.#limit) this.#entries.delete(this.#entries.keys().next().value);
  }

  invalidate(key) {
    return this.#entries.delete(key);
  }

  clear() {
    this.#entries.clear();
  }

  get size() {
    return this.#entries.size;
  }
}

module.exports = { StaticUpstreamProvider, CircuitBreaker, UpstreamCache, fixedUpstreams };
