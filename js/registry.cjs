// SmartRegistry: the facade over the native registry.
'use strict';

const binding = require('./binding.cjs');
const { call, callAsync, own, RegistryError } = require('./errors.cjs');
const { headersObject } = require('./headers.cjs');
const { nativeRequest } = require('./request.cjs');
const { bodyStream } = require('./streams.cjs');
const { nodeHandler } = require('./node-handler.cjs');
const { createRegistry, isObject } = require('./config.cjs');
const { authManager } = require('./auth.cjs');
const { registryStorage } = require('./storage.cjs');
const { extensions } = require('./callbacks.cjs');
const { listen } = require('./server.cjs');
const { protocolClasses, make } = require('./protocols.cjs');
const { importNpm } = require('./import/npm.cjs');
const { importOci } = require('./import/oci.cjs');

/** How often it is said how far a long piece of work is, in milliseconds. */
const PROGRESS_EVERY = 200;

/** What can take over from elsewhere. */
const importers = { npm: importNpm, oci: importOci };

/** How long a token lives with which an import writes. */
const IMPORT_SECONDS = 7 * 86_400;

/** @param {any} native a response of the binding */
function response(native) {
  const { status, statusText, headers, body } = native;
  /** @type {any} */
  const answer = { status, headers: headersObject(headers) };
  if (statusText !== undefined) answer.statusText = statusText;
  if (body) answer.body = bodyStream(body);
  return answer;
}

/** What a configuration asks for and this release does not do is said, not passed over. */
function warnOfMissing(config) {
  const warn = (text, code) => process.emitWarning(text, { type: 'SmartRegistryWarning', code });
  const served = binding.protocolNames();
  const missing = Object.keys(protocolClasses).filter((name) => config[name]?.enabled && !served.includes(name));
  if (missing.length > 0) warn(`not served by this release yet: ${missing.join(', ')}`, 'SMARTREGISTRY_NO_PROTOCOL');
}

class SmartRegistry {
  /** @type {any} */
  #native;
  /** @type {Promise<void> | undefined} */
  #starting;
  #ready = false;
  /** @type {Promise<void> | undefined} */
  #destroying;
  #protocols = new Map();
  #auth;
  #storage;
  #servers = [];

  /** @param {any} config an `IRegistryConfig`; nothing is opened or connected before `init()` */
  constructor(config) {
    if (!isObject(config)) throw new RegistryError('SmartRegistry needs a configuration object', { code: 'INVALID_CONFIG', status: 400 });
    this.#native = createRegistry(config, extensions(config), SmartRegistry);
    warnOfMissing(config);
  }

