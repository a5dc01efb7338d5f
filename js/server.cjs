// `registry.listen()`: the native listener as an object like Node's own servers.
'use strict';

const { callAsync, invalidOption } = require('./errors.cjs');
const { isObject } = require('./config.cjs');
const { isBytes, view } = require('./body.cjs');

/** The longest time a timer can be set to. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** PEM text, or the file it is in. */
function pem(value, option) {
  const text = isBytes(value) ? view(value).toString() : value;
  if (typeof text !== 'string' || text === '') throw invalidOption(option, 'must be PEM text or the name of a PEM file');
  return text.includes('-----BEGIN') ? { text } : { file: text };
}

function optionsJson(options) {
  if (!isObject(options)) throw invalidOption('listen', 'must be an object');
  const { port = 0, host = '127.0.0.1', tls, limits } = options;
  if (!Number.isInteger(Number(port)) || Number(port) < 0 || Number(port) > 65_535) throw invalidOption('port', 'must be a number from 0 to 65535');
  if (typeof host !== 'string' || host === '') throw invalidOption('host', 'must be an address or a name');
  if (tls !== undefined && !isObject(tls)) throw invalidOption('tls', 'must be an object with `cert` and `key`');
  const native = { host, port: Number(port), limits: limits ?? {} };
  if (tls) native.tls = { cert: pem(tls.cert, 'tls.cert'), key: pem(tls.key, 'tls.key') };
  return JSON.stringify(native);
}

class Server {
  #native;
  #host;
  /** @type {NodeJS.Timeout | undefined} the threads of the listener do not keep a process alive; this does */
  #alive;
  /** @type {Promise<void> | undefined} */
  #closing;

  constructor(native, host) {
    this.#native = native;
    this.#host = host;
    this.#alive = setInterval(() => {}, LONGEST_TIMER);
  }

  get port() {
    return this.#native.port();
  }

  get url() {
    return `${this.#native.scheme()}://${this.#host.includes(':') ? `[${this.#host}]` : this.#host}:${this.port}`;
  }

  /** Stops accepting, lets what runs finish, then resolves. */
  close() {
    this.#closing ??= callAsync(() => this.#native.close(), this.close).finally(() => {
      clearInterval(this.#alive);
      this.#alive = undefined;
    });
    return this.#closing;
  }

  /** Reads the certificate files again, now. */
  async reloadTls() {
    await callAsync(() => this.#native.reloadTls(), this.reloadTls);
  }

  /** Lets the process end although this still listens. */
  unref() {
    this.#alive?.unref();
    return this;
  }

  ref() {
    this.#alive?.ref();
    return this;
  }
}

/**
 * @param {any} native the binding's registry
 * @param {any} options
 */
async function listen(native, options = {}) {
  const text = optionsJson(options);
  return new Server(await callAsync(() => native.listen(text), listen), options.host ?? '127.0.0.1');
}

module.exports = { listen };