  /** Connects storage and auth. Calling it again waits for the same start; after a failed one it tries anew. */
  async init() {
    this.#assertAlive();
    this.#starting ??= callAsync(() => this.#native.init(), SmartRegistry.prototype.init).then(
      () => {
        this.#ready = this.#destroying === undefined;
      },
      (error) => {
        this.#starting = undefined;
        throw error;
      },
    );
    return this.#starting;
  }

  #assertAlive() {
    if (this.#destroying) throw new RegistryError('the registry is destroyed', { code: 'DESTROYED', status: 503 });
  }

  #assertReady() {
    if (this.#ready) return;
    this.#assertAlive();
    throw new RegistryError('the registry is not initialized; call `await registry.init()` first', { code: 'NOT_INITIALIZED', status: 503 });
  }

  /** An object of the binding for as long as the registry lives: whoever still holds it afterwards is told, and changes nothing. */
  #held(native) {
    return new Proxy(native, {
      get: (target, name) => {
        this.#assertAlive();
        return target[name].bind(target);
      },
    });
  }

  /** @param {any} context an `IRequestContext` */
  async handleRequest(context) {
    this.#assertReady();
    const args = await nativeRequest(context);
    try {
      return response(await this.#native.handle(...args));
    } catch (error) {
      throw own(error, this.handleRequest);
    }
  }

  /** A handler for `node:http`, Express, Connect and middie. */
  nodeHandler() {
    return nodeHandler(this.#native, () => this.#assertReady());
  }

  /** Users and tokens; always the same object. */
  getAuthManager() {
    this.#auth ??= authManager(this.#held(call(() => this.#native.auth(), this.getAuthManager)));
    return this.#auth;
  }

  /** The registry's objects; always the same object. */
  getStorage() {
    this.#storage ??= registryStorage(this.#held(call(() => this.#native.storage(), this.getStorage)));
    return this.#storage;
  }

  /**
   * Starts the native listener: the same routes and rights, and no JavaScript on the way.
   *
   * @param {any} [options] `{ port, host?, tls?: { cert, key }, limits? }`
   */
  async listen(options) {
    this.#assertReady();
    const server = await listen(this.#native, options);
    this.#servers.push(server);
    return server;
  }

  /** Runs long work of the binding; `onProgress` hears now and then how far it is. */
  async #run(operation, onProgress, from) {
    const tell = () => onProgress?.(JSON.parse(operation.standing()));
    const timer = onProgress && setInterval(tell, PROGRESS_EVERY);
    try {
      return JSON.parse(await callAsync(() => operation.run(), from));
    } finally {
      clearInterval(timer);
    }
  }

  /**
   * Removes what nothing names any more, by the rules of the configuration, while this and other processes serve.
   *
   * @param {{ dryRun?: boolean, onProgress?: (standing: any) => void }} [options]
   */
  async gc({ dryRun = false, onProgress } = {}) {
    this.#assertReady();
    const { gc } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.collection(Boolean(dryRun)), gc), onProgress, gc);
  }

  /**
   * Looks whether all that metadata names is there and is what it should be.
   *
   * @param {{ shallow?: boolean, rebuildIndex?: boolean, onProgress?: (standing: any) => void }} [options]
   */
  async verify({ shallow = false, rebuildIndex = false, onProgress } = {}) {
    this.#assertReady();
    const { verify } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.verification(Boolean(shallow), Boolean(rebuildIndex)), verify), onProgress, verify);
  }

  /**
   * Takes over what another registry has: packages from an npm registry or the folder of a verdaccio, repositories from an OCI registry.
   *
   * @param {any} options an `IImportOptions`
   */
  async import({ protocol, from, names, token, username, password, as = 'import', onProgress } = {}) {
    this.#assertReady();
    if (typeof from !== 'string' || from === '') throw new RegistryError('`from` says what to import: a URL or a folder', { code: 'INVALID_OPTION', status: 400 });
    const mounted = this.getRegistry(protocol);
    if (!mounted || !(protocol in importers)) throw new RegistryError(`nothing can be imported into ${protocol}: there is npm and oci, where they are enabled`, { code: 'INVALID_OPTION', status: 400 });
    const auth = this.getAuthManager();
    const own = protocol === 'oci' ? await auth.createOciToken(as, ['oci:repository:*:*'], IMPORT_SECONDS) : await auth.createToken(as, protocol);
    const adopt = (name, document) => this.#run(call(() => this.#native.adoption(protocol, name, document), this.import), undefined, this.import);
    try {
      const headers = { authorization: `Bearer ${own}` };
      return await importers[protocol](this, { from, names, token, username, password, own: { headers, base: mounted.getBasePath() }, adopt, onProgress });
    } finally {
      await auth.revokeToken(own).catch(() => {});
    }
  }

  /**
   * Removes what is cached of upstreams: of a protocol or of one name in it. Every process that shares the storage asks again.
   *
   * @param {string} protocol
   * @param {string} [name]
   * @returns {Promise<number>} how many objects those were
   */
  async purgeUpstream(protocol, name) {
    this.#assertReady();
    const { purgeUpstream } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.purge(String(protocol), name), purgeUpstream), undefined, purgeUpstream);
  }

  /**
   * Fetches something of an upstream ahead of the first who asks for it: `lodash@^4`, `library/nginx:1.27`.
   *
   * @param {string} protocol
   * @param {string} name
   * @returns {Promise<number>} how many files were fetched
   */
  async warmUpstream(protocol, name) {
    this.#assertReady();
    const { warmUpstream } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.warm(String(protocol), String(name)), warmUpstream), undefined, warmUpstream);
  }

  /** Counts what there is, by protocol. */
  async stats() {
    this.#assertReady();
    const { stats } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.stats(), stats), undefined, stats);
  }

  /**
   * What has happened in a protocol, oldest first.
   *
   * @param {string} protocol
   * @param {{ since?: number }} [options] `since`: where to go on, the `last` of an answer before
   */
  async events(protocol, { since = 0 } = {}) {
    this.#assertReady();
    const { events } = SmartRegistry.prototype;
    return this.#run(call(() => this.#native.events(String(protocol), Number(since)), events), undefined, events);
  }

  /** The numbers of this registry, as Prometheus reads them. */
  metrics() {
    return call(() => this.#native.metrics(), this.metrics);
  }

  /** @param {string} protocol */
  getRegistry(protocol) {
    if (!this.#protocols.has(protocol)) {
      const list = this.#destroying ? [] : this.#native.protocols();
      const at = list.findIndex((name, i) => i % 2 === 0 && name === protocol);
      this.#protocols.set(protocol, at < 0 ? undefined : make(protocolClasses[protocol], { registry: this, protocol, basePath: list[at + 1] }));
    }
    return this.#protocols.get(protocol);
  }

  isInitialized() {
    return this.#ready;
  }

  /** Lets storage, timers and callbacks go. What is in flight goes on to its end; calling it twice is fine. */
  async destroy() {
    this.#ready = false;
    this.#destroying ??= Promise.all(this.#servers.map((server) => server.close())).then(async () => {
      // What is only in memory, such as times of last pulls, is kept if that is possible in a moment.
      await this.#native.flush().catch(() => {});
      this.#native.destroy();
    });
    return this.#destroying;
  }
}

module.exports = { SmartRegistry };
